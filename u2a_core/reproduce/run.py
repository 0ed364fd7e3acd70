"""The stages of `u2a reproduce`: data, original model, every method, evaluation, ablation, report.

Every stage is made of ordinary runs in `arms/`, so that each stops, resumes, and can be looked at.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from u2a_core import commands, table
from u2a_core.commands import Watch, arm, execute_arms, processes
from u2a_core.config import Settings, load_settings, override, there
from u2a_core.data import inspect_data, load_preferences
from u2a_core.errors import ConfigError, NumericalError
from u2a_core.models import save_merged
from u2a_core.report.document import write_document
from u2a_core.report.html import reproduction
from u2a_core.reproduce import tiny
from u2a_core.reproduce.paper import quoted
from u2a_core.reproduce.splits import SPLITS, split_pairs, write_split
from u2a_core.runs import Run

METHODS = ("npo", "ga", "graddiff")
_LAST = ("dpo", "ppo")
_STEPS = 10_000
_SPLIT = ("negatives", "preferences", "prompts", "mixture")
"""Sets whose files the split writes."""
"""Steps of DPO and PPO, whose bound is the tokens that U2A has used."""


def reproduction_settings(words: Sequence[str]) -> Settings:
    """The settings of `TASK [CONFIG.yaml] [--scale tiny|full] [--section.field VALUE …]`.

    Raises:
        ConfigError: if the task is unknown, or full scale lacks its settings file.
    """
    task, *rest = words or [""]
    if task not in SPLITS:
        raise ConfigError(f"u2a reproduce must be given one of {', '.join(SPLITS)}; got {task!r}.")
    config = Path(rest.pop(0)) if rest and not rest[0].startswith("--") else None
    short = {"--scale": "--reproduction.scale"}
    rest = [short.get(word, word.replace("--scale=", "--reproduction.scale=")) for word in rest]
    first = load_settings(config) if config else tiny.tiny_settings(task)
    settings = override(first, ["--reproduction.task", task, *rest])
    if settings.evaluation.endpoint:
        raise ConfigError(
            "evaluation.endpoint must be empty for u2a reproduce, whose models no server has; got "
            f"{settings.evaluation.endpoint}. Leave it out."
        )
    if settings.reproduction.scale == "full" and config is None:
        raise ConfigError(
            "u2a reproduce --scale full must be given a settings file: model.path (the base "
            "model), data.preferences (the pairs to split), data.retain and objective.reward. "
            f"u2a reproduce {task} CONFIG.yaml --scale full"
        )
    return settings


def run_reproduce(run: Run, settings: Settings, watch: Watch) -> dict[str, Any]:
    """The whole experiment; what is finished is read."""
    watch.before = max((line.seconds for line in run.progress()), default=0.0)
    workers = processes(settings)
    settings, files = _data(run, settings)
    original = _original(run, settings, watch)
    settings = _on_original(settings, original, files)
    trained = {name: _arm(run, name, settings) for name in _first_arms()}
    _execute(trained, watch, workers)
    budget = _tokens_of_u2a(trained)
    trained |= {name: _arm(run, name, settings, budget) for name in _LAST}
    _execute(trained, watch, workers)
    evaluations = {"evaluate-original": _evaluation(run, "original", settings, "")}
    for name, one in trained.items():
        evaluations[f"evaluate-{name}"] = _evaluation(run, name, settings, str(one.path))
    _execute(evaluations, watch, workers)
    ablation = _ablation(run, settings, watch)
    return _report(run, settings, [*trained.values(), *evaluations.values()], ablation, watch)


def _data(run: Run, settings: Settings) -> tuple[Settings, dict[str, Path]]:
    """The split data set, written once."""
    folder = run.path.resolve() / "data"
    split, limits = SPLITS[settings.reproduction.task], dict[str, Any]()
    if settings.reproduction.scale == "tiny":
        settings = tiny.write_scenario(folder, settings)
        split = dataclasses.replace(split, test=0.3)
        limits = {
            "most": tiny.NEGATIVES,
            "mistaken": tiny.MISTAKEN,
            "skill": tiny.skill(),
        }
    if not settings.data.preferences or not settings.model.path:
        raise ConfigError(
            "u2a reproduce at full scale needs model.path (the base model) and data.preferences "
            "(pairs of prompt, chosen, rejected to split); got none. Give a CONFIG.yaml with them."
        )
    data = settings.data
    pairs = load_preferences(data.preferences, columns=data.columns_of("preferences"))[0]
    parts = split_pairs(pairs, split, seed=settings.seed, **limits)
    # the files of the split have columns that are recognized; those that are read as they are keep
    kept = {name: c for name, c in data.columns.items() if name not in _SPLIT}
    formats = {name: f for name, f in data.formats.items() if name not in _SPLIT}
    data = data.model_copy(update={"columns": kept, "formats": formats})
    return settings.model_copy(update={"data": data}), write_split(folder, parts)


def _original(run: Run, settings: Settings, watch: Watch) -> Path:
    """The model that is to be aligned: the base model, fine-tuned on the mixture; its folder."""
    folder = run.path.resolve() / "data"
    raw = settings.model_dump(mode="json")
    raw["data"] |= {
        "negatives": str(folder / "negatives.jsonl"),
        "preferences": str(folder / "preferences.jsonl"),
        "prompts": str(folder / "test_prompts.jsonl"),
    }
    fine_tuning = tiny.fine_tuning() if settings.reproduction.scale == "tiny" else {}
    raw["model"]["lora_head"] = False  # it will be merged, and heads are often tied
    raw["baseline"] |= fine_tuning | {
        "method": "sft", "base": settings.model.path, "mixture": str(folder / "mixture.jsonl"),
    }  # fmt: skip
    made = arm(run, "original", "baseline", Settings.model_validate(raw))
    _execute({"original": made}, watch, 1)
    if not there(made.model_folder / "adapter_config.json"):
        return made.model_folder
    whole = run.path.resolve() / "original"  # what others put their own adapters on
    if not there(whole):
        save_merged(made.settings().model, made.model_folder, whole)
    return whole


def _on_original(settings: Settings, original: Path, files: dict[str, Path]) -> Settings:
    """Settings of everything that begins at the original model."""
    raw = settings.model_dump(mode="json")
    path = {name: str(file) for name, file in files.items()}
    raw["data"] |= {
        "negatives": path["negatives"],
        "preferences": path["preferences"],
        "prompts": path["test_prompts"],
        "truth": path.get("truth", ""),
    }
    raw["baseline"] |= {"base": settings.model.path, "mixture": path["mixture"]}
    raw["model"]["path"] = str(original)
    task, given = settings.reproduction.task, settings.evaluation
    raw["evaluation"] |= {
        "outsiders": given.outsiders or path["outsiders"],
        "reference": given.reference or (path["reference"] if task == "ultrafeedback" else ""),
        "questions": given.questions or (path["questions"] if task == "halueval" else ""),
        "harmful": given.harmful or (path["test_prompts"] if task == "safe-rlhf" else ""),
    }
    return Settings.model_validate(raw)


def _first_arms() -> list[str]:
    """U2A, whose tokens bound the others, comes first."""
    return [*(f"{m}-u2a" for m in METHODS), *(f"{m}-uniform" for m in METHODS), "retrain"]


def _arm(run: Run, name: str, settings: Settings, budget: int = 0) -> Run:
    """The run of a method by its name: npo-u2a, npo-uniform, retrain, dpo, ppo."""
    method, _, weights = name.partition("-")
    raw = settings.model_dump(mode="json")
    if weights:
        raw["inner"]["method"] = method
        command = "reweight" if weights == "u2a" else "unlearn"
    else:
        command = "baseline"
        raw["baseline"] |= {"method": method}
        if method in _LAST:
            raw["baseline"] |= {"max_tokens": budget, "steps": _STEPS}
        elif settings.reproduction.scale == "tiny":
            raw["baseline"] |= tiny.fine_tuning() | {"method": method}
    return arm(run, name, command, Settings.model_validate(raw))


def _execute(arms: dict[str, Run], watch: Watch, workers: int) -> None:
    for name, why in execute_arms(arms, watch, workers=workers).items():
        raise NumericalError(f"{name}: {why}")


def _tokens_of_u2a(trained: dict[str, Run]) -> int:
    """The token budget: what the most expensive U2A run used, gains included."""
    return max(int(trained[f"{m}-u2a"].report()["ledger"]["tokens"]) for m in METHODS)


def _evaluation(run: Run, name: str, settings: Settings, target: str) -> Run:
    evaluation = settings.evaluation.model_copy(update={"target": target})
    own = settings.model_copy(update={"evaluation": evaluation})
    return arm(run, f"evaluate-{name}", "evaluate", own)


def _ablation(run: Run, settings: Settings, watch: Watch) -> Run:
    """A run of its own, whose arms stand in its own folder."""
    path = run.path.resolve() / "ablation"
    made = Run.open(path) if Run(path).exists else Run.create(path, "ablate", settings)
    inside = Watch(made, stopping=watch.stopping, show=watch.show)
    commands.execute(made, inside, commands.run_ablate)
    return made


def _report(
    run: Run, settings: Settings, runs: list[Run], ablation: Run, watch: Watch
) -> dict[str, Any]:
    """The table, the page that shows it, and the report."""
    made = table.rows(runs)
    run.write_table("table", table.frame(made))
    report = {
        "command": "reproduce",
        "task": settings.reproduction.task,
        "scale": settings.reproduction.scale,
        "seed": settings.seed,
        **table.as_json(made),
        "differences": table.differences(runs),
        "missing": _missing(runs),
        "paper": quoted(settings),
        "ablation": ablation.report(),
        "notes": table.losses(table.differences(runs)),
        "overlaps": _overlaps(settings),
        "seconds": round(watch.seconds, 2),
    }
    title = f"U2A on {settings.reproduction.task}"
    write_document(run.path / "report.html", title, reproduction(report, ablation))
    run.write_report(report)
    return report


def _overlaps(settings: Settings) -> list[str]:
    """What the sets share that should be apart: the split's own, and what was given beside it."""
    return [o.sentence for o in inspect_data(settings.data, settings.evaluation).overlaps]


def _missing(runs: list[Run]) -> dict[str, str]:
    """Metrics that were not measured, and why; from the evaluation of the original model."""
    for one in runs:
        if one.config()["command"] == "evaluate":
            return dict(one.report()["missing"])
    return {}
