"""The vocabulary: records that travel between the modules. No torch at run time, no files.

Letters of shapes: n samples, b rows of a batch, t tokens of a row, p prompts, d directions.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

from u2a_core.errors import NumericalError

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor, nn

    Parameters: TypeAlias = dict[str, Tensor]
    """Named tensors in the space of trainable parameters: a point θ, a gradient, a direction."""

Role: TypeAlias = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


Prompt: TypeAlias = tuple[Message, ...]
"""What the policy is asked: the turns before the reply; the last one is the user's."""

Reward: TypeAlias = Callable[[Sequence[Prompt], Sequence[str]], Sequence[float]]
"""r(x, y): prompts, as turns, and replies in, one score a pair out; higher is better."""


def user_prompt(text: str) -> Prompt:
    """A one-turn prompt."""
    return (Message("user", text),)


def prompt_text(prompt: Prompt) -> str:
    """The prompt as one string, as tables and functions see it: its turns' contents in lines."""
    return "\n".join(message.content for message in prompt)


@dataclass(frozen=True)
class Sample:
    """A reply to a prompt: a negative sample, or a sample of the retain set."""

    id: str
    prompt: Prompt
    response: str
    kind: str = ""


@dataclass(frozen=True)
class PreferencePair:
    """Two replies to one prompt, of which `chosen` is the better."""

    prompt: Prompt
    chosen: str
    rejected: str


@dataclass(frozen=True)
class Fault:
    """A record that was dropped while loading, why, and how it begins."""

    line: int
    reason: str
    text: str = ""


