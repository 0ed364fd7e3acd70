"""Impact curves: Eq. 4 and its companions against J measured again, in float64."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from u2a_core import params
from u2a_core.config import InnerSettings
from u2a_core.impact import ESTIMATORS, ImpactCurves, agreement, predicted_impact, summary
from u2a_core.losses import NPO, GradientAscent, sequence_log_probs
from u2a_core.objectives import CandidateReward
from u2a_core.testing import TinyPolicy, random_batch
from u2a_core.unlearn import InnerProblem

LAM = 1.0
SAMPLES = tuple(range(12))


def curves_of(method: str = "ga", rewards: tuple[float, ...] = (1.0, -1.0, 0.3)) -> ImpactCurves:
    model, batch = TinyPolicy(), random_batch(12, seed=1)
    loss = GradientAscent()
    if method == "npo":
        loss = NPO(0.1, sequence_log_probs(model, [batch]))
    origin = params.snapshot(params.trainable(model))
    problem = InnerProblem(model, (batch,), loss, InnerSettings(method=method), origin)
    objective = CandidateReward(
        (random_batch(9, seed=5),),
        torch.arange(9) // 3,
        torch.tensor(rewards * 3).double(),
    )
    return ImpactCurves(problem, objective, SAMPLES, LAM)


def measured(curves: ImpactCurves, *omegas: float) -> pd.DataFrame:
    rows = []
    for group in curves.groups_left(set()):
        rows += curves.measure(group, omegas)
    return pd.DataFrame(rows)


@pytest.mark.parametrize("method", ["ga", "npo"])
def test_errors_of_the_predictions_have_their_orders_in_omega(method: str):
    """linear and paper err by O(ω²), the trapezoid by O(ω³)."""
    table = measured(curves_of(method), 0.01, 0.02)
    assert table["converged"].all()
    error = {
        omega: {name: (rows[name] - rows["measured"]).abs().max() for name in ESTIMATORS}
        for omega, rows in table.groupby("omega")
    }
    for name, order in {"linear": 2, "paper": 2, "trapezoid": 3}.items():
        ratio = error[0.02][name] / error[0.01][name]
        assert math.log2(ratio) == pytest.approx(order, abs=0.25), name


def test_predictions_and_measurements_agree_where_omega_is_small():
    table = measured(curves_of(), 0.01)
    for name in ESTIMATORS:
        found = agreement(table[name].to_numpy(), table["measured"].to_numpy())
        assert found["spearman"] > 0.98
        assert found["r2"] > 0.99


def test_the_paper_estimate_is_the_slope_of_j_along_the_way_gone():
    """By stationarity −(ω/2λ)∇J(θ*)ᵀ∇ℓ(θ*) = ∇J(θ*)ᵀ(θ* − θ₀): a finite difference of J."""
    curves = curves_of()
    from u2a_core.proximal import moved, rows_of, solve_proximal

    solve = solve_proximal(curves.problem, rows_of(curves.problem, [3]), omega=0.3, lam=LAM)
    model, ends = curves.problem.model, []
    for factor in (1 + 1e-5, 1 - 1e-5):
        params.load(model, moved(curves.problem.origin, params.scale(solve.shift, factor), 0))
        ends.append(float(curves.objective.values(model).mean()))
    params.load(model, curves.problem.origin)
    row = measured(curves, 0.3).set_index("sample").loc[3]
    assert row["paper"] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-3)


def test_predicted_impact_has_the_sign_and_the_half_of_eq_4():
    assert predicted_impact(4.0, omega=0.1, lam=1.0) == pytest.approx(-0.2)
    assert predicted_impact(4.0, omega=0.1, lam=2.0) == pytest.approx(-0.1)


def test_the_measurement_is_j_at_the_solution_minus_j_at_the_origin():
    curves = curves_of()
    from u2a_core.proximal import moved, rows_of, solve_proximal

    before = float(curves.objective.values(curves.problem.model).mean())
    solve = solve_proximal(curves.problem, rows_of(curves.problem, [5]), omega=0.2, lam=LAM)
    params.load(curves.problem.model, moved(curves.problem.origin, solve.shift, 0))
    after = float(curves.objective.values(curves.problem.model).mean())
    params.load(curves.problem.model, curves.problem.origin)
    row = measured(curves, 0.2).set_index("sample").loc[5]
    assert row["measured"] == pytest.approx(after - before, rel=1e-6)
    assert row["measured_low"] < row["measured"] < row["measured_high"]


def test_the_grid_begins_at_a_contraction_of_a_twentieth():
    curves = curves_of()
    grid = curves.grid()
    first = measured(curves, grid[0])
    assert first["contraction"].max() == pytest.approx(0.05, rel=0.1)
    assert grid == pytest.approx([grid[0] * 3.0**i for i in range(len(grid))])
    assert all(0 < omega <= 1 for omega in grid)


def test_a_curve_is_not_tried_beyond_its_limit(monkeypatch: pytest.MonkeyPatch):
    from u2a_core import proximal

    monkeypatch.setattr(proximal, "_MAX_STEPS", 3)
    monkeypatch.setattr("u2a_core.impact.solve_proximal", _never_far)
    table = measured(curves_of(), 0.01, 0.1, 0.2)
    assert set(table["omega"]) == {0.01, 0.1}
    ended = table[table["omega"] == 0.1]
    assert not ended["converged"].any()
    assert ended[["paper", "trapezoid", "measured"]].isna().all(axis=None)
    assert ended["linear"].notna().all()


def _never_far(*args, omega: float, **options):
    from dataclasses import replace

    from u2a_core.proximal import solve_proximal

    solve = solve_proximal(*args, omega=omega, **options)
    return replace(solve, converged=torch.full_like(solve.converged, omega < 0.05))


def test_the_model_stays_at_its_origin():
    curves = curves_of()
    measured(curves, 0.05)
    curves.rounding()
    for name, tensor in params.trainable(curves.problem.model).items():
        assert torch.equal(tensor, curves.problem.origin[name])


def test_groups_are_the_same_whatever_is_done():
    curves = curves_of()
    groups = curves.groups_left(set())
    assert curves.groups_left(set(groups[0])) == groups[1:]
    assert sorted(i for group in groups for i in group) == list(SAMPLES)


def test_agreement_is_that_of_scipy():
    generator = np.random.default_rng(0)
    x = generator.normal(size=40)
    y = 0.9 * x + 0.2 * generator.normal(size=40)
    found = agreement(x, y)
    assert found["spearman"] == pytest.approx(stats.spearmanr(x, y).statistic)
    assert found["slope"] == pytest.approx(stats.linregress(x, y).slope)
    assert found["r2"] == pytest.approx(1 - ((y - x) ** 2).sum() / ((y - y.mean()) ** 2).sum())
    assert found["rmse"] == pytest.approx(np.sqrt(((y - x) ** 2).mean()))
    for name, (low, high) in found["intervals"].items():
        assert low < found[name] < high


def test_agreement_of_too_few_points_is_not_a_number():
    found = agreement(np.array([1.0, 2.0]), np.array([1.0, 2.0]))
    assert found["spearman"] is None
    assert found["n"] == 2
    assert found["intervals"] == {}


def test_a_curve_that_ended_counts_as_not_converged_at_every_later_weight():
    row = {"linear": 0.1, "paper": 0.1, "trapezoid": 0.1, "measured": 0.1, "contraction": 0.5}
    table = pd.DataFrame(
        [
            {"sample": 0, "omega": 0.1, "converged": True, **row},
            {"sample": 1, "omega": 0.1, "converged": False, **row},
            {"sample": 0, "omega": 0.2, "converged": True, **row},
        ]
    )
    found = summary(table, samples=2, omegas=[0.1, 0.2, 0.3])
    assert [part["converged_share"] for part in found["per_omega"]] == [0.5, 0.5, 0.0]
    assert found["converged_share"] == pytest.approx(2 / 6)


def test_the_rounding_error_is_that_of_the_numbers_own_precision():
    assert 1e-19 < curves_of().rounding() < 1e-14


def test_points_of_one_sample_are_drawn_together():
    """Each sample five times over: the intervals are those of the samples, not of five times n."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=30)
    y = x + 0.3 * generator.normal(size=30)
    once = agreement(x, y)
    five = agreement(np.repeat(x, 5), np.repeat(y, 5), np.repeat(np.arange(30), 5))
    for name in ("spearman", "slope", "rmse"):
        assert five["intervals"][name] == pytest.approx(once["intervals"][name], rel=1e-2)
