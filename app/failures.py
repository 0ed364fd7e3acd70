"""A failed run on a page: what happened, the likely cause, what to do next, and its last lines."""

from dataclasses import dataclass

import streamlit as st

from app import parts
from u2a_core.runs import ENDED_FROM_OUTSIDE, Run, Status


@dataclass(frozen=True)
class Advice:
    """What a kind of failure most likely means.

    Attributes:
        cause: in a sentence.
        action: what to do next, in a sentence.
        page: where that is done; empty: with the buttons of the run.
    """

    cause: str
    action: str
    page: str = ""


_MEMORY = Advice(
    "The model, its gradients and the batch did not fit into memory together.",
    "Lower data.tokens_per_batch, train fewer parameters (model.parameters: last_n or lora), or "
    "choose a smaller model; Model estimates what it takes.",
    "model",
)
ADVICE = {
    "NumericalError": Advice(
        "The steps were too large for this model, or a number format too coarse: the losses or "
        "gradients left what can be computed with.",
        "Duplicate with changes: lower the learning rate, raise Proximal λ, or use float32 "
        "(model.dtype). Resume alone would meet the same numbers again.",
    ),
    "DataError": Advice(
        "A file of samples is not what this job needs, or a record in it is faulty.",
        "Mend the file or choose another on Data, which shows the faults by line; then launch "
        "anew.",
        "data",
    ),
    "ModelError": Advice(
        "The model, its tokenizer or the reward could not be found or loaded.",
        "Check the path or the hub id on Model, and whether the machine may read it; then launch "
        "anew.",
        "model",
    ),
    "ConfigError": Advice(
        "Two settings do not go together, or one names something that this machine does not have, "
        "such as a device.",
        "Duplicate with changes: change the setting that is named above.",
    ),
    "RunError": Advice(
        "A file of the run could not be written or read: a full disk, missing permissions, or a "
        "file that was changed or deleted meanwhile.",
        "Free disk space or restore the file, then Resume: what was saved before is still there.",
    ),
    ENDED_FROM_OUTSIDE: Advice(
        "Somebody ended it, the machine was switched off, or the system ended it because memory "
        "ran out (nothing is in the log then).",
        "Resume. If it ends again at the same place, it needs less memory: lower "
        "data.tokens_per_batch or train fewer parameters.",
    ),
    "MemoryError": _MEMORY,
    "MemoryShortageError": _MEMORY,
    "OutOfMemoryError": _MEMORY,
    "TokenError": Advice(
        "The hub shows this model only to people who are logged in: there was no token, or not a "
        "valid one.",
        "Enter a token of the hub on Model, then Resume.",
        "model",
    ),
    "AccessError": Advice(
        "The model is gated: its owner asks everybody to accept the terms first.",
        "Accept the terms on the model's page on the hub, which the text above names, then Resume.",
        "model",
    ),
}
"""By the class of the error; classes of torch and Python among them."""
_FAULT = Advice(
    "It is a fault of ours, or of a library: the log has the details.",
    "Resume once; if it fails again, report it with the text below.",
)


def advice(status: Status) -> Advice:
    """What the kind of a failure most likely means, and what to do."""
    if not status.kind:  # written by a version that did not tell
        return Advice("The log has the details.", "Resume, or duplicate with changes.")
    return ADVICE.get(status.kind, _FAULT)


def box(run: Run, status: Status) -> None:
    """The box of a failed run; it stays, and can be copied as a whole."""
    said, log = advice(status), run.log_tail()
    message = status.message or "It said nothing."
    with st.container(border=True, key=f"failure_{run.path.name}"):
        st.error(f"The run failed: {parts.plain(message)}", icon=":material/error:")
        st.markdown(f"**Likely cause.** {parts.plain(said.cause)}")
        st.markdown(f"**Next.** {parts.plain(said.action)}")
        if said.page:
            st.page_link(
                f"views/{said.page}.py", label=f"Open {said.page.capitalize()}",
                icon=":material/arrow_forward:",
            )  # fmt: skip
        if log:
            st.caption(f"The last {len(log.splitlines())} lines of its log")
            with st.container(height=220, autoscroll=True, border=False):
                st.code(log, language=None)
        with st.popover("Copy as text", icon=":material/content_copy:", width="content"):
            st.code(_report(run, status, said, log), language=None, height=220)


def _report(run: Run, status: Status, said: Advice, log: str) -> str:
    """All of it as text, for a colleague or an issue."""
    config = run.config()
    packages = config.get("packages")
    packages = packages if isinstance(packages, dict) else {}
    facts = [
        f"Run: {run.path.name} (u2a {config['command']}, begun {config.get('created', '?')})",
        f"What happened: {status.message}",
        f"Kind: {status.kind or 'not told'}",
        f"Likely cause: {said.cause}",
        f"Next: {said.action}",
        "Packages: " + ", ".join(f"{k} {v}" for k, v in packages.items()),
    ]
    return "\n".join([*facts, "", "Last lines of the log:", log or "(none)"])
