"""Settings of the mathematics: J, the inner and the outer problem, impact curves."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from u2a_core.config.section import Count, NonNegative, Positive, Section, listed


def _grid(value: Any) -> Any:
    """A list of ω in (0, 1], ascending; or auto."""
    if value == "auto":
        return value
    given = listed([value] if isinstance(value, int | float) else value)
    if not isinstance(given, list | tuple) or any(isinstance(o, list | dict) for o in given):
        raise ValueError("must be weights between commas, as in 0.001,0.003, or auto")
    found = sorted({float(omega) for omega in given if omega is not None})
    if not found:
        raise ValueError("must hold at least one weight, as in 0.001,0.003, or be auto")
    if not (found[0] > 0 and found[-1] <= 1):
        raise ValueError("must lie in (0, 1], the weights of a point of the simplex")
    return found


class ObjectiveSettings(Section):
    """The alignment objective J, higher = better aligned."""

    kind: Literal["sampled_reward", "preference", "candidates"] = "sampled_reward"
    """sampled_reward: mean reward of sampled replies (Eq. 1); preference: log-sigmoid margin;
    candidates: expected reward among the replies of the pairs, without sampling."""
    reward: str = ""
    """The reward r(x, y): file.py:function or module:function (installed, or module.py beside the
    settings file), or a folder or hub id of a sequence classifier. The function takes (prompts,
    replies), two sequences of texts of equal length, and returns a number for each reply, higher =
    better; a prompt of several turns is one text, its turns in lines."""
    reward_template: Annotated[str, Field(title="Reward template")] = ""
    """How a reward model reads a conversation: empty: by its chat template; plain: "User: …
    Assistant: …"; pair: prompt and reply as two segments, as encoders do; or the text that it was
    trained on, with {prompt} and {reply}."""
    reward_logit: Annotated[int, Field(title="Logit of the reward", ge=-1)] = -1
    """Which logit of a reward model is the reward, from 0. -1: the only one; of two, their
    difference, the log-odds of class 1; more need a choice."""
    reward_device: Annotated[str, Field(title="Device of the reward model")] = ""
    """Where a reward model computes: cpu, cuda:1, …; empty: with the policy."""
    max_prompts: Annotated[Count, Field(title="Prompts or pairs that measure J")] = 256
    """At most so many prompts (for preference: pairs) measure J, drawn by the seed."""
    splits: Annotated[int, Field(title="Parts for standard errors", ge=0, le=64)] = 8
    """Prompts are split into so many parts, whose spread gives the standard errors of gains; 0
    leaves them out. Each part costs one more direction in the scoring pass of `u2a gains`."""
    samples: Annotated[int, Field(title="Replies per prompt", ge=2)] = 4
    """Replies sampled per prompt, at least 2 for the leave-one-out baseline."""
    temperature: Annotated[Positive, Field(title="Temperature of the evaluation")] = 1.0
    """Sampling temperature of the evaluation; the gradient of J always uses 1."""
    max_new_tokens: Annotated[Count, Field(title="Longest sampled reply (tokens)")] = 64
    """Longest sampled reply, in tokens."""
    generation_rows: Annotated[Count, Field(title="Replies sampled together")] = 256
    """How many replies are sampled at the same time; fewer need less memory, and more time."""
    dpo_beta: Annotated[Positive, Field(title="DPO β")] = 0.3
    """Scale of the log-ratio margin, for preference."""


class InnerSettings(Section):
    """The inner problem: how unlearning moves the model under given weights (Eqs. 3, 6)."""

    method: Literal["ga", "graddiff", "npo", "simnpo"] = "npo"
    """The per-sample loss, and whether a retain term is added (graddiff)."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """sgd: plain gradient descent, whose step Eq. 8 assumes; adamw: adaptive."""
    learning_rate: Positive = 0.05
    """Size of one inner step."""
    steps: Annotated[Count, Field(title="Inner steps")] = 30
    """Budget of inner steps, the same for every arm that is compared."""
    npo_beta: Annotated[Positive, Field(title="NPO β")] = 0.1
    """NPO's β on the sequence log-ratio."""
    simnpo_beta: Annotated[Positive, Field(title="SimNPO β")] = 4.5
    """SimNPO's β on the mean token NLL."""
    lam: Annotated[NonNegative, Field(title="Proximal λ")] = 0.0
    """λ of the proximal term λ‖θ−θ₀‖²; 0 leaves it out."""
    lam_retain: Annotated[NonNegative, Field(title="Retain λ_r")] = 0.0
    """λ_r of the retain term; 0 leaves it out, and means 1 for graddiff."""
    samples_per_step: Annotated[int, Field(title="Samples per inner step", ge=0)] = 0
    """Negative samples per inner step, drawn uniformly; 0 takes all."""
    max_grad_norm: Annotated[Positive, Field(title="Largest gradient norm")] = 10.0
    """Clips the gradient of the inner problem to this length."""
    nll_bound: Annotated[NonNegative, Field(title="NLL bound (nat per token)")] = 0.0
    """Stops when the weighted mean NLL of the negatives stays above this; 0: ln(vocabulary)."""
    retain_bound: Annotated[Positive, Field(title="Retain bound (nat per token)")] = 2.0
    """Stops, and goes back to the best step, when the retain loss has grown by more than this."""

    @property
    def retain_weight(self) -> float:
        """λ_r as it is used: what was given, else 1 for graddiff and 0 for the others."""
        return self.lam_retain or (1.0 if self.method == "graddiff" else 0.0)


