"""Every setting, once: the command line, the YAML files and forms are generated from these models.

Unknown names are refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from u2a_core.config.columns import Columns, Formats, Part, SetName, agreeing, checked
from u2a_core.config.evidence import (
    AblationSettings,
    BaselineSettings,
    EvaluationSettings,
    ReproductionSettings,
)
from u2a_core.config.paths import PATHS, module_file, there
from u2a_core.config.problem import (
    ImpactSettings,
    InnerSettings,
    ObjectiveSettings,
    OuterSettings,
)
from u2a_core.config.section import Count, Section


class ModelSettings(Section):
    """The policy and which of its parameters unlearning may move."""

    path: str = ""
    """Local folder or hub id of a causal language model; owner/name@revision takes a branch, a tag
    or a commit. The folder of a PEFT adapter is merged into the base that it names."""
    chat_template: Annotated[Literal["auto", "own", "plain"], Field(title="Chat template")] = "auto"
    """How conversations are written: own: as the tokenizer says; plain: "User: … Assistant: …";
    auto: its own, and plain, which is then told, where it has none."""
    system: Annotated[str, Field(title="System prompt")] = ""
    """A system prompt for conversations that have none; before the first user turn where the chat
    template has no system role."""
    trust_remote_code: Annotated[bool, Field(title="Run the model's own code")] = False
    """Whether Python code that comes with the models may be run. Read it first."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of the weights; auto: bfloat16 on a GPU that has it, else float32."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:1, mps."""
    quantize: Annotated[Literal["none", "8bit", "4bit"], Field(title="Quantized base")] = "none"
    """Base weights in 8 or 4 bits (bitsandbytes, on CUDA); with parameters lora and lora_slopes
    adapter, because quantized weights have no gradient."""
    attention: Annotated[
        Literal["auto", "sdpa", "eager", "flash_attention_2"], Field(title="Attention kernel")
    ] = "auto"
    """The attention kernel; auto: what transformers chooses for the model."""
    activation_checkpointing: bool = False
    """Compute the activations of each layer again in the backward pass of a gradient: less memory,
    about a third more time. Slopes keep what they contract, and gain less."""
    parameters: Literal["full", "last_n", "lora"] = "full"
    """What is trained: all weights, the last layers, or a LoRA adapter."""
    last_layers: Annotated[Count, Field(title="Layers trained, for last_n")] = 1
    """How many transformer layers, counted from the output, for last_n."""
    lora_rank: Annotated[Count, Field(title="LoRA rank")] = 32
    """Rank of the adapter, for lora."""
    lora_alpha: Annotated[Count, Field(title="LoRA α")] = 64
    """Scale of the adapter (α/rank multiplies it), for lora."""
    lora_head: Annotated[bool, Field(title="LoRA on the output head")] = True
    """Whether the adapter reaches the output embedding beside all other linear layers."""
    lora_slopes: Annotated[Literal["weights", "adapter"], Field(title="LoRA slopes see")] = (
        "weights"
    )
    """What slopes see while an adapter is trained: the weights of the adapted layers, or the
    adapter itself, whose A has no slope while B = 0."""
    max_length: Annotated[int, Field(title="Longest prompt plus reply (tokens)", ge=0)] = 0
    """Longest prompt plus reply in tokens; longer replies are cut, and counted. 0: the model's
    context, at most 1024."""

    @model_validator(mode="after")
    def _agree(self) -> ModelSettings:
        if self.quantize != "none" and (self.parameters, self.lora_slopes) != ("lora", "adapter"):
            raise ValueError(
                f"quantize {self.quantize} must go with parameters lora and lora_slopes adapter, "
                "because quantized weights have no gradient; got parameters "
                f"{self.parameters} and lora_slopes {self.lora_slopes}"
            )
        return self


class DataSettings(Section):
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
    columns: Annotated[Columns, AfterValidator(checked)] = Field(default_factory=dict)
    """Columns that bear other names, set by set: negatives: {prompt: question, response: reply}; on
    the command line --data.columns.negatives.response reply. Others are recognized by name."""
    formats: Formats = Field(default_factory=dict)
    """Formats that are not to be recognized, set by set: negatives: pku-saferlhf; on the command
    line --data.formats.negatives pku-saferlhf. `u2a data` tells what is recognized."""
    tokens_per_batch: Annotated[int, Field(ge=16)] = 4096
    """Size of a batch in tokens, padding included."""

    @model_validator(mode="after")
    def _agree(self) -> DataSettings:
        agreeing(self.columns, self.formats)
        return self

    def columns_of(self, name: SetName) -> dict[Part, str]:
        """What the settings say of a set's columns: part → column, and format → its name."""
        named = self.columns.get(name, {})
        return {**named, "format": self.formats[name]} if name in self.formats else named


class Settings(Section):
    """Everything a run needs, as in a YAML file."""

    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    inner: InnerSettings = InnerSettings()
    outer: OuterSettings = OuterSettings()
    impact: ImpactSettings = ImpactSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    baseline: BaselineSettings = BaselineSettings()
    ablation: AblationSettings = AblationSettings()
    reproduction: ReproductionSettings = ReproductionSettings()
    weights: str = "uniform"
    """For unlearn: uniform, a finished reweight run, a saved slice of samples (equal weights), or a
    file of {id, weight}."""
    final_weights: bool = False
    """For unlearn with a run's weights: use only its last weights, from the original model."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of sampling and of the data order."""
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """CPU threads; 0: one for a model below ten million parameters, else torch's own choice."""

    @model_validator(mode="after")
    def _agree(self) -> Settings:
        if self.inner.retain_weight and not self.data.retain:
            raise ValueError(
                "data.retain must name a retain set for inner.method graddiff and for "
                "inner.lam_retain above 0; got none. Name a file of neutral replies, or use npo "
                "or ga without it"
            )
        return self

    def local_paths(self) -> dict[str, Path]:
        """`section.field` → path, of every setting that names a file or folder of this machine."""
        named = {
            f"{section}.{field}": getattr(getattr(self, section), field)
            for section, fields in PATHS.items()
            for field in fields
        }
        files = {n: module_file(p) or p for n, p in {**named, "weights": self.weights}.items()}
        return {n: Path(p) for n, p in files.items() if p and there(Path(p))}
