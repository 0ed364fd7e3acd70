"""What the forms of several pages share: methods by name, the project, the same as a command."""

import shlex

import streamlit as st

from app import project
from u2a_core.config import Settings
from u2a_core.runs import demo_assets

METHODS = {
    "npo": "NPO: bounded, the steadiest",
    "ga": "Gradient ascent: the simplest",
    "graddiff": "GradDiff: gradient ascent with a retain set",
    "simnpo": "SimNPO: NPO without a reference model",
}
"""Losses of unlearning, the steadiest first."""
BASELINES = {
    "dpo": "DPO: on the preference pairs",
    "ppo": "PPO: on sampled rewards",
    "retrain": "Retrain: fine-tune the base model without the negatives",
}
"""What unlearning is compared with."""


def project_link() -> None:
    """Which model and data a job is launched with."""
    st.page_link(
        "views/data.py", label=f"Project: {project.NAMES[project.chosen()]}",
        icon=":material/folder_open:", help="Change it on Data",
    )  # fmt: skip


def command_box(command: str, base: Settings, settings: Settings) -> None:
    """The command line that launches the same run, to copy."""
    own = project.chosen() == "own"
    file = project.draft_file() if own else demo_assets() / "demo.yaml"
    st.caption("The same as a command")
    text = shlex.join(["u2a", command, str(file), *changes(base, settings)])
    st.code(text, language="bash", wrap_lines=True)


def changes(base: Settings, settings: Settings) -> list[str]:
    """The options that make the settings of the base ones."""
    before, after = base.model_dump(mode="json"), settings.model_dump(mode="json")
    words: list[str] = []
    for section, values in after.items():
        if not isinstance(values, dict):
            if values != before[section]:
                words += [f"--{section.replace('_', '-')}", str(values)]
            continue
        for name, value in values.items():
            if value != before[section][name]:
                text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
                words += [f"--{section}.{name.replace('_', '-')}", text]
    return words