@dataclass(frozen=True)
class NegativeSet:
    """The candidates to unlearn, in file order, with what loading them found.

    Attributes:
        samples: the usable samples; ids are unique.
        faults, duplicates: records, and exact repetitions, that were dropped.
        sha256: of ids and texts: the identity of the set.
    """

    samples: tuple[Sample, ...]
    faults: tuple[Fault, ...] = ()
    duplicates: int = 0
    sha256: str = ""

    def __len__(self) -> int:
        """The number of usable samples, n."""
        return len(self.samples)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Right-padded token rows with response-only labels.

    Attributes:
        input_ids: token ids.
        attention_mask: 1 on tokens, 0 on padding; models run without it, being causal.
        labels: the token id where it belongs to the response, −100 elsewhere (not shifted).
        index: position of each row's sample in its set.
    """

    input_ids: Int[Tensor, "b t"]
    attention_mask: Int[Tensor, "b t"]
    labels: Int[Tensor, "b t"]
    index: Int[Tensor, " b"]

    def to(self, device: Any) -> Batch:
        """The same batch on another device."""
        return Batch(**{f.name: getattr(self, f.name).to(device) for f in dataclasses.fields(self)})

    def select(self, keep: Bool[Tensor, " b"]) -> Batch:
        """The rows where `keep` holds (at least one), trimmed to their longest."""
        keep = keep.to(self.index.device)
        width = int(self.attention_mask[keep].sum(1).max())
        return Batch(
            input_ids=self.input_ids[keep, :width],
            attention_mask=self.attention_mask[keep, :width],
            labels=self.labels[keep, :width],
            index=self.index[keep],
        )


@dataclass(frozen=True)
class TokenLogProbs:
    """log π(y_t | x, y_<t) at the response positions of a batch, row after row.

    Attributes:
        values: one value a response token, float32.
        rows: the batch row of each value.
        counts: response tokens per row, T.
        index: position of each row's sample in its set.
    """

    values: Float[Tensor, " tokens"]
    rows: Int[Tensor, " tokens"]
    counts: Int[Tensor, " b"]
    index: Int[Tensor, " b"]

    def sums(self) -> Float[Tensor, " b"]:
        """Σ_t log π(y_t): log π(y | x) of each row."""
        return self.values.new_zeros(len(self.counts)).index_add(0, self.rows, self.values)

    def means(self) -> Float[Tensor, " b"]:
        """The mean over response tokens, of each row."""
        return self.sums() / self.counts


@runtime_checkable
class PerSampleLoss(Protocol):
    """ℓ_i(θ): log-probabilities of a batch in, one loss a row out; never reduced."""

    def __call__(self, log_probs: TokenLogProbs, /) -> Float[Tensor, " b"]:
        """The loss of each row."""
        ...


@dataclass(frozen=True)
class Weights:
    """Unlearning weights ω on the simplex, one per negative sample.

    Raises:
        NumericalError: if a weight is negative or not finite, or the sum is not 1.
    """

    values: Float[Tensor, " n"]

    def __post_init__(self) -> None:
        low, total = float(self.values.min()), float(self.values.sum())
        if not (low >= 0 and abs(total - 1) < 1e-6):  # also catches NaN
            raise NumericalError(
                "Weights must be non-negative and sum to 1; "
                f"got min={low:.3g}, sum={total:.9g}. Use Weights.normalize."
            )

    @classmethod
    def normalize(cls, raw: Float[Tensor, " n"]) -> Weights:
        """Non-negative numbers divided by their sum, in float64."""
        raw = raw.double()
        return cls(raw / raw.sum())

    @property
    def support(self) -> Bool[Tensor, " n"]:
        """Where ω > 0."""
        return self.values > 0

    def effective_samples(self) -> float:
        """1/Σω²: how many samples share the weight; n when uniform, 1 when one has all."""
        return 1.0 / float(self.values.square().sum())


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval over n independent units."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Solve:
    """u ≈ H⁻¹b, and how far to trust it.

    Attributes:
        value: u.
        residual: ‖Hu − b‖ / ‖b‖.
        steps: iterations used; 0 for a closed form.
        converged: whether the residual met the tolerance.
        min_curvature: the smallest pᵀHp / pᵀp met; negative: H is indefinite.
        neglected: relative residual that what is left out of H, or damping, leaves; NaN unmeasured.
        damping: δ that was added to H's diagonal.
    """

    value: Parameters
    residual: float
    steps: int
    converged: bool
    min_curvature: float
    neglected: float = math.nan
    damping: float = 0.0

    def facts(self) -> dict[str, Any]:
        """What a report says of the solve: all but its value."""
        return {name: found for name, found in vars(self).items() if name != "value"}


@dataclass(frozen=True)
class GainReport:
    """What one scoring pass at θ says about every negative sample.

    Attributes:
        slopes: ⟨H⁻¹∇J, ∇ℓ_k⟩.
        gains: Δg(k) of Eq. 8; positive = more weight on k helps alignment.
        objective: J(θ).
        solve: how H⁻¹∇J was found.
        errors: standard errors of the gains over so many `parts` of J's prompts; NaN without.
        identity_error: |Σ_k s_k − v·∇Σ_k ℓ_k| relative to Σ_k |s_k|; NaN where not checked.
    """

    slopes: Float[Tensor, " n"]
    gains: Float[Tensor, " n"]
    objective: Estimate
    solve: Solve
    errors: Float[Tensor, " n"]
    parts: int = 0
    identity_error: float = math.nan


@dataclass(frozen=True)
class Rollouts:
    """Sampled replies to prompts.

    Attributes:
        prompt_index: which prompt each reply answers.
        replies: the texts.
        batches: their tokens, labels on the reply, `index` = position in `replies`.
    """

    prompt_index: tuple[int, ...]
    replies: tuple[str, ...]
    batches: tuple[Batch, ...]


@runtime_checkable
class Sampler(Protocol):
    """y ~ π_θ(· | x): draws replies from a policy."""

    def __call__(
        self, model: nn.Module, prompts: Sequence[Prompt], *, samples: int, seed: int
    ) -> Rollouts:
        """`samples` replies to each prompt, reproducible by `seed`."""
        ...


@dataclass(frozen=True)
class Progress:
    """One line of progress.jsonl: where a job stands.

    Attributes:
        stage: what is being done, in words.
        step: steps done of this stage.
        total: steps of this stage in all.
        seconds: since the job started (the time spent before a resume included).
        values: numbers worth a live curve, by name.
    """

    stage: str
    step: int
    total: int
    seconds: float
    values: Mapping[str, float] = field(default_factory=dict)
