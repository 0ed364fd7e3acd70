"""What leaves a finished run: small files straight from the browser, the model by a command."""

import io
import shlex
import zipfile
from collections.abc import Callable

import streamlit as st

from app import parts
from u2a_core.config import there
from u2a_core.export import (
    TABLES,
    TOOLS,
    Choice,
    Samples,
    Tool,
    chosen,
    line,
    run_card,
    samples_of,
    training_files,
)
from u2a_core.runs import Run, reviews
from u2a_core.runs.workspace import texts_of

_TITLES: dict[Tool, str] = {
    "trl": "TRL",
    "llama-factory": "LLaMA-Factory",
    "open-unlearning": "open-unlearning",
}


def menu(run: Run) -> None:
    """The popover of a finished run."""
    name = run.path.name
    with st.popover("Export", icon=":material/download:", width="content"):
        if TABLES.get(run.config()["command"]):
            st.caption("All negatives with texts, weights, gains and your marks")
            with st.container(horizontal=True):
                _button("JSONL", f"{name}-samples.jsonl", "application/jsonl", _jsonl(run))
                _button(
                    "Parquet", f"{name}-samples.parquet", "application/vnd.apache.parquet",
                    _parquet(run),
                )  # fmt: skip
            st.caption("Negatives that have weight, as training files with a weight column")
            with st.container(horizontal=True):
                for tool in TOOLS:
                    _button(
                        _TITLES[tool], f"{name}-{tool}.zip", "application/zip", _zipped(run, tool)
                    )
        _model(run)


def _button(title: str, file: str, mime: str, write: Callable[[], str | bytes]) -> None:
    """A download, whose file is made when it is asked for: it may be large."""
    st.download_button(title, write, file, mime, key=f"export_{file}", on_click="ignore")


def _model(run: Run) -> None:
    """The card, and the command for what is too large for a browser."""
    st.caption("The model card: results with intervals, settings, hashes, limits")
    _button("Model card", f"{run.path.name}-README.md", "text/markdown", lambda: run_card(run))
    if not there(run.model_folder):
        st.caption(
            "This run kept no model (the shipped runs do not). Launch it again to export one."
        )
        return
    adapter = there(run.model_folder / "adapter_config.json")
    st.caption(
        "The model as a folder that loads elsewhere, with tokenizer and card, by a command; "
        + ("without --merged the adapter alone; " if adapter else "")
        + "--push owner/name uploads it to the hub, private"
    )
    place = f"{shlex.quote(str(run.path))} --to {shlex.quote(run.path.name + '-model')}"
    words = " --merged" if adapter else ""
    st.code(f"u2a export {place}{words}", language="bash", wrap_lines=True)


def _samples(run: Run) -> Samples:
    return samples_of(run, reviews.marks(parts.workspace(), texts_of(run)))


def _jsonl(run: Run) -> Callable[[], str]:
    return lambda: "".join(map(line, _samples(run).records()))


def _parquet(run: Run) -> Callable[[], bytes]:
    return lambda: _samples(run).frame.to_parquet(None, index=False)


def _zipped(run: Run, tool: Tool) -> Callable[[], bytes]:
    def write() -> bytes:
        held = io.BytesIO()
        rows = chosen(_samples(run), Choice())
        with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, lines in training_files(tool, rows).items():
                archive.writestr(name, "".join(lines))
        return held.getvalue()

    return write
