"""The hooks that contract slopes, while one forward and one backward pass go by.

No weight gradient and no per-sample gradient is formed. Every module that owns a trainable
parameter contributes

    s_k += Σ_positions (∂Σℓ/∂output) · (∂output/∂ε as its parameters move along v, input fixed),

contracted in a hook on its output. It needs no attention mask, runs under any attention kernel and
adapter, and does no work below the lowest trained module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from u2a_core import params
from u2a_core.losses import output_embedding, response_log_probs, response_positions
from u2a_core.types import Batch, PerSampleLoss

if TYPE_CHECKING:
    from u2a_core.types import Parameters


@dataclass
class Contraction:
    """Collects s_k of the batch in hand from the hooks, a row for each direction."""

    directions: dict[int, list[Tensor]]
    names: dict[int, str]
    batch: Batch | None = None
    rows: Tensor | None = None
    total: Tensor | None = None
    covered: set[int] = field(default_factory=set)
    misfits: set[int] = field(default_factory=set)
    projected: dict[nn.Module, int] = field(default_factory=dict)
    contracting: bool = False
    again: bool = False

    def run(self, model: nn.Module, batch: Batch, loss: PerSampleLoss) -> Float[Tensor, "d b"]:
        """One batch: forward, and backward through the activations."""
        self.begin(batch, response_positions(batch.labels) // batch.labels.shape[1])
        with torch.enable_grad():
            return self.contract(loss(response_log_probs(model, batch)).sum())

    def begin(self, batch: Batch, rows: Int[Tensor, " tokens"]) -> None:
        """Before a batch's forward pass; `rows` are those of its response tokens."""
        self.batch, self.rows = batch, rows
        first = next(iter(self.directions.values()))
        shape, dtype = (len(first), len(batch.index)), wide(first[0].dtype)
        self.total = torch.zeros(shape, dtype=dtype, device=batch.index.device)
        self.projected.clear()

    def contract(self, value: Float[Tensor, ""]) -> Float[Tensor, "d b"]:
        """The backward pass from the batch's summed loss: s_k along each direction."""
        assert self.total is not None
        self.again = True  # what is called from here on is a part of the projection, once more
        if value.requires_grad:
            torch.autograd.backward(value)
        self.again = False
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

    def next_rows(self, module: nn.Module, output: Tensor) -> Tensor:
        """The batch row of each response token in a module of the head's next (1, tokens, …)."""
        assert self.rows is not None
        start = self.projected.get(module, 0)
        self.projected[module] = start + output.shape[1]
        return self.rows[start : start + output.shape[1]]

    def add(self, number: int, per_position: Tensor, owned: list[int], rows: Tensor | None) -> None:
        """Sums one direction's contracted values by row.

        They are (b, t), with heads (b, t, heads) or (b, heads, t); of the output embedding (1, some
        response tokens), whose `rows` of the batch are given.
        """
        assert self.batch is not None and self.total is not None
        count, tokens = self.batch.input_ids.shape
        of_all = per_position.shape[:1] == (count,) and tokens in per_position.shape[1:3]
        if rows is not None and per_position.shape == (1, len(rows)):
            self.total[number].index_add_(0, rows, per_position[0].to(self.total))
        elif rows is None and of_all:
            self.total[number] += per_position.flatten(1).sum(1).to(self.total)
        else:
            self.misfits.update(owned)


@contextmanager
def scoring(model: nn.Module, along: Sequence[Parameters]) -> Iterator[Contraction]:
    """While open: parameters need no gradient, and the owners of trainable ones are hooked."""
    theta = params.trainable(model)
    contraction = Contraction(
        directions={id(p): [v[name].to(p) for v in along] for name, p in theta.items()},
        names={id(p): name for name, p in theta.items()},
    )
    head = output_embedding(model)
    projecting = set() if head is None else set(head.modules())
    with ExitStack() as stack:
        stack.enter_context(evaluating(model))
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
                hook = module.register_forward_hook(
                    _hook(contraction, own, keys, of_head=module in projecting), with_kwargs=True
                )
                stack.callback(hook.remove)
        yield contraction


def _hook(
    contraction: Contraction, own: dict[str, list[Tensor]], keys: list[int], *, of_head: bool
) -> Callable[..., Tensor | None]:
    """Contracts a module's output gradient with its tangent once the backward pass gets there.

    `of_head`: its output has a row for each response token, maybe in parts; else an output of one
    row stands for all rows of the batch (learned positions).
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
        if not of_head:
            output = contraction.per_row(output)
        if not output.requires_grad:
            output = output.detach().requires_grad_()
        hooked: Tensor = output
        if contraction.again:
            return hooked
        rows = contraction.next_rows(module, output) if of_head else None
        inputs = tuple(a.detach() if isinstance(a, Tensor) else a for a in args)

        def backward(gradient: Tensor) -> None:
            contraction.contracting = True
            with torch.no_grad():
                for number, tangents in enumerate(zip(*own.values(), strict=True)):
                    along = dict(zip(own, tangents, strict=True))
                    values = _contract(module, inputs, kwargs, along, gradient)
                    contraction.add(number, values, keys, rows)
            contraction.contracting = False

        output.register_hook(backward)
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
    precise = wide(gradient.dtype)
    return (gradient.to(precise) * tangent.to(precise)).sum(-1)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """While open: no dropout."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def wide(dtype: torch.dtype) -> torch.dtype:
    """Of sums: float32 at least."""
    return torch.promote_types(dtype, torch.float32)
