"""⟨∇ℓ_k, v⟩ for all samples: the directional derivatives of all per-sample losses along one v.

One forward and one backward pass through the activations per batch; no weight gradient and no
per-sample gradient is formed. Every module that owns a trainable parameter contributes

    s_k += Σ_positions (∂Σℓ/∂output) · (∂output/∂ε as its parameters move along v, input fixed),

contracted in a hook on its output. It needs no attention mask, runs under any attention kernel and
adapter, and does no work below the lowest trained module. `exact_slopes` is the per-sample loop:
the checker, and the automatic fallback where a parameter is used outside its own module.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from u2a_core import params
from u2a_core.errors import ConfigError
from u2a_core.losses import output_embedding, response_log_probs, response_positions
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
    """`slopes` along several directions, in one forward and one backward pass."""
    for direction in along:
        _check_direction(model, direction)
    held: list[Batch] = []
    pieces: list[Tensor] = []
    with _scoring(model, along) as contraction:
        for batch in batches:
            held.append(batch)
            pieces.append(contraction.run(model, batch, loss))
        missing = contraction.uncovered()
    if missing:
        warnings.warn(
            f"Slopes of {len(missing)} parameters cannot be contracted (first: {missing[0]}); "
            "using the exact per-sample loop, which is slower.",
            stacklevel=2,
        )
        return _exact_slopes_along(model, held, loss, along)
    return _in_order(pieces, held)


def exact_slopes(
    model: nn.Module, batches: Iterable[Batch], loss: PerSampleLoss, *, along: Parameters
) -> Float[Tensor, " n"]:
    """The same numbers by one gradient per sample: slow, and obviously right."""
    _check_direction(model, along)
    return _exact_slopes_along(model, batches, loss, [along])[0]


def _exact_slopes_along(
    model: nn.Module, batches: Iterable[Batch], loss: PerSampleLoss, along: Sequence[Parameters]
) -> Float[Tensor, "d n"]:
    theta = params.trainable(model)
    held = list(batches)
    pieces = []
    with _evaluating(model):
        for batch in held:
            rows = [batch.select(batch.index == i) for i in batch.index]
            gradients = (
                params.gradient(loss(response_log_probs(model, row)).sum(), theta) for row in rows
            )
            values = [[params.dot(gradient, v) for v in along] for gradient in gradients]
            found = torch.tensor(values, dtype=_wide(model), device=batch.index.device)
            pieces.append(found.T)
    return _in_order(pieces, held)


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
    with _evaluating(model):
        for batch in batches:
            total = loss(response_log_probs(model, batch)).sum()
            expected += params.dot(params.gradient(total, theta), along)
    scale = float(slopes.double().abs().sum())
    return abs(float(slopes.double().sum()) - expected) / scale if scale > 0 else abs(expected)


@dataclass
class _Contraction:
    """Collects s_k of the batch in hand from the hooks, a row for each direction."""

    directions: dict[int, list[Tensor]]
    names: dict[int, str]
    batch: Batch | None = None
    rows: Tensor | None = None
    total: Tensor | None = None
    covered: set[int] = field(default_factory=set)
    misfits: set[int] = field(default_factory=set)
    contracting: bool = False

    def run(self, model: nn.Module, batch: Batch, loss: PerSampleLoss) -> Float[Tensor, "d b"]:
        """One batch: forward, and backward through the activations."""
        self.batch = batch
        self.rows = response_positions(batch.labels) // batch.labels.shape[1]
        shape = (len(next(iter(self.directions.values()))), len(batch.index))
        self.total = torch.zeros(shape, dtype=_wide(model), device=batch.index.device)
        with torch.enable_grad():
            value = loss(response_log_probs(model, batch)).sum()
        if value.requires_grad:
            torch.autograd.backward(value)
        return self.total

    def uncovered(self) -> list[str]:
        """Parameters whose slope would be missing."""
        lost = (set(self.directions) - self.covered) | self.misfits
        return [self.names[key] for key in lost]

    def per_row(self, output: Tensor) -> Tensor:
        """An output that all rows share, (1, t, …), given to each: (b, t, …)."""
        assert self.batch is not None
        rows, tokens = self.batch.input_ids.shape
        return output.expand(rows, *output.shape[1:]) if output.shape[:2] == (1, tokens) else output

    def add(self, number: int, per_position: Tensor, owned: list[int]) -> None:
        """Sums contracted values by row: (b, t), heads before or behind t, or (1, responses)."""
        assert self.batch is not None and self.total is not None and self.rows is not None
        rows, tokens = self.batch.input_ids.shape
        if per_position.shape[:1] == (rows,) and tokens in per_position.shape[1:3]:
            self.total[number] += per_position.flatten(1).sum(1).to(self.total)
        elif per_position.shape == (1, len(self.rows)):
            self.total[number].index_add_(0, self.rows, per_position[0].to(self.total))
        else:
            self.misfits.update(owned)


@contextmanager
def _scoring(model: nn.Module, along: Sequence[Parameters]) -> Iterator[_Contraction]:
    """While open: parameters need no gradient, and the owners of trainable ones are hooked."""
    theta = params.trainable(model)
    contraction = _Contraction(
        directions={id(p): [v[name].to(p) for v in along] for name, p in theta.items()},
        names={id(p): name for name, p in theta.items()},
    )
    with ExitStack() as stack:
        stack.enter_context(_evaluating(model))
        for parameter in theta.values():
            parameter.requires_grad_(False)
            stack.callback(parameter.requires_grad_, True)
        for module in model.modules():
            own = {
                name: contraction.directions[id(p)]
                for name, p in module.named_parameters(recurse=False)
                if id(p) in contraction.directions
            }
            if own:
                keys = [id(getattr(module, name)) for name in own]
                shared = module is not output_embedding(model)
                hook = module.register_forward_hook(
                    _hook(contraction, own, keys, shared=shared), with_kwargs=True
                )
                stack.callback(hook.remove)
        yield contraction


def _hook(
    contraction: _Contraction, own: dict[str, list[Tensor]], keys: list[int], *, shared: bool
) -> Callable[..., Tensor | None]:
    """Contracts a module's output gradient with its tangent once the backward pass gets there.

    `shared`: an output of one row stands for all rows of the batch (learned positions).
    """

    def forward(
        module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> Tensor | None:
        if contraction.contracting:  # called again for its tangent
            return None
        if not isinstance(output, Tensor):
            contraction.misfits.update(keys)
            return None
        contraction.covered.update(keys)
        if shared:
            output = contraction.per_row(output)
        if not output.requires_grad:
            output = output.detach().requires_grad_()
        inputs = tuple(a.detach() if isinstance(a, Tensor) else a for a in args)

        def backward(gradient: Tensor) -> None:
            contraction.contracting = True
            with torch.no_grad():
                for number, tangents in enumerate(zip(*own.values(), strict=True)):
                    along = dict(zip(own, tangents, strict=True))
                    contraction.add(
                        number, _contract(module, inputs, kwargs, along, gradient), keys
                    )
            contraction.contracting = False

        output.register_hook(backward)
        hooked: Tensor = output
        return hooked

    return forward


def _contract(
    module: nn.Module,
    inputs: tuple[Any, ...],
    kwargs: dict[str, Any],
    own: dict[str, Tensor],
    gradient: Tensor,
) -> Tensor:
    """G · τ at every position, τ the module's output tangent; products in float32 at least."""
    if type(module) is nn.Linear:
        weight = own.get("weight")
        bias = own.get("bias")
        tangent = torch.zeros_like(gradient) if weight is None else F.linear(inputs[0], weight)
        tangent = tangent if bias is None else tangent + bias
    elif type(module) is nn.Embedding:
        tangent = F.embedding(inputs[0], own["weight"])
    else:  # norms, GPT-2's transposed layers, Gemma's scaled embedding, learned positions
        primal = {name: getattr(module, name).detach() for name in own}
        tangent = torch.func.jvp(
            lambda point: torch.func.functional_call(module, point, inputs, kwargs),
            (primal,),
            (own,),
        )[1]
    if isinstance(module, nn.Embedding) and module.padding_idx is not None:  # it has no gradient
        tangent = tangent * (inputs[0] != module.padding_idx).unsqueeze(-1)
    wide = torch.promote_types(gradient.dtype, torch.float32)
    return (gradient.to(wide) * tangent.to(wide)).sum(-1)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """While open: no dropout."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _in_order(pieces: list[Tensor], batches: list[Batch]) -> Float[Tensor, "d n"]:
    index = torch.cat([batch.index for batch in batches])
    return torch.cat(pieces, dim=1)[:, torch.argsort(index)]


def _wide(model: nn.Module) -> torch.dtype:
    return torch.promote_types(next(model.parameters()).dtype, torch.float32)


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
