"""Log-probabilities of replies, the unlearning losses ℓ_i, the retain loss, and their weighted sum.

The losses are Eq. 2's L_F before any reduction: one value per sample. Lower = better forgotten.
`weighted_loss` is the only function of the project that multiplies losses by ω (Eq. 3).

Memory: the vocabulary projection and the log-softmax see response positions only, and where those
are many, `TOGETHER` logits at a time, which a backward pass computes again. What a model does to
its logits (a soft cap, a scale) is done by its own forward pass: a hook gathers the rows of the
output embedding's input; for parts, the model's trunk is made to return a part of its states.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from u2a_core.errors import NumericalError
from u2a_core.types import Batch, PerSampleLoss, TokenLogProbs

IGNORED = -100
"""Label of positions that belong to no response."""
TOGETHER = 2**25
"""Logits at a time: 128 MiB in float32, a few times that in a backward pass."""


def output_embedding(model: nn.Module) -> nn.Module | None:
    """The module that maps hidden states to logits, where the model names one."""
    named = getattr(model, "get_output_embeddings", None)
    found = named() if named is not None else None
    return found if isinstance(found, nn.Module) else None


@contextmanager
def projecting_only(head: nn.Module, positions: Int[Tensor, " tokens"]) -> Iterator[None]:
    """While open, `head` sees only the given positions of its input, as (1, tokens, h)."""

    def gather(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden = inputs[0]
        return (hidden.reshape(1, -1, hidden.shape[-1])[:, positions], *inputs[1:])

    hook = head.register_forward_pre_hook(gather)
    try:
        yield
    finally:
        hook.remove()


def response_positions(labels: Int[Tensor, "b t"]) -> Int[Tensor, " tokens"]:
    """Flat positions b·t + j whose logits predict a response token."""
    predicts = F.pad(labels[:, 1:], (0, 1), value=IGNORED) != IGNORED
    return predicts.flatten().nonzero().squeeze(1)


def response_log_probs(model: nn.Module, batch: Batch) -> TokenLogProbs:
    """Log π(y_t | x, y_<t) of every response token of a batch, in float32.

    The model is run without an attention mask: with right padding a causal model's response
    positions never see padding, and the fused causal kernels stay in use.

    Raises:
        NumericalError: if a row has no response token.
    """
    positions = response_positions(batch.labels)
    rows = positions // batch.labels.shape[1]
    counts = torch.bincount(rows, minlength=len(batch.labels))
    if int(counts.min()) == 0:
        raise NumericalError(
            "Every row must have a response token; got a row without one. "
            "Drop samples whose response is empty or truncated away."
        )
    targets = batch.labels[:, 1:][batch.labels[:, 1:] != IGNORED]
    values = token_log_probs(model, batch.input_ids, positions, targets)
    return TokenLogProbs(values=values, rows=rows, counts=counts, index=batch.index)


def token_log_probs(
    model: nn.Module,
    input_ids: Int[Tensor, "b t"],
    positions: Int[Tensor, " tokens"],
    targets: Int[Tensor, " tokens"],
) -> Float[Tensor, " tokens"]:
    """Log π of the target that follows each flat position b·t + j."""
    head, trunk = output_embedding(model), _trunk(model)
    if head is None:
        return _picked(model(input_ids=input_ids).logits.flatten(0, 1)[positions], targets)
    together = max(1, TOGETHER // _vocabulary(head))
    if trunk is None or len(positions) <= together:
        with projecting_only(head, positions):
            return _picked(model(input_ids=input_ids, use_cache=False).logits[0], targets)
    out = trunk(input_ids=input_ids, use_cache=False)
    states, kind = out.last_hidden_state, type(out)
    states = states.reshape(1, -1, states.shape[-1])[:, positions]

    def part(some: Tensor, wanted: Tensor) -> Tensor:
        with _returning(trunk, kind(last_hidden_state=some)):
            return _picked(model(input_ids=input_ids, use_cache=False).logits[0], wanted)

    parts = []
    for first in range(0, len(positions), together):
        some, wanted = states[:, first : first + together], targets[first : first + together]
        parts.append(checkpoint(part, some, wanted, use_reentrant=False, preserve_rng_state=False))
    return torch.cat(parts)


def _picked(
    logits: Float[Tensor, "tokens v"], targets: Int[Tensor, " tokens"]
) -> Float[Tensor, " tokens"]:
    precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return -F.cross_entropy(precise, targets, reduction="none")


def _vocabulary(head: nn.Module) -> int:
    """V; a quantized weight's shape is not its own."""
    weight: Any = head.weight
    return int(getattr(head, "out_features", None) or weight.shape[0])


