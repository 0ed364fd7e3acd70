"""README.md of an export: a card as the hub reads it, made of what the run itself has written.

Paths of this machine are shortened to names, so that a published card tells none; texts of samples
are never quoted. The license is left to whoever publishes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import yaml

from u2a_core import table
from u2a_core.config import Settings, there
from u2a_core.config.paths import PATHS
from u2a_core.data import is_hub_id
from u2a_core.errors import RunError
from u2a_core.runs import Run, base_of

Form: TypeAlias = Literal["", "adapter", "whole"]
"""What the folder holds of a model: nothing, an adapter alone, whole weights."""

_LIMITS = (
    "It is meant for research on unlearning and alignment. It is no guarantee of safety: the "
    "numbers above hold for the named prompts and reward; an interval tells what chance does, not "
    "what other prompts would show.",
    "Unlearning lowers the probability of certain replies. It does not prove that what they say "
    "cannot be drawn from the model again.",
    "The kept step was chosen by J, never by the test prompts. Skills that nothing here measures "
    "may have suffered; the limits of the original model remain.",
)
_SAMPLE_LIMITS = (
    "The texts are *negative* samples: they may be harmful, wrong or offensive, and some may be "
    "good replies that were flagged by mistake. Look at them before they are published.",
    "Weights and gains hold for this model, these settings and this objective J. A gain is "
    "positive when unlearning the sample helps alignment.",
)


def card(
    run: Run, measured: Sequence[Run], form: Form, files: Mapping[str, str], words: str
) -> str:
    """The card.

    Args:
        run: finished.
        measured: evaluations of its model, and of the original.
        form: of the model beside it; without one it is the card of a data set.
        files: name → what it is, of the other files beside it.
        words: of the export's command.

    Raises:
        RunError: if the run is damaged.
    """
    settings, report = run.settings(), run.report()
    name = Path(base_of(run)).name
    parts = [
        f"# {_title(run, name, form)}",
        _made(run, name, form),
        *_results(run, report, measured),
        *_how(run, settings, words),
        *(_loading(run, form) if form else []),
        *_files(files),
        "## Intended use and limits",
        *_listed([*(_LIMITS if form else ()), *(_SAMPLE_LIMITS if _has_samples(files) else ())]),
        *_listed([*report.get("warnings", []), *report.get("notes", [])]),
        "## License",
        "None is set: the choice is yours. The license of the original model"
        + (" and that of the data bind" if _has_samples(files) else " binds")
        + ", too. Add `license:` to the lines at the head of this file.",
    ]
    return _front_matter(run, form, files) + "\n" + "\n\n".join(parts) + "\n"


def _hub_base(run: Run) -> str:
    """The model that the run began with, if a hub id, without its revision; else nothing."""
    name = base_of(run).partition("@")[0]
    return name if is_hub_id(name) and not there(Path(base_of(run))) else ""


def settings_text(run: Run) -> str:
    """The run's settings as a file that loads, with the names of its paths alone."""
    raw = _shortened(run.settings()).model_dump(mode="json")
    command = run.config()["command"]
    head = f"# u2a {command} settings.yaml\n# Paths are names alone: put yours in.\n"
    return head + yaml.safe_dump(raw, sort_keys=False, allow_unicode=True)


def _front_matter(run: Run, form: Form, files: Mapping[str, str]) -> str:
    """What the hub reads at the head of the file."""
    base, method = _hub_base(run), run.report().get("method")
    facts: dict[str, Any] = {}
    if form and base:
        facts["base_model"] = base
        facts["base_model_relation"] = "adapter" if form == "adapter" else "finetune"
    if form:
        facts["library_name"] = "peft" if form == "adapter" else "transformers"
        facts["pipeline_tag"] = "text-generation"
    else:
        facts["task_categories"] = ["text-generation"]
    table_of_all = next((name for name in files if name.endswith(".parquet")), None)
    if table_of_all:  # else the hub's viewer takes all files for one table
        facts["configs"] = [{"config_name": "negatives", "data_files": table_of_all}]
    tags = ["unlearning", "alignment", "u2a", run.config()["command"]]
    facts["tags"] = [*tags, *([str(method)] if method else [])]
    notes = "# license: is yours to choose; that of the original model binds, too\n"
    if form and not base:
        notes += "# base_model: the original model was a folder; name its hub id, if it has one\n"
    return f"---\n{notes}{yaml.safe_dump(facts, sort_keys=False)}---\n"


def _title(run: Run, name: str, form: Form) -> str:
    if not form:
        return f"Negative samples of `{name}`, weighed"
    return f"`{name}` after {table.label(run)}"


def _made(run: Run, name: str, form: Form) -> str:
    report = run.report()
    count = (report.get("data") or {}).get("negatives", 0)
    if not form:
        return (
            f"{count} negative samples with what each is worth: a run of "
            f"`u2a {report['command']}` on `{name}`, by Unlearning to Align (U2A)."
        )
    what = "A PEFT adapter for" if form == "adapter" else "Whole weights, made of"
    weighed = ""
    if "effective_samples" in report:  # a baseline weights none
        weighed = (
            f" with {count} negative samples (effective number 1/Σω² = "
            f"{report['effective_samples']:.1f})"
        )
    return (
        f"{what} `{name}`, by a run of `u2a {report['command']}` ({table.label(run)}){weighed}. "
        f"Step {report['steps']} of {report['steps_taken']} was kept."
    )


