"""Every setting, once: the command line, the YAML files and forms are generated from these models.

Paths in a YAML file are relative to that file. Unknown names are refused.
"""

from __future__ import annotations

import difflib
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from u2a_core.errors import ConfigError

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )


class ModelSettings(_Section):
    """The policy and which of its parameters unlearning may move."""

    path: str = ""
    """Local folder or hub id of a causal language model with a chat template."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of the weights; auto: bfloat16 on a GPU that has it, else float32."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:1, mps."""
    parameters: Literal["full", "last_n", "lora"] = "full"
    """What is trained: all weights, the last layers, or a LoRA adapter."""
    last_layers: Annotated[Count, Field(title="Layers trained, for last_n")] = 1
    """How many transformer layers, counted from the output, for last_n."""
    lora_rank: Annotated[Count, Field(title="LoRA rank")] = 8
    """Rank of the adapter, for lora."""
    lora_alpha: Annotated[Count, Field(title="LoRA α")] = 16
    """Scale of the adapter (α/rank multiplies it), for lora."""
    max_length: Annotated[int, Field(title="Longest prompt plus reply (tokens)", ge=0)] = 0
    """Longest prompt plus reply in tokens; longer replies are cut, and counted. 0: the model's
    context, at most 1024."""


class DataSettings(_Section):
    """Files of samples. JSONL, JSON, CSV and Parquet are recognized by content."""

    negatives: str = ""
    """The negative set: replies to unlearn, with their prompts."""
    preferences: str = ""
    """Preference pairs (prompt, chosen, rejected), which J compares or whose prompts it asks."""
    objective_prompts: str = ""
    """Prompts whose sampled replies J rewards; empty: those of the pairs, else of the negatives."""
    retain: str = ""
    """Replies whose skill must survive; needed by graddiff. Neutral to what J measures."""
    prompts: str = ""
    """Test prompts for the comparison before and after; never used for a decision."""
    truth: str = ""
    """Known mislabels (id, mislabelled), read by evaluation only."""
    tokens_per_batch: Annotated[int, Field(ge=16)] = 4096
    """Size of a batch in tokens, padding included."""


class ObjectiveSettings(_Section):
    """The alignment objective J, higher = better aligned."""

    kind: Literal["sampled_reward", "preference"] = "sampled_reward"
    """sampled_reward: mean reward of sampled replies (Eq. 1); preference: log-sigmoid margin."""
    reward: str = ""
    """The reward r(x, y): module:function (installed, or module.py beside the settings file), or a
    folder or hub id of a sequence classifier."""
    max_prompts: Annotated[Count, Field(title="Prompts or pairs that measure J")] = 256
    """At most so many prompts (for preference: pairs) measure J, drawn by the seed."""
    samples: Annotated[int, Field(title="Replies per prompt", ge=2)] = 4
    """Replies sampled per prompt, at least 2 for the leave-one-out baseline."""
    temperature: Annotated[Positive, Field(title="Temperature of the evaluation")] = 1.0
    """Sampling temperature of the evaluation; the gradient of J always uses 1."""
    max_new_tokens: Annotated[Count, Field(title="Longest sampled reply (tokens)")] = 64
    """Longest sampled reply, in tokens."""
    dpo_beta: Annotated[Positive, Field(title="DPO β")] = 0.3
    """Scale of the log-ratio margin, for preference."""


class InnerSettings(_Section):
    """The inner problem: how unlearning moves the model under given weights (Eqs. 3, 6)."""

    method: Literal["ga", "graddiff", "npo"] = "npo"
    """The per-sample loss, and whether a retain term is added (graddiff)."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """sgd: plain gradient descent, whose step Eq. 8 assumes; adamw: adaptive."""
    learning_rate: Positive = 0.05
    """Size of one inner step."""
    steps: Annotated[Count, Field(title="Inner steps")] = 30
    """Budget of inner steps, the same for every arm that is compared."""
    npo_beta: Annotated[Positive, Field(title="NPO β")] = 0.1
    """NPO's β on the sequence log-ratio."""
    lam: Annotated[NonNegative, Field(title="Proximal λ")] = 0.0
    """λ of the proximal term λ‖θ−θ₀‖²; 0 leaves it out."""
    lam_retain: Annotated[NonNegative, Field(title="Retain λ_r")] = 1.0
    """λ_r of the retain term, for graddiff."""
    samples_per_step: Annotated[int, Field(title="Samples per inner step", ge=0)] = 0
    """Negative samples per inner step, drawn uniformly; 0 takes all."""
    max_grad_norm: Annotated[Positive, Field(title="Largest gradient norm")] = 10.0
    """Clips the gradient of the inner problem to this length."""
    nll_bound: Annotated[NonNegative, Field(title="NLL bound (nat per token)")] = 0.0
    """Stops when the weighted mean NLL of the negatives stays above this; 0: ln(vocabulary)."""
    retain_bound: Annotated[Positive, Field(title="Retain bound (nat per token)")] = 2.0
    """Stops, and goes back to the best step, when the retain loss has grown by more than this."""


class OuterSettings(_Section):
    """The outer problem: how the weights follow the gains (Eqs. 5, 8-10)."""

    step_size: Annotated[NonNegative, Field(title="Step size η (in 1/std of the slopes)")] = 0.2
    """η of mirror descent, in units of 1/std of the slopes; 0 keeps uniform weights."""
    sparsity: Annotated[NonNegative, Field(title="Sparsity β")] = 0.0
    """β of Eq. 5; pushes small weights to zero."""
    steps_per_round: Annotated[Count, Field(title="Inner steps per round")] = 1
    """Inner steps between two updates of the weights, and between two measurements of J."""
    prune_below: Annotated[float, Field(title="Prune below (share of 1/n)", ge=0, lt=1)] = 0.01
    """Drops a sample whose weight falls below this share of the uniform weight 1/n."""


