"""Slopes of all samples in batched passes, one by one, and what checks them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from u2a_core import params
from u2a_core.directional.contraction import evaluating, scoring, wide
from u2a_core.errors import ConfigError
from u2a_core.losses import response_log_probs
from u2a_core.types import Batch, PerSampleLoss

if TYPE_CHECKING:
    from u2a_core.types import Parameters


def slopes(
    model: nn.Module, batches: Iterable[Batch], loss: PerSampleLoss, *, along: Parameters
) -> Float[Tensor, " n"]:
    """⟨∇ℓ_k, v⟩ of every sample, in one batched pass.

    Args:
        model: its trainable parameters span the space of v.
        batches: right-padded; `index` places each row's slope in the result. Read one by one, so
            that whoever makes them sees how far the pass is.
        loss: ℓ, one value per row.
        along: v, trainable parameter name → tensor.

    Returns:
        One slope per sample, in sample order, float32 at least. Positive: ℓ_k grows along v.

    Raises:
        ConfigError: if `along` does not match the trainable parameters.
    """
    return slopes_along(model, batches, loss, [along])[0]


def slopes_along(
    model: nn.Module, batches: Iterable[Batch], loss: PerSampleLoss, along: Sequence[Parameters]
) -> Float[Tensor, "d n"]:
    """`slopes` along several directions, in one forward and one backward pass.

    A batch is let go once it is scored, unless its slopes are not whole.
    """
    for direction in along:
        _check_direction(model, direction)
    held: dict[int, Batch] = {}
    pieces: list[Tensor] = []
    index: list[Tensor] = []
    with scoring(model, along) as contraction:
        for number, batch in enumerate(batches):
            pieces.append(contraction.run(model, batch, loss))
            index.append(batch.index)
            held[number] = batch
            missing = contraction.uncovered()
            if not missing:
                held.clear()
    if held:
        warnings.warn(
            f"Slopes of {len(missing)} parameters cannot be contracted (first: {missing[0]}); "
            "using the exact per-sample loop, which is slower.",
            stacklevel=2,
        )
        theta = params.trainable(model)
        with evaluating(model):
            for number, batch in held.items():
                pieces[number] = _one_by_one(model, theta, batch, loss, along)
    return _in_order(pieces, index)


def exact_slopes(
    model: nn.Module, batches: Iterable[Batch], loss: PerSampleLoss, *, along: Parameters
) -> Float[Tensor, " n"]:
    """The same numbers by one gradient per sample: slow, and obviously right."""
    _check_direction(model, along)
    theta, pieces, index = params.trainable(model), [], []
    with evaluating(model):
        for batch in batches:
            pieces.append(_one_by_one(model, theta, batch, loss, [along]))
            index.append(batch.index)
    return _in_order(pieces, index)[0]


def _one_by_one(
    model: nn.Module,
    theta: Parameters,
    batch: Batch,
    loss: PerSampleLoss,
    along: Sequence[Parameters],
) -> Float[Tensor, "d b"]:
    rows = [batch.select(batch.index == i) for i in batch.index]
    gradients = (params.gradient(loss(response_log_probs(model, row)).sum(), theta) for row in rows)
    values = [[params.dot(gradient, v) for v in along] for gradient in gradients]
    dtype = wide(along[0][next(iter(theta))].dtype)
    return torch.tensor(values, dtype=dtype, device=batch.index.device).T


def identity_error(
    model: nn.Module,
    batches: Iterable[Batch],
    loss: PerSampleLoss,
    *,
    along: Parameters,
    slopes: Float[Tensor, " n"],
) -> float:
    """|Σ_k s_k − v·∇Σ_k ℓ_k| / Σ_k |s_k|: one plain backward pass checks all slopes at once."""
    theta = params.trainable(model)
    expected = 0.0
    with evaluating(model):
        for batch in batches:
            total = loss(response_log_probs(model, batch)).sum()
            expected += params.dot(params.gradient(total, theta), along)
    scale = float(slopes.double().abs().sum())
    return abs(float(slopes.double().sum()) - expected) / scale if scale > 0 else abs(expected)


def _in_order(pieces: list[Tensor], index: list[Tensor]) -> Float[Tensor, "d n"]:
    return torch.cat(pieces, dim=1)[:, torch.argsort(torch.cat(index))]


def _check_direction(model: nn.Module, along: Parameters) -> None:
    theta = params.trainable(model)
    wrong = sorted(set(theta) ^ set(along))
    if not wrong:
        wrong = [name for name, p in theta.items() if along[name].shape != p.shape]
    if wrong:
        raise ConfigError(
            "`along` must have a tensor of the same shape for every trainable parameter, and no "
            f"other; got {len(wrong)} that differ (first: {wrong[0]}). Use params.trainable(model)."
        )