def _trunk(model: Any) -> nn.Module | None:
    """A transformers model without its head, where it has one; adapters lie within both."""
    whole = model.get_base_model() if hasattr(model, "get_base_model") else model
    found = getattr(whole, "base_model", None)
    return found if isinstance(found, nn.Module) and found is not whole else None


@contextmanager
def _returning(module: nn.Module, out: Any) -> Iterator[None]:
    """While open, the module computes nothing and returns `out`."""
    own = vars(module).get("forward")
    vars(module)["forward"] = lambda *_, **__: out
    try:
        yield
    finally:
        del vars(module)["forward"]
        if own is not None:
            vars(module)["forward"] = own


@dataclass(frozen=True)
class GradientAscent:
    """GA: ℓ = mean_t log π(y_t), so that descending on ℓ is ascending on the likelihood loss."""

    def __call__(self, log_probs: TokenLogProbs) -> Float[Tensor, " b"]:
        """The mean response-token log-probability of each row."""
        return log_probs.means()


@dataclass(frozen=True)
class NPO:
    """Negative preference optimization (arXiv 2404.05868), per response token.

    ℓ = (2/β)·softplus(β·(log π(y|x) − log π_ref(y|x))) / T with log π the *sequence sum*; divided
    by T so that at the reference its gradient is GA's.

    Attributes:
        npo_beta: β > 0; as β → 0 the gradient tends to GA's.
        reference_log_probs: log π_ref(y|x) of every sample of the set, constants.
    """

    npo_beta: float
    reference_log_probs: Float[Tensor, " n"]

    def __call__(self, log_probs: TokenLogProbs) -> Float[Tensor, " b"]:
        """The NPO loss of each row."""
        sums = log_probs.sums()
        reference = self.reference_log_probs.to(sums)[log_probs.index]
        return 2 / self.npo_beta * F.softplus(self.npo_beta * (sums - reference)) / log_probs.counts


@dataclass(frozen=True)
class SimNPO:
    """Simple negative preference optimization (arXiv 2410.07163): NPO without a reference.

    ℓ = −(2/β)·log σ(β·NLL/T) with NLL/T the mean over response tokens; the paper's margin δ is 0.
    A reply that has been forgotten (NLL/T ≫ 1/β) has no gradient any more.

    Attributes:
        simnpo_beta: β > 0.
    """

    simnpo_beta: float

    def __call__(self, log_probs: TokenLogProbs) -> Float[Tensor, " b"]:
        """The SimNPO loss of each row."""
        return -2 / self.simnpo_beta * F.logsigmoid(-self.simnpo_beta * log_probs.means())


@dataclass(frozen=True)
class NegativeLogLikelihood:
    """ℓ = −mean_t log π(y_t): the retain loss, and the loss of supervised fine-tuning."""

    def __call__(self, log_probs: TokenLogProbs) -> Float[Tensor, " b"]:
        """The mean response-token NLL of each row."""
        return -log_probs.means()


def sequence_log_probs(model: nn.Module, batches: Iterable[Batch]) -> Float[Tensor, " n"]:
    """Log π(y|x) of every sample, without gradient, in sample order."""
    return _collect(model, batches, TokenLogProbs.sums)


def per_sample_losses(
    model: nn.Module, batches: Iterable[Batch], loss: PerSampleLoss
) -> Float[Tensor, " n"]:
    """ℓ_i of every sample, without gradient, in sample order."""
    return _collect(model, batches, loss)


def _collect(model: nn.Module, batches: Iterable[Batch], value: Any) -> Float[Tensor, " n"]:
    found: list[Tensor] = []
    index: list[Tensor] = []
    with torch.no_grad():
        for batch in batches:
            found.append(value(response_log_probs(model, batch)))
            index.append(batch.index)
    values = torch.cat(found)
    return torch.empty_like(values).scatter_(0, torch.cat(index), values)


def weighted_loss(
    losses: Float[Tensor, " b"], weights: Float[Tensor, " n"], index: Int[Tensor, " b"]
) -> Float[Tensor, ""]:
    """Σ_i ω_i ℓ_i over the rows of a batch (Eq. 3): the one place where ω multiplies losses."""
    return (weights.to(losses)[index] * losses).sum()
