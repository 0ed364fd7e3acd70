"""Samples as the model reads them: rendered and tokenized by a process of its own, shown here.

The server loads no tokenizer. `u2a data SETTINGS --preview N --json` does, detached; its answer is
kept in the folder of runs by what it depends on: the settings, and the files' contents.
"""

import hashlib
import html
import json
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st
import yaml

from app import access, datasets, parts, texts
from u2a_core.config import Settings
from u2a_core.data import replace_file
from u2a_core.errors import RunError
from u2a_core.figures import Mode
from u2a_core.runs.files import read_json, writing
from u2a_core.runs.process import detached

SETS = ("negatives", "preferences", "objective_prompts", "retain", "prompts")
COUNT = 20
"""Samples of each set that are rendered at a time."""
_KEPT = 40
_POLL_S = 0.7
_SHADES: dict[Mode, dict[str, tuple[str, str]]] = {
    "light": {
        "prompt": ("rgba(128,128,128,.10)", "rgba(128,128,128,.24)"),
        "response": ("rgba(0,114,178,.16)", "rgba(0,114,178,.34)"),
        "cut": ("rgba(213,94,0,.18)", "rgba(213,94,0,.32)"),
    },
    "dark": {
        "prompt": ("rgba(160,160,160,.12)", "rgba(160,160,160,.28)"),
        "response": ("rgba(86,180,233,.28)", "rgba(86,180,233,.48)"),
        "cut": ("rgba(240,136,62,.28)", "rgba(240,136,62,.46)"),
    },
}
"""Two for tokens side by side."""

_working: dict[Path, threading.Thread] = {}
"""Answer → the thread that waits for the process which makes it."""
_starting = threading.Lock()


def begin(settings: Settings, count: int = COUNT) -> str:
    """Starts the process, if it is needed; returns the key of its answer.

    Raises:
        RunError: if the folder of runs cannot be written.
    """
    words = {"model": settings.model, "data": settings.data, "evaluation": settings.evaluation}
    raw = {name: section.model_dump(mode="json") for name, section in words.items()}
    files = {n: datasets.content_hash(p) for n, p in settings.local_paths().items() if p.is_file()}
    told = json.dumps([raw, files, count], sort_keys=True)
    key = hashlib.sha256(told.encode()).hexdigest()[:24]
    file = _answer(key)
    with _starting:  # two tabs at once begin one process
        if not (file.exists() or file in _working):
            _working[file] = _start(file, raw, count)
    return key


def state(key: str) -> str:
    """working, done or failed."""
    if _answer(key).exists():
        return "done"
    waiting = _working.get(_answer(key))
    return "working" if waiting is not None and waiting.is_alive() else "failed"


def again(key: str) -> None:
    """Forgets a failure, so that the next `begin` tries anew."""
    _working.pop(_answer(key), None)


def reason(key: str) -> str:
    """Why there is no answer, as the process said it."""
    try:
        lines = _answer(key).with_suffix(".err").read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    said = [line.removeprefix("u2a: ") for line in lines if line.startswith("u2a: ")]
    return said[-1] if said else "The process that tokenizes ended without a word. Try again."


def answer(key: str) -> dict[str, Any]:
    """What the process found."""
    return _read(str(_answer(key)))


def polled(key: str, show: Callable[[], None]) -> None:
    """Shows what depends on the answer, and looks for it until it is there."""
    waiting = state(key) == "working"

    @st.fragment(run_every=_POLL_S if waiting else None)
    def look() -> None:
        if waiting and state(key) != "working":
            st.rerun()
        show()

    look()


def panel(settings: Settings, role: str, *, blurred: bool) -> None:
    """The samples of a set, one at a time, with arrows; polls while they are being rendered."""
    if not settings.model.path:
        st.info("Name a model first: its chat template and its tokenizer render the samples.")
        st.page_link("views/model.py", label="Model", icon=":material/arrow_forward:")
        return
    try:
        key = begin(settings, st.session_state.get("rendered_count", COUNT))
    except RunError as error:
        st.error(parts.plain(str(error)))
        return

    def show() -> None:
        with st.container(height=330, border=True):
            _panel(key, role, blurred)

    polled(key, show)


