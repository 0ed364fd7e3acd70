"""Tables and figures of a finished descent, as they stand in its run directory."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from u2a_core import metrics
from u2a_core.reweight import accumulated_gains
from u2a_core.types import Sample, Weights, prompt_text

if TYPE_CHECKING:
    from torch import Tensor

    from u2a_core.descent import UnlearnState
    from u2a_core.experiment import Experiment
    from u2a_core.runs import Run


_MUCH = 1.0
"""Size of what Ridge neglects, relative to what it keeps, that is worth a warning."""
_LOST = 0.2
"""Share of the trained weights that rounding keeps still in a step, worth a warning."""


def write_descent(
    run: Run,
    experiment: Experiment,
    state: UnlearnState,
    before: pd.DataFrame,
    after: pd.DataFrame,
) -> dict[str, Any]:
    """Tables of a descent, and what its report says."""
    chosen = _chosen_round(state, experiment.settings.outer.steps_per_round)
    weights = Weights(state.weight_path[chosen])
    # rounds after the chosen one scored models that were not kept
    scored = state.gain_path[: chosen + 1]
    total = accumulated_gains(scored).cpu().numpy() if scored else None
    run.write_table("weights", _final(experiment, weights, scored, total, state))
    truth = experiment.mislabelled
    facts: dict[str, Any] = {
        "method": experiment.settings.inner.method,
        **write_outcome(run, experiment, state, before, after),
        "effective_samples": weights.effective_samples(),
    }
    if state.identity_error is not None:
        facts["identity_error"] = state.identity_error
        history = pd.DataFrame(state.history).filter(regex="^solve_").dropna(how="all")
        solves = history.rename(columns=lambda name: name.removeprefix("solve_"))
        found = curvature_facts(experiment.settings.outer.curvature, solves)
        facts |= found | {"warnings": [*facts["warnings"], *found["warnings"]]}
    if truth is not None:
        mass = weights.values.cpu().numpy()[truth].sum()
        facts["weight_on_mislabelled"] = float(mass)
        if total is not None:
            facts["gains"] = auc_facts({"first_round": scored[0], "accumulated": total}, truth)
    return facts


def write_outcome(
    run: Run,
    experiment: Experiment,
    state: UnlearnState,
    before: pd.DataFrame,
    after: pd.DataFrame,
) -> dict[str, Any]:
    """Tables of any run of steps (history, generations), and what its report says of them."""
    write_path(run, experiment, state)
    run.write_table("generations", _generations(before, after))
    return {
        "steps": state.best_step,
        "steps_taken": state.step,
        "ended": state.ended,
        "objective": {"before": state.history[0]["objective"], "after": state.best_objective},
        "reward": _rewards(before, after),
        "ledger": state.ledger.facts(),
        "warnings": [
            *_unmoved(run.config()["command"], experiment, state),
            *_rounded(run.config()["command"], experiment, state),
        ],
    }


def _rounded(command: str, experiment: Experiment, state: UnlearnState) -> list[str]:
    """Where the number format of the weights swallowed a good part of the steps."""
    lost = [row["rounded_away"] for row in state.history if "rounded_away" in row]
    if not lost or max(lost) < _LOST:
        return []
    section = "baseline" if command == "baseline" else "inner"
    rate = getattr(experiment.settings, section).learning_rate
    return [
        f"Up to {max(lost):.0%} of the trained weights stood still in a step although they had a "
        "gradient: the step is smaller than what their 16 bits can tell apart, so that the model "
        f"hardly follows {section}.learning_rate {rate:g}. Set model.dtype float32, or "
        "model.parameters lora, whose adapter is float32."
    ]


def _unmoved(command: str, experiment: Experiment, state: UnlearnState) -> list[str]:
    """Where no step raised J: how far it fell, what ended the run, and what to try."""
    if state.best_step:
        return []
    settings, (first, *later) = experiment.settings, state.history
    said = "No step raised J: the saved model is the original."
    if later and all(row["objective"] < first["objective"] for row in later):
        said += (
            f" J fell at every step where it was measured ({len(later)}): from "
            f"{first['objective']:+.3f} to {later[-1]['objective']:+.3f} at step "
            f"{later[-1]['step']:.0f}."
        )
    if state.ended != "budget used":
        said += f" The run was ended early: {state.ended}."
    rate = ("inner.learning_rate", settings.inner.learning_rate)
    every = ("outer.steps_per_round", settings.outer.steps_per_round)
    if command == "baseline":
        rate = ("baseline.learning_rate", settings.baseline.learning_rate)
        every = ("baseline.measure_every", settings.baseline.measure_every)
    return [
        f"{said} Try a smaller {rate[0]} (it was {rate[1]:g}), or a smaller {every[0]} (it was "
        f"{every[1]}), so that J is measured sooner."
    ]


def write_path(run: Run, experiment: Experiment, state: UnlearnState) -> None:
    """What the descent has been through so far: readable while it goes on."""
    run.write_table("history", pd.DataFrame(state.history))
    if state.weight_path:
        run.write_table("weight_path", _rounds(experiment, state))


def auc_facts(gains: Mapping[str, Any], truth: np.ndarray) -> dict[str, Any]:
    """How well each named column of gains tells real negatives from mislabelled ones.

    Nothing where all negatives are real, or all mislabelled.

    Args:
        gains: name → (n,) gains.
        truth: (n,) True where a sample is mislabelled.
    """
    if truth.all() or not truth.any():
        return {}
    found = {name: metrics.auc(np.asarray(values), ~truth) for name, values in gains.items()}
    return {
        **{f"auc_{name}": estimate.mean for name, estimate in found.items()},
        "intervals": {f"auc_{name}": [e.low, e.high] for name, e in found.items()},
        "n": len(truth),
    }


def put_errors(table: pd.DataFrame, gain: str, errors: Tensor | None, parts: int) -> None:
    """Adds the standard error of a column of gains and its 95 % t interval, where it is known.

    Args:
        table: in sample order; gets `<gain>_se`, `<gain>_low` and `<gain>_high`.
        gain: the column.
        errors: (n,) standard errors.
        parts: independent parts of J's prompts that they come from.
    """
    if errors is None or parts < 2:
        return
    spread = errors.double().numpy()
    half = stats.t.ppf(0.975, parts - 1) * spread
    table[f"{gain}_se"] = spread
    table[f"{gain}_low"], table[f"{gain}_high"] = table[gain] - half, table[gain] + half


def curvature_facts(kind: str, solves: pd.DataFrame) -> dict[str, Any]:
    """What a report says of the solves for H⁻¹∇J, one row each, and the warnings they call for."""
    low = float(solves["min_curvature"].min())
    failed = int((~solves["converged"].astype(bool)).sum())
    facts: dict[str, Any] = {
        "kind": kind,
        "solves": len(solves),
        "converged": len(solves) - failed,
        "residual": float(solves["residual"].max()),
        "steps": int(solves["steps"].max()),
        "min_curvature": low,
        "damping": float(solves["damping"].max()),
        "neglected": float(solves["neglected"].max()),
    }
    warnings, notes = [], []
    if low <= 0 and kind == "cg":
        bent = int((solves["min_curvature"] <= 0).sum())
        warnings.append(
            f"The Hessian of the inner problem is indefinite in {bent} of {len(solves)} solves "
            f"(smallest curvature {low:.3g}): θ is no minimum of it there. It was damped by up to "
            f"δ = {facts['damping']:.3g}; gains are directions of improvement, not exact "
            "derivatives. A larger inner.lam makes H positive definite."
        )
    if failed:
        warnings.append(
            f"{failed} of {len(solves)} solves for H⁻¹∇J did not converge (largest residual "
            f"{facts['residual']:.2g}). Raise outer.damping, or use outer.curvature ridge."
        )
    if kind == "ridge" and facts["neglected"] > _MUCH:
        sign = f", and H is indefinite there (curvature {low:.3g})" if low <= 0 else ""
        notes.append(
            f"Ridge keeps only 2λI of the Hessian H; along H⁻¹∇J what it leaves out is "
            f"{facts['neglected']:.1f} times as large{sign}. Gains rank directions of improvement; "
            "they are no exact derivatives. outer.curvature cg takes the whole of H."
        )
    return {"curvature": facts, "warnings": warnings, "notes": notes}


def _chosen_round(state: UnlearnState, steps_per_round: int) -> int:
    """The round whose weights made the chosen model's last step."""
    return max(0, min((state.best_step - 1) // steps_per_round, len(state.weight_path) - 1))


def samples_table(experiment: Experiment, rows: Sequence[int] | None = None) -> pd.DataFrame:
    """One row per negative sample, or of those given: id, kind, prompt and reply as texts."""
    negatives: Sequence[Sample] = experiment.negatives.samples
    if rows is not None:
        negatives = [negatives[row] for row in rows]
    return pd.DataFrame(
        {
            "id": [sample.id for sample in negatives],
            "kind": [sample.kind for sample in negatives],
            "prompt": [prompt_text(sample.prompt) for sample in negatives],
            "response": [sample.response for sample in negatives],
        }
    )


def _final(
    experiment: Experiment,
    weights: Weights,
    scored: list[Tensor],
    total: np.ndarray | None,
    state: UnlearnState,
) -> pd.DataFrame:
    table = samples_table(experiment)
    table["weight"] = weights.values.cpu().numpy()
    if total is not None:
        table["gain_first_round"] = scored[0].cpu().numpy()
        put_errors(table, "gain_first_round", state.first_errors, state.parts)
        table["gain_accumulated"] = total
    return table


def _rounds(experiment: Experiment, state: UnlearnState) -> pd.DataFrame:
    """Long table: round, step, id, weight, and gain where the round scored."""
    ids = [sample.id for sample in experiment.negatives.samples]
    pieces = []
    for number, values in enumerate(state.weight_path):
        piece = pd.DataFrame({"round": number, "id": ids, "weight": values.cpu().numpy()})
        scored = number < len(state.gain_path)
        piece["gain"] = state.gain_path[number].cpu().numpy() if scored else np.nan
        piece["slope"] = state.slope_path[number].cpu().double().numpy() if scored else np.nan
        pieces.append(piece)
    return pd.concat(pieces, ignore_index=True)


def _generations(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    keys = [name for name in ("prompt_index", "sample", "prompt") if name in before]
    return before.merge(after, on=keys, suffixes=("_before", "_after"))


def _rewards(before: pd.DataFrame, after: pd.DataFrame) -> dict[str, Any]:
    """Reward before, after, and the paired difference over prompts."""
    if before.empty or before["reward"].isna().any():
        return {}
    old, new = by_prompt(before["reward"], before), by_prompt(after["reward"], after)
    return {
        "before": dataclasses.asdict(metrics.reward_estimate(old)),
        "after": dataclasses.asdict(metrics.reward_estimate(new)),
        "difference": dataclasses.asdict(
            metrics.paired_difference(new.mean(axis=1), old.mean(axis=1))
        ),
    }


def by_prompt(values: pd.Series, table: pd.DataFrame) -> np.ndarray:
    """(prompts, samples) from a long table of generations."""
    wide = values.groupby([table["prompt_index"], table["sample"]]).first().unstack("sample")
    return np.asarray(wide.to_numpy(), dtype=np.float64)
