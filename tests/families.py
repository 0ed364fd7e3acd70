"""Tiny random models of each family, with a chat template in its style and a tokenizer of its own.

The templates are written for these tests: they have the marks, the roles and the refusals of the
family's, not its text.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch

_SIZES = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 256, "initializer_range": 0.15,
}  # fmt: skip
_GROUPED = {**_SIZES, "num_key_value_heads": 2}


def _flat(template: str) -> str:
    """One line, so that no line break of this file is one of the template."""
    return "".join(line.strip() for line in template.splitlines())


_INST = _flat(r"""
    {{ bos_token }}
    {% if messages[0]['role'] == 'system' %}
    {% set system = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}
    {% set turns = messages[1:] %}
    {% else %}{% set system = '' %}{% set turns = messages %}{% endif %}
    {% for m in turns %}
    {% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}
    {{ raise_exception('user and assistant must alternate') }}{% endif %}
    {% if m['role'] == 'user' %}
    {{ '[INST] ' + (system if loop.first else '') + m['content'] + ' [/INST]' }}
    {% else %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}
""")

_HEADERS = _flat(r"""
    {{ bos_token }}
    {% for m in messages %}
    {{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' }}
    {{ m['content'] | trim + '<|eot_id|>' }}
    {% endfor %}
    {% if add_generation_prompt %}
    {{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}
""")

_IM = _flat(r"""
    {% if messages[0]['role'] != 'system' %}
    {{ '<|im_start|>system\nYou are an assistant.<|im_end|>\n' }}{% endif %}
    {% for m in messages %}
    {{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}
""")

_THINKING = _flat(r"""
    {% for m in messages %}
    {{ '<|im_start|>' + m['role'] + '\n' }}
    {% if m['role'] == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}
    {{ m['content'] + '<|im_end|>\n' }}{% endfor %}
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}
    {% if enable_thinking is defined and enable_thinking is false %}
    {{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}
""")

_TURN = _flat(r"""
    {{ bos_token }}
    {% if messages[0]['role'] == 'system' %}
    {{ raise_exception('System role not supported') }}{% endif %}
    {% for m in messages %}
    {% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}
    {{ raise_exception('Conversation roles must alternate') }}{% endif %}
    {{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' }}
    {{ m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}
    {% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}
""")

_BARS = _flat(r"""
    {% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}
    {% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}
""")

_LINES = _flat(r"""
    {{ bos_token }}
    {% for m in messages %}
    {% if m['role'] == 'assistant' %}
    {{ '<|assistant|>\n' + m['content'] + eos_token }}{% if not loop.last %}{{ '\n' }}{% endif %}
    {% else %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '\n' }}{% endif %}{% endfor %}
    {% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}
""")


@dataclass(frozen=True)
class Family:
    """A family: its configuration class, sizes, special tokens and template.

    Attributes:
        config, sizes: of transformers.
        marks: special tokens: bos, eos and pad (empty: none), then those of its turns.
        template: empty: a base model, which has none.
        lora: whether the test of commands trains an adapter.
    """

    config: str
    sizes: Mapping[str, Any]
    marks: tuple[str, ...]
    template: str
    lora: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)


FAMILIES = {
    "llama2": Family("LlamaConfig", _SIZES, ("<s>", "</s>", ""), _INST),
    "llama3": Family(
        "LlamaConfig", _GROUPED,
        ("<|begin_of_text|>", "<|eot_id|>", "", "<|start_header_id|>", "<|end_header_id|>"),
        _HEADERS, lora=True,
        extra={"rope_parameters": {
            "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
        }},
    ),
    "qwen2.5": Family(
        "Qwen2Config", _GROUPED, ("", "<|im_end|>", "<|endoftext|>", "<|im_start|>"), _IM,
        extra={"tie_word_embeddings": True},
    ),
    "qwen3": Family(
        "Qwen3Config", _GROUPED,
        ("", "<|im_end|>", "<|endoftext|>", "<|im_start|>", "<think>", "</think>"), _THINKING,
        extra={"head_dim": 16},
    ),
    "mistral": Family(
        "MistralConfig", _GROUPED, ("<s>", "</s>", "", "[INST]", "[/INST]"), _INST,
        extra={"sliding_window": 8},
    ),
    "gemma2": Family(
        "Gemma2Config", _GROUPED,
        ("<bos>", "<eos>", "<pad>", "<start_of_turn>", "<end_of_turn>"), _TURN,
        extra={"head_dim": 8, "sliding_window": 8, "query_pre_attn_scalar": 8,
               "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
    ),
    "gemma3": Family(
        "Gemma3TextConfig", _GROUPED,
        ("<bos>", "<eos>", "<pad>", "<start_of_turn>", "<end_of_turn>"), _TURN, lora=True,
        extra={"head_dim": 8, "sliding_window": 8, "query_pre_attn_scalar": 8,
               "layer_types": ["sliding_attention", "full_attention"]},
    ),
    "phi3": Family(
        "Phi3Config", _GROUPED,
        ("<s>", "<|endoftext|>", "", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"), _BARS,
        lora=True, extra={"sliding_window": 8, "original_max_position_embeddings": 256},
    ),
    "olmo": Family("OlmoConfig", _SIZES, ("", "<|endoftext|>", "<|padding|>"), _LINES),
    "olmo2": Family(
        "Olmo2Config", _GROUPED, ("<|endoftext|>", "<|endoftext|>", "<|pad|>"), _LINES
    ),
    "pythia": Family("GPTNeoXConfig", _SIZES, ("", "<|endoftext|>", ""), "", lora=True),
    "gpt2": Family(
        "GPT2Config",
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "initializer_range": 0.15},
        ("<|endoftext|>", "<|endoftext|>", ""), "", lora=True,
    ),
}  # fmt: skip


@cache
def _trained(marks: tuple[str, ...]) -> Any:
    """A byte-level BPE of a few merges."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    found = Tokenizer(models.BPE())
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=[m for m in dict.fromkeys(marks) if m],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
    )  # fmt: skip
    words = ["How do I help with the garden?", "I am happy to help you.", "Ask someone else."]
    found.train_from_iterator(words * 3, trainer)
    return found


def tokenizer_of(family: Family) -> Any:
    """The family's kind of tokenizer."""
    from transformers import PreTrainedTokenizerFast

    bos, eos, pad, *_ = family.marks
    named = {"bos_token": bos, "eos_token": eos, "pad_token": pad}
    made = PreTrainedTokenizerFast(
        tokenizer_object=_trained(family.marks), **{k: v for k, v in named.items() if v}
    )
    others = [mark for mark in family.marks[3:] if mark]
    if others:
        made.add_special_tokens({"extra_special_tokens": others})
    made.chat_template = family.template or None
    return made


def model_of(family: Family, vocabulary: int = 0, seed: int = 0) -> Any:
    """A random model of the family."""
    import transformers

    tokenizer = tokenizer_of(family)
    ids = {
        f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")
    }
    if vocabulary:
        ids = dict.fromkeys(ids)
    settings = {**family.sizes, **family.extra, **ids}
    config = getattr(transformers, family.config)(
        vocab_size=vocabulary or len(tokenizer), **settings
    )
    torch.manual_seed(seed)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def saved(family: Family, folder: Path) -> Path:
    """Model and tokenizer in a folder, as a user has them."""
    model_of(family).save_pretrained(folder)
    tokenizer_of(family).save_pretrained(folder)
    return folder
