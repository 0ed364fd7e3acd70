"""Runs shown in the terminal: result tables, warnings, replies before and after.

Reads run directories only; everything shown was computed by the run and stands in its tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from u2a_core.report.evaluation import show_evaluation
from u2a_core.report.evidence import interval, show_ablation, show_reproduction
from u2a_core.report.sections import kept
from u2a_core.runs.files import whole

if TYPE_CHECKING:
    from u2a_core.runs import Run

_SHOWN_REPLIES = 6


def show(run: Run) -> None:
    """A finished run, as tables on stdout.

    Raises:
        RunError: if it is not finished, or damaged.
    """
    with whole(run.path):
        _show(Console(emoji=False), run, run.report())


def _show(console: Console, run: Run, report: dict[str, Any]) -> None:
    views = {
        "gains": _show_gains,
        "impact": _show_impact,
        "demo": _show_demo,
        "evaluate": show_evaluation,
        "ablate": show_ablation,
        "reproduce": show_reproduction,
    }
    if "data" in report:
        console.print("\n" + _data_line(report["data"]))
    views.get(report["command"], _show_descent)(console, run, report)
    for warning in (*report.get("warnings", []), *report.get("overlaps", [])):
        console.print(f"[yellow]Warning:[/yellow] {escape(warning)}")
    for note in report.get("notes", []):
        console.print(f"[dim]{escape(note)}[/dim]")
    console.print(f"\n[dim]Run directory:[/dim] {escape(str(run.path))}")


def _data_line(data: dict[str, Any]) -> str:
    """What was loaded, and what was dropped or cut on the way."""
    losses = [
        f"{data[key]} {what}"
        for key, what in (
            ("duplicates_dropped", "duplicates dropped"),
            ("faults", "faulty records dropped"),
            ("truncated", "replies cut to model.max_length"),
        )
        if data[key]
    ]
    return (
        f"{data['negatives']} negative samples{''.join('; ' + text for text in losses)}. "
        f"{data['trainable_parameters']:,} trained parameters ({data['trained']}; slopes see "
        f"{data['slopes_see']}), "
        f"{data['dtype']} on {data['device']}."
    )


def _show_gains(console: Console, run: Run, report: dict[str, Any]) -> None:
    table = run.table("gains")
    n = len(table)
    console.print(
        f"J = {interval(report['objective'])} (n = {report['objective']['n']} prompts). "
        f"{report['helps']} of {n} negatives help when unlearned (gain > 0)"
        + (
            f"; the sign of {report['uncertain']} is uncertain (95 % interval over "
            f"{report['parts']} parts of J's prompts holds 0)."
            if report["parts"] > 1
            else "."
        )
    )
    console.print(_curvature_line(report["curvature"]))
    if report["gains"]:
        console.print(_auc_line(report["gains"]))
    view = Table(title="Marginal gain Δg, positive = unlearning helps alignment")
    for name in ("rank", "gain ± se", "prompt", "response"):
        view.add_column(name, justify="right" if name in ("rank", "gain ± se") else "left")
    for row in pd.concat([table.head(8), table.iloc[8:].tail(8)]).to_dict("records"):
        if row["rank"] == n - 7 and n > 16:
            view.add_row("…")
        view.add_row(
            str(row["rank"]),
            f"{row['gain']:+.3f}" + (f" ± {row['gain_se']:.3f}" if "gain_se" in row else ""),
            escape(str(row["prompt"])[:60]),
            escape(str(row["response"])[:80]),
        )
    console.print(view)


def _show_descent(console: Console, run: Run, report: dict[str, Any]) -> None:
    console.print(
        f"{report['command']} with {report['method']}: {kept(report)}; ended: {report['ended']}."
    )
    if "effective_samples" in report:
        console.print(f"Effective samples 1/Σω²: {report['effective_samples']:.1f}.")
    if "curvature" in report:
        console.print(_curvature_line(report["curvature"]))
    if "weight_on_mislabelled" in report:
        console.print(f"Weight on mislabelled samples: {report['weight_on_mislabelled']:.3f}.")
    if report.get("gains"):
        console.print(_auc_line(report["gains"]))
    if report["reward"]:
        for name, estimate in report["reward"].items():
            console.print(f"Reward ↑ {name}: {interval(estimate)} (n = {estimate['n']})")
    if "ledger" in report:
        console.print(_ledger_line(report["ledger"]))
    show_replies(console, run)


def _ledger_line(ledger: dict[str, Any]) -> str:
    """What the descent cost, the replies before and after apart."""
    return (
        f"Computed: {ledger['forward_passes']:,} forward and {ledger['backward_passes']:,} "
        f"backward passes, {ledger['tokens']:,} tokens, {ledger['seconds']:.1f} s; peak memory "
        f"{ledger['peak_memory_mb']:,.0f} MB ({ledger['memory_of']})."
    )


def _curvature_line(facts: dict[str, Any]) -> str:
    """How H⁻¹∇J was found, and how far to trust it."""
    if facts["kind"] == "ridge":
        return (
            f"H⁻¹∇J by Ridge, H ≈ 2λI; left out of H, relative to what is kept: "
            f"{facts['neglected']:.2g}; curvature along H⁻¹∇J {facts['min_curvature']:+.3g}."
        )
    return (
        f"H⁻¹∇J by conjugate gradients: {facts['converged']} of {facts['solves']} solves converged "
        f"(residual ≤ {facts['residual']:.1g}, at most {facts['steps']} steps); smallest curvature "
        f"{facts['min_curvature']:+.3g}, damping {facts['damping']:.3g}."
    )


def _show_impact(console: Console, run: Run, report: dict[str, Any]) -> None:
    samples = report["samples"]
    ended = int(run.table("samples")["ended"].sum())
    console.print(
        f"J = {interval(report['objective'])} (n = {report['objective']['n']} prompts, "
        f"{report['objective_kind']}); λ = {report['lam']:g}. {ended} of {samples} curves end at a "
        f"validity limit; rounding error of J {report['rounding']:.1g}."
    )
    view = Table(
        title=f"Predicted against measured impact ΔJ of {samples} samples, 95 % over samples",
        box=SIMPLE,  # 80 columns hold it
    )
    shown = {"linear": ("spearman", "slope"), "trapezoid": ("r2",)}
    for name in ("ω", "solved", "largest\ncontr.", "linear ρ", "linear slope", "trapezoid R²"):
        view.add_column(name, justify="right")
    for row in report["per_omega"]:
        view.add_row(
            f"{row['omega']:.2g}",
            f"{row['converged_share']:.0%}",
            "–" if row["contraction"]["max"] is None else f"{row['contraction']['max']:.2g}",
            *(_bounded(row["estimators"][e], key) for e, keys in shown.items() for key in keys),
        )
    console.print(view)


def _bounded(figures: dict[str, Any], key: str) -> str:
    """`0.998 [.991, .999]`; a dash where too few points were solved."""
    if key not in figures["intervals"]:
        return "–"
    low, high = figures["intervals"][key]
    return f"{figures[key]:.3f} [{low:.2f}, {high:.2f}]"


def _auc_line(gains: dict[str, Any]) -> str:
    """Both AUCs with their intervals."""
    rounds = {"auc_first_round": "in the first round", "auc_accumulated": "accumulated"}
    told = [
        f"{gains[key]:.3f} [{low:.3f}, {high:.3f}] {rounds[key]}"
        for key, (low, high) in gains["intervals"].items()
    ]
    return (
        f"Gains tell real negatives from mislabelled ones with AUC {', '.join(told)} "
        f"(n = {gains['n']})."
    )


def show_replies(console: Console, run: Run, title: str = "Replies before and after") -> None:
    """The replies whose reward changed most, with the reward where it was measured."""
    table = run.table("generations")
    if table.empty:
        return
    if (table["reply_before"] == table["reply_after"]).all():
        console.print(f"Replies: all {len(table)} are the same before and after.")
        return
    scored = not table["reward_after"].isna().any()
    if scored:
        change = table["reward_after"] - table["reward_before"]
        order = change.abs().sort_values(ascending=False, kind="stable").index
        table = table.loc[order].drop_duplicates("prompt")
    view = Table(title=title)
    for name in ("prompt", "before", "after", *(("reward",) if scored else ())):
        view.add_column(name, overflow="fold")
    for row in table.head(_SHOWN_REPLIES).itertuples():
        cells = [row.prompt, row.reply_before, row.reply_after]
        if scored:
            cells.append(f"{row.reward_before:+.1f} → {row.reward_after:+.1f}")
        view.add_row(*(escape(str(cell)) for cell in cells))
    console.print(view)


def _show_demo(console: Console, run: Run, report: dict[str, Any]) -> None:
    from u2a_core.runs import Run as RunDirectory

    scenario, original = report["scenario"], report["original"]["reward"]
    console.print(
        f"\n{scenario['negatives']} negatives, {scenario['mislabelled']} of them good replies "
        f"flagged by mistake (seed {scenario['seed']}). Reward of the original model ↑: "
        f"{interval(original)} (n = {original['n']})."
    )
    view = Table(
        title=f"After unlearning: reward with 95 % interval, n = {original['n']} test replies",
        box=SIMPLE,  # 80 columns hold it
    )
    for name in ("method", "weights"):
        view.add_column(name)
    for name in ("reward ↑", "weight on\nmislabels ↓", "effective\nsamples", "step"):
        view.add_column(name, justify="right", no_wrap=name == "reward ↑")
    for row in report["methods"]:
        view.add_row(
            row["method"],
            row["weights"],
            interval(row["reward"]),
            f"{row['weight_on_mislabelled']:.3f}",
            f"{row['effective_samples']:.0f}",
            str(row["steps"]),
            style="bold" if row["weights"] == "u2a" else None,
            end_section=row["weights"] == "random",
        )
    console.print(view)
    console.print(_auc_line(report["gains"]))
    best = RunDirectory.open(run.path / "arms" / "npo-u2a")
    show_replies(console, best, "Replies before and after U2A-NPO")