def _results(run: Run, report: Mapping[str, Any], measured: Sequence[Run]) -> list[str]:
    """Metrics with intervals and n, the original beside the run."""
    lines = ["## Results"]
    if report["command"] == "gains":
        found = report["objective"]
        return [
            *lines,
            f"J of the original model {table.cell(found)} (95 %, n = {found['n']} prompts); "
            f"{report['helps']} of {report['data']['negatives']} samples have a positive gain.",
        ]
    try:
        rows = table.rows(table.usable([run, *measured]).runs)
    except RunError:  # nothing was measured
        rows = []
    metrics = table.shown_metrics(rows)
    if metrics:
        head = ["metric", *(row.method for row in rows)]
        body = [
            [table.heading(name), *(_cell(row.metrics.get(name), name) for row in rows)]
            for name in metrics
        ]
        lines += [_grid(head, body), "Mean [95 % interval] (n). Arrows: where better is."]
    else:
        lines.append("Nothing was measured on test prompts (data.prompts or a reward lacked).")
    difference = (report.get("reward") or {}).get("difference")
    if difference:
        lines.append(
            f"Paired difference in reward, after minus before: {table.cell(difference)} (95 %, "
            f"n = {difference['n']} prompts)."
        )
    return [*lines, _objective(report["objective"])]


def _objective(found: Mapping[str, Any]) -> str:
    return f"J on its own prompts, which chose the step: {found['before']:+.3f} → " + (
        f"{found['after']:+.3f}."
    )


def _cell(found: Mapping[str, Any] | None, metric: str) -> str:
    if not found:
        return "–"
    return f"{table.cell(dict(found), metric)} (n = {found['n']})"


def _how(run: Run, settings: Settings, words: str) -> list[str]:
    """The command, the settings that are not the defaults, hashes of data and code, versions."""
    config = run.config()
    given, plain = (one.model_dump(mode="json") for one in (_shortened(settings), Settings()))
    changed = {
        section: kept
        for section, values in given.items()
        if (kept := _differing(values, plain[section])) not in ({}, plain[section])
    }
    hashes = [[name, f"`{digest}`"] for name, digest in sorted(config["sha256"].items())]
    commits = [[name, f"`{commit}`"] for name, commit in sorted(run.commits().items())]
    packages = ", ".join(f"{k} {v}" for k, v in config.get("packages", {}).items())
    again = f"u2a {config['command']} settings.yaml --out RUN\n"
    again += f"u2a export RUN --to FOLDER {words}".rstrip() + "\n"
    return [
        "## How it was made",
        f"```\n{again}```",
        f"Begun {config.get('created', 'at an unknown time')}; Python {config.get('python', '?')}, "
        f"{packages}; code of u2a_core `{str(config.get('code_sha256', ''))[:12]}` (sha256).",
        "Settings that are not the defaults; settings.yaml has all of them:",
        f"```yaml\n{yaml.safe_dump(changed, sort_keys=False, allow_unicode=True)}```",
        _grid(["file", "sha256"], hashes) if hashes else "No file of this machine was read.",
        *([_grid(["on the hub", "commit"], commits)] if commits else []),
    ]


def _differing(values: Any, plain: Any) -> Any:
    """Of a section the values that differ from the defaults; of one value itself."""
    if not isinstance(values, dict) or not isinstance(plain, dict):
        return values
    return {name: value for name, value in values.items() if value != plain.get(name)}


def _shortened(settings: Settings) -> Settings:
    """The settings with the names of absolute paths alone."""
    raw = settings.model_dump(mode="json")
    for section, fields in PATHS.items():
        for name in fields:
            raw[section][name] = _name(raw[section][name])
    raw["weights"] = _name(raw["weights"])
    return Settings.model_validate(raw)


def _name(value: str) -> str:
    return Path(value).name if value and Path(value).is_absolute() else value


def _loading(run: Run, form: Form) -> list[str]:
    base, commit = _hub_base(run) or "BASE_MODEL", run.commits().get(base_of(run))
    which = f'"{base}", revision="{commit}"' if commit else f'"{base}"'
    if form == "adapter":
        code = (
            "from peft import PeftModel\n"
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            f"base = AutoModelForCausalLM.from_pretrained({which})\n"
            'model = PeftModel.from_pretrained(base, "FOLDER")\n'
        )
    else:
        code = (
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            'model = AutoModelForCausalLM.from_pretrained("FOLDER")\n'
        )
    code += 'tokenizer = AutoTokenizer.from_pretrained("FOLDER")  # with its chat template\n'
    return ["## Loading", f"```python\n{code}```"]


def _files(files: Mapping[str, str]) -> list[str]:
    if not files:
        return []
    return ["## Files", _grid(["file", "what it is"], [[f"`{k}`", v] for k, v in files.items()])]


def _has_samples(files: Mapping[str, str]) -> bool:
    return any("/" in name for name in files)


def _listed(sentences: Sequence[str]) -> list[str]:
    return ["\n".join(f"* {text}" for text in sentences)] if sentences else []


def _grid(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    rule = ["---"] * len(head)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *body))
