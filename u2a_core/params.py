"""Algebra on named parameter sets: the vectors of this project are dicts name → tensor.

Inner products are accumulated in float32 at least, whatever the parameters' own dtype.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from u2a_core.errors import NumericalError

if TYPE_CHECKING:
    from u2a_core.types import Parameters


def trainable(model: nn.Module) -> Parameters:
    """The parameters that require a gradient, by name: θ. The tensors are the model's own."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def distinct(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Each piece of memory once: a head may be a parameter of its own in the embedding's memory."""
    return list({place(tensor): tensor for tensor in tensors}.values())


def place(tensor: Tensor) -> tuple[int, int]:
    """Which piece of memory a living tensor has; also of one without data."""
    return tensor.untyped_storage()._cdata, int(tensor.storage_offset())


@contextmanager
def training(model: nn.Module, names: Collection[str]) -> Iterator[None]:
    """While open, the named parameters and no others require a gradient: they are θ."""
    before = {name: p.requires_grad for name, p in model.named_parameters()}
    try:
        for name, p in model.named_parameters():
            p.requires_grad_(name in names)
        yield
    finally:
        for name, p in model.named_parameters():
            p.requires_grad_(before[name])


def snapshot(point: Parameters) -> Parameters:
    """A detached copy."""
    return {name: tensor.detach().clone() for name, tensor in point.items()}


@torch.no_grad()
def load(model: nn.Module, point: Parameters) -> None:
    """Put θ into the model, in place."""
    own = dict(model.named_parameters())
    for name, tensor in point.items():
        own[name].copy_(tensor)


@contextmanager
def standing_at(model: nn.Module, point: Parameters) -> Iterator[None]:
    """While open, the model stands at another θ, which costs one copy of θ."""
    here = snapshot({name: p for name, p in model.named_parameters() if name in point})
    load(model, point)
    try:
        yield
    finally:
        load(model, here)


def dot(a: Parameters, b: Parameters) -> float:
    """⟨a, b⟩."""
    total = 0.0
    for name, tensor in a.items():
        wide = torch.promote_types(tensor.dtype, torch.float32)
        total += float((tensor.to(wide) * b[name].to(wide)).sum())
    return total


def norm(a: Parameters) -> float:
    """‖a‖₂."""
    return math.sqrt(dot(a, a))


def scale(a: Parameters, factor: float) -> Parameters:
    """Factor · a."""
    return {name: tensor * factor for name, tensor in a.items()}


def axpy(factor: float, a: Parameters, b: Parameters) -> Parameters:
    """Factor · a + b."""
    return {name: b[name] + factor * tensor for name, tensor in a.items()}


def gradient(value: Tensor, point: Parameters) -> Parameters:
    """∇value at θ; zero for a parameter that `value` does not depend on."""
    grads = torch.autograd.grad(value, list(point.values()), allow_unused=True)
    return {
        name: torch.zeros_like(p) if g is None else g.detach()
        for (name, p), g in zip(point.items(), grads, strict=True)
    }


def accumulate(total: Parameters | None, part: Parameters) -> Parameters:
    """Total + part in place; `part` itself where there is no total yet."""
    if total is None:
        return part
    for name, tensor in part.items():
        total[name].add_(tensor)
    return total


def hessian_vector_product(
    gradient_at: Callable[[Parameters], Parameters],
    point: Parameters,
    direction: Parameters,
    *,
    step: float | None = None,
) -> Parameters:
    """Hv by the central difference of two gradients; works under any attention kernel.

    Args:
        gradient_at: θ → ∇f(θ).
        point: θ.
        direction: v.
        step: ε relative to (1 + ‖θ‖) / ‖v‖; default by the parameters' dtype.

    Returns:
        (∇f(θ + εv) − ∇f(θ − εv)) / 2ε, with an error of order ε².

    Raises:
        NumericalError: if the norms leave no finite ε above 0.
    """
    length = norm(direction)
    if length == 0:
        return {name: torch.zeros_like(tensor) for name, tensor in direction.items()}
    wide = all(tensor.dtype == torch.float64 for tensor in point.values())
    step = step or (1e-5 if wide else 1e-3)
    epsilon = step * (1 + norm(point)) / length
    if not 0 < epsilon < math.inf:  # also catches NaN
        raise NumericalError(
            f"A Hessian-vector product must have a finite direction; got ‖v‖ = {length:.3g} at "
            f"‖θ‖ = {norm(point):.3g}. Lower the learning rate, or raise inner.lam."
        )
    ahead = dict(gradient_at(axpy(epsilon, direction, point)))
    behind = dict(gradient_at(axpy(-epsilon, direction, point)))
    # taken out one by one, so that two vectors and not four are there at a time
    return {name: (ahead.pop(name) - behind.pop(name)) * (0.5 / epsilon) for name in list(ahead)}
