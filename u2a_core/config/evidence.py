"""Settings of the evidence: evaluation, baselines beside unlearning, ablation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from u2a_core.config.section import Count, NonNegative, Positive, Section, listed

Arm = Literal[
    "top_k", "one_shot", "random_k", "bottom_k", "reward_filter", "all", "u2a", "u2a_support"
]
Sensitivity = Literal["step_size", "sparsity", "lam", "omega"]


def _counts(value: Any) -> Any:
    """A list of K, ascending; or auto."""
    if value == "auto":
        return value
    found = listed([value] if isinstance(value, int) else value)
    try:
        counts = sorted({int(k) for k in found})
    except (TypeError, ValueError):
        raise ValueError("must be counts between commas, as in 24,48,96, or auto") from None
    if not counts or counts[0] < 1:
        raise ValueError("must hold counts of 1 or more, as in 24,48,96, or be auto")
    return counts


class EvaluationSettings(Section):
    """The comparison before and after, on the test prompts, and `u2a evaluate`."""

    reward: str = ""
    """The reward that measures; empty: the objective's own."""
    samples: Annotated[Count, Field(title="Replies per test prompt")] = 2
    """Replies sampled per test prompt."""
    target: str = ""
    """For evaluate: the finished run whose model is measured; empty: the original model."""
    endpoint: str = ""
    """For evaluate: the address (http…) of an OpenAI-compatible server whose model replies to all
    prompts in place of the local one. Likelihoods stay those of the local model."""
    endpoint_model: Annotated[str, Field(title="Model of the endpoint")] = ""
    """The model to ask for at evaluation.endpoint, by the name under which it is served."""
    endpoint_parallel: Annotated[int, Field(title="Endpoint requests at a time", ge=1, le=256)] = 8
    """Replies asked of the endpoint at the same time."""
    endpoint_timeout: Annotated[Positive, Field(title="Endpoint timeout (s)")] = 300.0
    """Seconds after which a reply of the endpoint is asked for again."""
    harmful: str = ""
    """Prompts that a safe model does not answer, for the attack success rates (ASR)."""
    benign: str = ""
    """Harmless prompts that must still be answered, for over-refusal and what alignment cost."""
    reference: str = ""
    """Replies (prompt, response) to the test prompts, for win rates; or a finished run."""
    questions: str = ""
    """Pairs of a right (chosen) and a hallucinated (rejected) answer, for HaluEval accuracy."""
    outsiders: str = ""
    """Samples like the negatives that the model was never trained on, for membership."""
    encoder: str = ""
    """Folder or hub id of a sentence encoder, for coherence."""
    judge: str = ""
    """Who judges replies: the address of an OpenAI-compatible endpoint (http…), a folder or hub id
    of a causal model or sequence classifier, or module:function."""
    judge_model: str = ""
    """The model to ask for at the endpoint."""
    judge_requests: Annotated[int, Field(title="Most judge requests", ge=0)] = 5000
    """Refuses an evaluation that would ask the judge more often; answers known already are free."""
    judge_parallel: Annotated[int, Field(title="Judge requests at a time", ge=1, le=64)] = 8
    """Requests to the judge at the same time."""
    judge_timeout: Annotated[Positive, Field(title="Judge timeout (s)")] = 60.0
    """Seconds after which a request to the judge is tried again."""


class BaselineSettings(Section):
    """`u2a baseline`: fine-tuning, DPO and PPO, what unlearning is compared with."""

    method: Literal["dpo", "ppo", "retrain", "sft"] = "dpo"
    """dpo: on the preference pairs; ppo: sampled rewards on J's prompts; retrain: fine-tunes `base`
    on the mixture without the negatives; sft: on the whole mixture."""
    base: str = ""
    """For retrain and sft: the model before it was fine-tuned."""
    mixture: str = ""
    """For retrain and sft: the replies (prompt, response) of the fine-tuning."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """Of the baseline's own steps."""
    learning_rate: Positive = 1e-5
    """Size of a step."""
    steps: Count = 30
    """Budget of steps. A step of ppo samples replies and goes over them `epochs` times."""
    batch: Annotated[int, Field(title="Pairs, prompts or replies per step", ge=0)] = 0
    """Drawn without replacement, epoch after epoch; 0 takes all in every step."""
    measure_every: Annotated[Count, Field(title="Steps between measurements of J")] = 1
    """J decides which step is kept, as for unlearning."""
    max_tokens: Annotated[int, Field(title="Most tokens", ge=0)] = 0
    """Ends when so many tokens have gone through the model, sampled ones included; 0: no bound."""
    dpo_beta: Annotated[Positive, Field(title="DPO β")] = 0.1
    """For dpo: scale of the log-ratio margin."""
    epochs: Annotated[Count, Field(title="PPO epochs")] = 2
    """For ppo: passes over the replies of a step."""
    clip: Annotated[float, Field(title="PPO clip", gt=0, lt=1)] = 0.2
    """For ppo: the probability ratio is clipped to 1 ± this."""
    kl: Annotated[NonNegative, Field(title="KL coefficient")] = 0.05
    """For ppo: weight of the KL to the original model in the reward, per token."""
    gae_lambda: Annotated[float, Field(title="GAE λ", ge=0, le=1)] = 0.95
    """For ppo: of generalized advantage estimation; rewards are not discounted."""
    value_weight: Annotated[Positive, Field(title="Value loss weight")] = 0.1
    """For ppo: weight of the value head's squared error."""


class AblationSettings(Section):
    """`u2a ablate`: which negatives to unlearn, and how many (Fig. 4)."""

    ks: Annotated[
        tuple[int, ...] | Literal["auto"], BeforeValidator(_counts), Field(title="K (counts)")
    ] = "auto"
    """How many samples are unlearned: 24,48,96; auto: 10, 20, 40, 60 and 80 % of them."""
    seeds: Annotated[int, Field(title="Seeds", ge=1, le=100)] = 5
    """Repetitions; a seed draws J's replies and the random subsets anew. One gives no band."""
    arms: Annotated[tuple[Arm, ...], BeforeValidator(listed), Field(title="Arms")] = (
        "top_k", "one_shot", "random_k", "bottom_k", "reward_filter", "all", "u2a", "u2a_support",
    )  # fmt: skip
    """top_k: largest accumulated gains, chosen anew each round; one_shot: largest gains at the
    original model; random_k; bottom_k: smallest accumulated gains; reward_filter: lowest reward;
    all; u2a: optimized weights; u2a_support: uniform over what these kept."""
    sensitivity: Annotated[
        tuple[Sensitivity, ...], BeforeValidator(listed), Field(title="Sensitivity to")
    ] = ()
    """Also vary, one at a time: step_size (η), sparsity (β), lam (λ), omega (how concentrated the
    final weights are)."""
    workers: Annotated[int, Field(title="Arms at the same time", ge=0, le=64)] = 0
    """Processes that share the arms on a CPU; 0: as many as there are cores. A GPU takes one."""


class ReproductionSettings(Section):
    """`u2a reproduce`: the paper's experiment on one task."""

    task: Literal["safe-rlhf", "ultrafeedback", "halueval"] = "safe-rlhf"
    """Whose shares split the pairs of data.preferences; at tiny scale, whose family of faults."""
    scale: Literal["tiny", "full"] = "tiny"
    """tiny: the embedded scenario, minutes on a CPU; full: model.path and data.preferences."""
