"""Model: what is unlearned, what of it is trained, how J is measured, and what that takes."""

from typing import Any

import streamlit as st

from app import access, estimate_view, forms, parts, project
from u2a_core.config import Settings
from u2a_core.errors import U2AError
from u2a_core.estimate import Suggestion

WAYS = {
    "model": "By a reward model: a sequence classifier scores sampled replies",
    "function": "By a reward function of mine: file.py:function scores sampled replies",
    "pairs": "By preference pairs alone: no reward is needed",
}
TRAINED = {
    "full": "all weights", "last_n": "the last layers", "lora": "a LoRA adapter beside the weights"
}  # fmt: skip
# settings of J that a reward model may need declared
READING = ("reward_template", "reward_logit", "reward_device")

_SAVED = "_model_saved"


def page() -> None:
    """The page."""
    st.title("Model")
    project.choice()
    own = project.chosen() == "own"
    form, view = st.columns([2, 3], gap="large")
    with form:
        if own:
            _own()
        else:
            _demo(project.settings())
    settings = project.draft() if own else project.settings()
    with form:
        access.field(wanted=estimate_view.wants_token(settings))
    with view:
        st.subheader("Memory and time")
        estimate_view.panel(settings, _apply if own else None)


def _demo(settings: Settings) -> None:
    """What the embedded demo's model is."""
    st.caption("The demo's own model. Choose your own project above to use another.")
    model = settings.model
    facts = {
        "Model": model.path,
        "Trained": TRAINED[model.parameters],
        "Number format": model.dtype,
        "J is measured by": {"model": "a reward model", "function": "a reward function",
                             "pairs": "preference pairs"}[_way(settings)],
        "Reward": settings.objective.reward,
    }  # fmt: skip
    with st.container(border=True):
        for title, value in facts.items():
            st.markdown(f"**{title}**  \n{parts.plain(value)}")


def _own() -> None:
    """The form of a user's own model and objective."""
    draft = project.draft()
    with st.form("model", border=True):
        st.subheader("Model")
        path = st.text_input(
            "Model folder or hub id", draft.model.path, key="own_model",
            help="A causal language model with a chat template, in safetensors; or the folder of "
            "a PEFT adapter, which is merged into the base model that it names",
        )  # fmt: skip
        with st.expander("What is trained, number format, device"):
            model = forms.section_form(draft.model, key="own_model", leave_out=("path",))
        st.subheader("Objective J: how is alignment measured?")
        ways = list(WAYS)
        way = st.radio(
            "How J is measured", ways, format_func=WAYS.__getitem__, index=ways.index(_way(draft)),
            key="own_way", label_visibility="collapsed",
        )  # fmt: skip
        reward = st.text_input(
            "Reward: a model's folder or hub id, or file.py:function (with pairs alone optional)",
            draft.objective.reward or draft.evaluation.reward,
            key="own_reward",
            help="function(prompts, replies) returns a score for each reply, higher = better. "
            "Where J compares preference pairs alone, it only measures the comparison afterwards",
        )
        with st.expander("How a reward model reads, and where"):
            others = tuple({*type(draft.objective).model_fields} - {*READING})
            read = forms.section_form(draft.objective, key="own_objective", leave_out=others)
        if st.form_submit_button("Check and save", type="primary"):
            raw = draft.model_dump(mode="json") | {"model": {**model, "path": path.strip()}}
            raw["objective"] |= read
            _save(raw, str(way), reward.strip())
    # also once the check has ended, which runs the page again; and on a later visit
    if st.session_state.get(_SAVED) or estimate_view.state(draft) == "done":
        _saved(project.draft())


def _saved(draft: Settings) -> None:
    """After a save: what is missing, or where to go next, once the model has been checked."""
    state = estimate_view.state(draft)
    if state == "running" and not project.missing(draft):
        st.info("Saved; the model is being checked.")
    else:
        wrong = ["mend what the check of the model has found wrong"] if state == "failed" else []
        project.saved(draft, wrong)


def _way(draft: Settings) -> str:
    if draft.objective.kind == "preference":
        return "pairs"
    reward = draft.objective.reward
    return "function" if ":" in reward else "model"


def _save(raw: dict[str, Any], way: str, reward: str) -> None:
    """Keeps the project's settings, or says what is missing; nothing typed is lost."""
    rewarded = "candidates" if raw["objective"]["kind"] == "candidates" else "sampled_reward"
    raw["objective"]["kind"] = "preference" if way == "pairs" else rewarded
    raw["objective"]["reward"] = "" if way == "pairs" else reward
    raw["evaluation"]["reward"] = reward if way == "pairs" else ""
    try:
        saved = project.write_draft(raw)
        st.session_state[_SAVED] = True
        if saved.model.path:
            estimate_view.begin(saved)
    except U2AError as error:
        st.error(parts.plain(str(error)))


def _apply(change: Suggestion) -> None:
    """Puts a suggestion into the project's settings and the form, and checks again."""
    raw = project.draft().model_dump(mode="json")
    for name, value in change.changes.items():
        section, field = name.split(".")
        raw[section][field] = value
        if section == "model" or field in READING:
            st.session_state[f"own_{section}_{field}"] = value
    try:
        estimate_view.begin(project.write_draft(raw))
    except U2AError as error:
        st.error(parts.plain(str(error)))


parts.guarded(page)
