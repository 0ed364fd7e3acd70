"""Weights on the simplex: sparsity (Eq. 7), marginal gains (Eq. 8), mirror descent (Eqs. 9, 10).

Pure functions of vectors; they know nothing of models. Positive gain = more weight helps.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from u2a_core.errors import ConfigError, NumericalError
from u2a_core.types import Weights


def uniform(n: int) -> Weights:
    """ω = 1/n for every sample."""
    return Weights.normalize(torch.ones(n, dtype=torch.float64))


def uniform_over(chosen: Bool[Tensor, " n"]) -> Weights:
    """Equal weights on the chosen samples, 0 elsewhere.

    Raises:
        ConfigError: if none is chosen.
    """
    if not bool(chosen.any()):
        raise ConfigError("At least one sample must be chosen; got none. Choose more samples.")
    return Weights.normalize(chosen.double())


def top_k(gains: Float[Tensor, " n"], k: int) -> Weights:
    """Equal weights on the k samples with the largest gains; ties go to the earlier sample."""
    check_count(k, len(gains))
    order = torch.sort(gains, descending=True, stable=True).indices
    return uniform_over(_mask(order[:k], len(gains)))


def random_k(n: int, k: int, *, seed: int) -> Weights:
    """Equal weights on k samples drawn without replacement."""
    check_count(k, n)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return uniform_over(_mask(order[:k], n))


def sparsity_penalty(weights: Weights) -> float:
    """L_p(ω) = Σ √ω_i (Eq. 7): 1 for a single sample, √n for uniform weights."""
    return float(weights.values.sqrt().sum())


def marginal_gain(
    slopes: Float[Tensor, " n"],
    weights: Weights,
    *,
    sparsity: float,
    entering: float | None = None,
) -> Float[Tensor, " n"]:
    """Δg(k): the rate at which the outer objective improves as ω_k grows (Eq. 8).

    Δg(k) = −⟨H⁻¹∇J, ∇ℓ_k⟩ − (β/2)·ω_k^(−1/2).

    Args:
        slopes: ⟨H⁻¹∇J, ∇ℓ_k⟩ at θ*(ω), in units of J per unit weight.
        weights: ω.
        sparsity: β ≥ 0 of Eq. 5.
        entering: the weight w with which a sample off the support would enter. Its entry costs
            β√w, so its gain is −⟨u, ∇ℓ_k⟩ − β/√w. Default: 1/(|S| + 1).

    Returns:
        Δg(k), float64; positive means that more weight on sample k helps.

    Raises:
        NumericalError: if a slope is not finite.
    """
    if not bool(torch.isfinite(slopes).all()):
        bad = int((~torch.isfinite(slopes)).sum())
        raise NumericalError(
            f"Slopes must be finite; got {bad} of {len(slopes)} that are not. "
            "Lower inner.learning_rate, or check the model's weights for NaN."
        )
    gains = -slopes.double()
    if sparsity == 0:
        return gains
    support = weights.support
    entry = entering if entering is not None else 1.0 / (int(support.sum()) + 1)
    inside = 0.5 * weights.values.clamp_min(torch.finfo(torch.float64).tiny).rsqrt()
    return gains - sparsity * torch.where(support, inside, entry**-0.5)


def exponentiated_gradient(
    weights: Weights,
    gains: Float[Tensor, " n"],
    *,
    step_size: float,
    slopes: Float[Tensor, " n"] | None = None,
    effective_floor: float = 0.0,
) -> Weights:
    """ω_i ← ω_i·exp(η·Δg(i))/Z on the support (Eqs. 9, 10): softmax(log ω + η·Δg).

    Args:
        weights: ω; zeros stay zero.
        gains: Δg.
        step_size: η, in units of 1/std of `slopes` over the support.
        slopes: what η is measured against; default the gains. The slopes, not the gains, because
            the sparsity term of the gains is unbounded near ω = 0.
        effective_floor: least 1/Σω² as a share of the support; weights that would be more
            concentrated are flattened, ω ∝ ω^τ with the largest τ ≤ 1 that keeps to it.

    Returns:
        The new weights; the same where every slope on the support is equal.
    """
    support = weights.support
    reference = (gains if slopes is None else slopes).double()[support]
    spread = float(reference.std(correction=0))
    smallest = 1e-12 * float(reference.abs().max().clamp_min(1e-300))
    if spread <= smallest:  # identical samples: no reason to move weight
        return weights
    logits = weights.values[support].log() + step_size / spread * gains.double()[support]
    values = torch.zeros_like(weights.values)
    values[support] = torch.softmax(_flattened(logits, effective_floor * len(logits)), dim=0)
    return Weights.normalize(values)


def _flattened(logits: Float[Tensor, " s"], least: float) -> Float[Tensor, " s"]:
    """τ·logits with the largest τ ≤ 1 at which their softmax has so many effective samples."""

    def effective(tau: float) -> float:
        return 1 / float(torch.softmax(tau * logits, dim=0).square().sum())

    if effective(1.0) >= least:
        return logits
    low, high = 0.0, 1.0  # effective(0) is the whole support
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if effective(middle) >= least else (low, middle)
    return low * logits


def enter(
    weights: Weights | None,
    slopes: Float[Tensor, " n"],
    *,
    most: int,
    sparsity: float,
    before: Float[Tensor, " n"] | None = None,
) -> Weights:
    """Grows the support by the samples with the largest gains (Step 1).

    m candidates off the support S are judged at the weight w = 1/(|S| + m) with which they would
    enter: −⟨u, ∇ℓ_k⟩ − β/√w against the support's mean gain Σω_jΔg(j), whose mass they would take;
    against 0 where there is no support yet. Those above it enter with equal weights, and the
    others keep their proportions.

    Args:
        weights: ω; None is the empty support.
        slopes: ⟨H⁻¹∇J, ∇ℓ_k⟩.
        most: m, the number of candidates.
        sparsity: β.
        before: −⟨u, ∇ℓ_k⟩ summed over the earlier rounds. A sample also needs a positive sum with
            this round's: one round's noise lets nobody in.

    Returns:
        The new weights; the same where no sample enters.

    Raises:
        NumericalError: if the support is empty and no sample's gain is positive.
    """
    inside = torch.zeros(len(slopes), dtype=torch.bool) if weights is None else weights.support
    good = _worth_entering(weights, slopes, inside, most=most, sparsity=sparsity, before=before)
    if len(good) == 0:
        if weights is not None:
            return weights
        raise NumericalError(
            "At least one sample must have a positive gain to begin with; none has: by this J "
            "unlearning any of them hurts. Check the sign of the reward, or lower outer.sparsity."
        )
    size = int(inside.sum())
    values = slopes.new_zeros(len(slopes), dtype=torch.float64)
    if weights is not None:
        values = weights.values * size
    values[good] = 1.0
    return Weights.normalize(values)


def _worth_entering(
    weights: Weights | None,
    slopes: Float[Tensor, " n"],
    inside: Bool[Tensor, " n"],
    *,
    most: int,
    sparsity: float,
    before: Float[Tensor, " n"] | None,
) -> Int[Tensor, " m"]:
    """Positions of the samples that `enter` lets in, best first."""
    size, mean = int(inside.sum()), 0.0
    if weights is not None:
        gains = marginal_gain(slopes, weights, sparsity=sparsity)
        mean = float((weights.values * gains)[inside].sum())
    summed = -slopes.double() + (0.0 if before is None else before.double())
    value = torch.where(inside | (summed <= 0), -math.inf, -slopes.double())
    order = torch.sort(value, descending=True, stable=True).indices[: min(most, len(slopes) - size)]
    return order[value[order] - sparsity * math.sqrt(size + max(1, len(order))) > mean]


def prune(weights: Weights, *, below: float) -> Weights:
    """Sets weights under below/n to zero and renormalizes; the largest weight always stays."""
    threshold = min(below / len(weights.values), float(weights.values.max()))
    return Weights.normalize(torch.where(weights.values >= threshold, weights.values, 0.0))


def _mask(positions: Tensor, n: int) -> Bool[Tensor, " n"]:
    return torch.zeros(n, dtype=torch.bool).index_fill(0, positions, True)


def check_count(k: int, n: int) -> None:
    """Refuses a K that is no number of samples.

    Raises:
        ConfigError: if K is not between 1 and n.
    """
    if not 1 <= k <= n:
        raise ConfigError(f"K must be between 1 and {n}, the number of samples; got {k}.")