class EvaluationSettings(_Section):
    """The comparison before and after, on the test prompts."""

    reward: str = ""
    """The reward that measures; empty: the objective's own."""
    samples: Annotated[Count, Field(title="Replies per test prompt")] = 2
    """Replies sampled per test prompt."""


class Settings(_Section):
    """Everything a run needs, as in a YAML file."""

    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    inner: InnerSettings = InnerSettings()
    outer: OuterSettings = OuterSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    weights: str = "uniform"
    """For unlearn: uniform, a finished reweight run, or a file of {id, weight}."""
    final_weights: bool = False
    """For unlearn with a run's weights: use only its last weights, from the original model."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of sampling and of the data order."""
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """CPU threads; 0 leaves the choice to torch. 1 is fastest for tiny models."""

    @model_validator(mode="after")
    def _agree(self) -> Settings:
        if self.inner.method == "graddiff" and not self.data.retain:
            raise ValueError(
                "data.retain must name a retain set for inner.method graddiff; got none. "
                "Name a file of neutral replies, or use npo or ga"
            )
        return self

    def local_paths(self) -> dict[str, Path]:
        """`section.field` → path, of every setting that names a file or folder of this machine."""
        named = {
            f"{section}.{field}": getattr(getattr(self, section), field)
            for section, fields in _PATHS.items()
            for field in fields
        }
        files = {n: _module_file(p) or p for n, p in {**named, "weights": self.weights}.items()}
        return {n: Path(p) for n, p in files.items() if p and there(Path(p))}


_PATHS = {
    "model": ("path",),
    "data": ("negatives", "preferences", "objective_prompts", "retain", "prompts", "truth"),
    "objective": ("reward",),
    "evaluation": ("reward",),
}


def load_settings(path: Path) -> Settings:
    """Settings of a YAML (or JSON) file, with its relative paths resolved.

    Raises:
        ConfigError: if the file is missing or a setting is wrong; names the setting.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} must be a readable YAML file; got {error}.") from error
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path} must be valid YAML; got: {reason}.") from error
    if not isinstance(raw, dict):
        raise ConfigError(
            f"{path} must hold sections such as model: and data:; got {type(raw).__name__}."
        )
    return parse_settings(resolved(raw, path.parent), source=str(path))


def override(settings: Settings, words: Sequence[str]) -> Settings:
    """Settings with `--section.field VALUE` (or `=VALUE`) put over them; a flag alone means true.

    Raises:
        ConfigError: if a word is no option, or its value is wrong.
    """
    raw = settings.model_dump(mode="json")
    rest = deque(words)
    while rest:
        word = rest.popleft()
        if not word.startswith("--"):
            raise ConfigError(f"Settings must be given as --section.field VALUE; got {word!r}.")
        name, given, value = word[2:].partition("=")
        if not given:
            value = rest.popleft() if rest and not rest[0].startswith("--") else "true"
        *sections, key = name.replace("-", "_").split(".")
        target = raw
        for section in sections:
            if not isinstance(target.get(section), dict):
                target[section] = {}  # refused below, by its name
            target = target[section]
        target[key] = value
    return parse_settings(resolved(raw, Path()), source="command line")


def parse_settings(raw: dict[str, Any], *, source: str) -> Settings:
    """Settings from plain data; errors name the setting and the source."""
    try:
        return Settings.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(validation_message(error, source)) from error


def validation_message(error: ValidationError, source: str) -> str:
    """Pydantic's findings as sentences."""
    findings = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"]) or "settings"
        got = "" if isinstance(item["input"], dict | _Section) else f"; got {item['input']!r}"
        reason = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            near = difflib.get_close_matches(where, _names(), n=1)
            reason = f"is no setting{f' (did you mean {near[0]}?)' if near else ''}"
        findings.append(f"{where}: {reason}{got}.")
    return f"{source}: " + " ".join(findings)


def _names() -> list[str]:
    """`section.field` of every setting."""
    names = []
    for name, field in Settings.model_fields.items():
        own = getattr(field.annotation, "model_fields", None)
        names += [name] if own is None else [f"{name}.{inner}" for inner in own]
    return names


def resolved(raw: dict[str, Any], base: Path) -> dict[str, Any]:
    """`raw` with every path that exists beside the file made absolute; hub ids stay."""
    out = dict(raw)
    for section, fields in _PATHS.items():
        if isinstance(raw.get(section), dict):
            out[section] = {
                key: _beside(value, base) if key in fields else value
                for key, value in raw[section].items()
            }
    if isinstance(raw.get("weights"), str):
        out["weights"] = _beside(raw["weights"], base)
    return out


def _beside(value: Any, base: Path) -> Any:
    """A path that exists beside the file, or the file of module:function there, made absolute."""
    if not isinstance(value, str) or not value:
        return value
    if there(base / value):
        return str((base / value).resolve())
    module, colon, function = value.rpartition(":")
    if colon and there(base / f"{module}.py"):
        return f"{(base / module).resolve()}.py:{function}"
    return value


def there(path: Path) -> bool:
    """Whether a path exists; a text that can be no path (too long, a NUL) does not."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _module_file(spec: str) -> str:
    """The file of a resolved `file.py:function`; empty for any other setting."""
    file, _, _ = spec.rpartition(":")
    return file if file.endswith(".py") else ""