def _panel(key: str, role: str, blurred: bool) -> None:
    if state(key) == "working":
        st.caption("The tokenizer is being loaded and the first samples rendered; seconds.")
        st.progress(0.0, "Rendering")
        return
    if state(key) == "failed":
        failure(key)
        return
    shown = [sample for sample in answer(key)["preview"] if sample["set"] == role]
    if not shown:
        st.caption("This set has no sample that can be rendered.")
        return
    _sample(shown, role, blurred)


def failure(key: str) -> None:
    """Why there is no answer, and a button to try anew."""
    st.error(parts.plain(reason(key)))
    if st.button("Try again", key="render_again"):
        again(key)
        st.rerun()


def _sample(shown: list[dict[str, Any]], role: str, blurred: bool) -> None:
    """One sample: of a pair both replies."""
    slot, last = f"rendered_{role}", shown[-1]["number"]
    number = min(st.session_state.get(slot, 1), last)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**Sample {number}** of the first {last}", width="stretch")
        for label, to, shortcut, about in (
            ("Previous", number - 1, "Left", "Previous sample"),
            ("Next", number + 1, "Right", "Next sample"),
        ):  # fmt: skip
            st.button(
                label, key=f"rendered_{label.lower()}", help=about, shortcut=shortcut,
                disabled=not 1 <= to <= last, on_click=_go, args=(slot, to),
            )  # fmt: skip
    for sample in shown:
        if sample["number"] == number:
            st.caption(_counts(sample))
            if sample["problem"]:
                st.warning(parts.plain(sample["problem"]))
            st.html(texts.boxed(marked(sample["pieces"], parts.mode()), blurred=blurred))
            hidden = sample["tokens"] - sum(piece["tokens"] for piece in sample["pieces"])
            if hidden:
                st.caption(f"and {hidden:,} more tokens")


def _go(slot: str, number: int) -> None:
    st.session_state[slot] = number


def _counts(sample: dict[str, Any]) -> str:
    """What the numbers of a rendered sample are."""
    reply = {"": "", "response": "the reply"}.get(sample["reply"], f"the {sample['reply']} reply")
    told = f"{sample['tokens']:,} tokens"
    if reply:
        told += f", {sample['response']:,} of {reply} (blue)"
    if sample["cut"]:
        told += f"; {sample['cut']:,} beyond model.max_length are cut (orange)"
    return told


def marked(pieces: list[dict[str, Any]], mode: Mode) -> str:
    """Tokens as escaped HTML, each shaded by what it belongs to."""
    out = []
    for place, piece in enumerate(pieces):
        shade = _SHADES[mode][piece["kind"]][place % 2]
        more = ";text-decoration:line-through" if piece["kind"] == "cut" else ""
        text = html.escape(piece["text"]).replace("\n", "↵\n")
        out.append(f'<span style="background:{shade}{more};border-radius:2px">{text}</span>')
    return "".join(out)


def _start(file: Path, raw: dict[str, Any], count: int) -> threading.Thread:
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        _prune(file.parent)
        settings = file.with_suffix(".yaml")
        replace_file(settings, lambda to: to.write_text(yaml.safe_dump(raw), "utf-8"))
    process = detached(
        ["data", settings, "--preview", str(count), "--json"], env=access.environment(),
        log=file.with_suffix(".err"), out=file.with_suffix(".part"),
    )  # fmt: skip
    waiting = threading.Thread(target=_finish, args=(process, file), daemon=True)
    waiting.start()
    return waiting


def _finish(process: subprocess.Popen[bytes], file: Path) -> None:
    """Waits; a whole answer takes its place."""
    if process.wait() in (0, 2):  # 2: a file of the set is unusable, which its report says
        part = file.with_suffix(".part")
        try:
            json.loads(part.read_bytes())
            part.replace(file)
        except (OSError, ValueError):  # it said why on stderr
            return


def _prune(folder: Path) -> None:
    """Keeps the newest answers."""
    files = sorted(folder.glob("*"), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in files[_KEPT * 4 :]:
        file.unlink(missing_ok=True)


def _answer(key: str) -> Path:
    return parts.workspace().folder / ".rendered" / f"{key}.json"


@st.cache_data(max_entries=8, show_spinner=False)
def _read(file: str) -> dict[str, Any]:
    return read_json(Path(file))