class OuterSettings(Section):
    """The outer problem: how the weights follow the gains (Eqs. 5, 8-10)."""

    step_size: Annotated[NonNegative, Field(title="Step size η (in 1/std of the slopes)")] = 0.2
    """η of mirror descent, in units of 1/std of the slopes; 0 keeps uniform weights."""
    sparsity: Annotated[NonNegative, Field(title="Sparsity β")] = 0.0
    """β of Eq. 5; pushes small weights to zero."""
    steps_per_round: Annotated[Count, Field(title="Inner steps per round")] = 1
    """Inner steps between two updates of the weights, and between two measurements of J."""
    start: Literal["all", "greedy"] = "all"
    """all: uniform weights over every sample, then shrink; greedy: an empty support that grows by
    the samples with the largest gains."""
    per_round: Annotated[Count, Field(title="Samples entering per round")] = 16
    """For greedy: at most so many samples enter in a round."""
    rule: Literal["weights", "top_k", "bottom_k"] = "weights"
    """weights: mirror descent; top_k, bottom_k: uniform weights over the k samples with the largest
    or smallest accumulated gains, chosen anew each round (for ablations)."""
    k: Annotated[int, Field(title="K", ge=0)] = 0
    """For top_k and bottom_k: how many samples."""
    restart: Literal["warm", "cold"] = "warm"
    """warm: a round continues from the last one's model; cold: it starts again at the original
    model, with `steps_per_round` steps to its own optimum."""
    patience: Annotated[int, Field(title="Rounds without a new best J", ge=0)] = 0
    """Ends the run after so many rounds in which J did not rise; 0 uses the whole budget."""
    prune_below: Annotated[float, Field(title="Prune below (share of 1/n)", ge=0, lt=1)] = 0.01
    """Drops a sample whose weight falls below this share of the uniform weight 1/n."""
    effective_floor: Annotated[float, Field(title="Least effective share", ge=0, lt=1)] = 0.1
    """Shortens an update that would leave fewer effective samples 1/Σω² than this share of the
    support."""
    curvature: Literal["ridge", "cg"] = "ridge"
    """H of Eq. 8. ridge: its proximal part 2λI; cg: the whole Hessian of the inner problem, by
    conjugate gradients."""
    damping: Annotated[NonNegative, Field(title="Damping of H")] = 0.0
    """For cg: added to H's diagonal; 0 chooses it from a short Lanczos run, so that H is positive
    definite."""

    @property
    def entering(self) -> int:
        """m, how many samples enter together: what an entering weight 1/(|S|+m) is made of."""
        return self.per_round if self.start == "greedy" else 1


class ImpactSettings(Section):
    """Impact curves: what unlearning one sample alone changes, predicted and measured (Eq. 4)."""

    samples: Annotated[int, Field(title="Samples, at most", ge=0)] = 60
    """At most so many negatives, drawn by the seed; 0 takes all."""
    ids: Annotated[
        tuple[str, ...], BeforeValidator(listed), Field(title="These samples instead (ids)")
    ] = ()
    """These negatives instead, by id: n001,n002."""
    omegas: Annotated[
        tuple[float, ...] | Literal["auto"], BeforeValidator(_grid), Field(title="Weights ω")
    ] = "auto"
    """Weights ω of the curve, in (0, 1]: 0.001,0.003; auto: from a contraction of 0.05 to beyond
    the point where the inner problem loses its minimum."""
    lam: Annotated[Positive, Field(title="λ of the curves")] = 1.0
    """λ of the proximal term λ‖θ−θ₀‖² of each sample's own inner problem."""
    workers: Annotated[int, Field(title="Groups at the same time", ge=0, le=64)] = 0
    """Groups of samples measured at the same time on a CPU, each with a copy of the model; 0: as
    many as there are cores."""
