"""Chat templates: fallback, system prompts, thinking, what of a conversation is the reply."""

from collections.abc import Callable
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import pytest
from families import FAMILIES, Family, saved, tokenizer_of

from u2a_core.config import ModelSettings
from u2a_core.data.encode import batches, encode, prompt_ids
from u2a_core.errors import DataError, ModelError
from u2a_core.models import chat_tokenizer, load_policy, save_policy
from u2a_core.types import Message, Prompt, Sample, user_prompt

TALK = (Message("user", "Hi."), Message("assistant", "Hello."), Message("user", "Help me."))
KIND = (Message("system", "Be kind."), *TALK)


def kept(name: str, folder: Path) -> str:
    tokenizer_of(FAMILIES[name]).save_pretrained(folder)
    return str(folder)


def opened(name: str, folder: Path, **settings: object) -> tuple[Any, tuple[str, ...]]:
    return chat_tokenizer(ModelSettings(path=kept(name, folder), **settings))


def parts(prompt: Prompt, reply: str, tokenizer: Any) -> tuple[str, str]:
    """What the model reads, and what of it is the reply, through a batch's labels."""
    rows, _ = encode([Sample("s", prompt, reply)], tokenizer, max_length=500)
    (batch,) = batches(rows, tokens_per_batch=500, pad_id=tokenizer.pad_token_id or 0)
    learned = batch.labels[0] != -100
    assert bool(learned[learned.nonzero()[0] :].all())
    ids = batch.input_ids[0]
    return tokenizer.decode(ids[~learned]), tokenizer.decode(ids[learned])


def test_without_a_template_the_fallback_is_used_and_told(tmp_path: Path):
    tokenizer, told = opened("pythia", tmp_path)
    assert "the fallback named plain" in told[0]
    read, reply = parts(KIND, "Gladly.", tokenizer)
    assert (
        read == "Be kind.\n\nUser: Hi.\nAssistant: Hello.<|endoftext|>\nUser: Help me.\nAssistant:"
    )
    assert reply == " Gladly.<|endoftext|>"


def test_who_asks_for_plain_is_told_nothing_and_who_asks_for_own_is_refused(tmp_path: Path):
    assert opened("gpt2", tmp_path, chat_template="plain")[1] == ()
    with pytest.raises(ModelError, match=r"or set model\.chat_template plain"):
        opened("gpt2", tmp_path, chat_template="own")


def test_plain_takes_the_place_of_an_own_template(tmp_path: Path):
    tokenizer, _ = opened("qwen2.5", tmp_path, chat_template="plain")
    assert parts(user_prompt("Hi."), "Yes.", tokenizer) == (
        "User: Hi.\nAssistant:",
        " Yes.<|im_end|>",
    )


@pytest.mark.parametrize("begins", [True, False])
def test_plain_begins_as_the_tokenizer_begins_a_text(tmp_path: Path, begins: bool):
    tokenizer = tokenizer_of(FAMILIES["gpt2"])
    if begins:
        from tokenizers.processors import TemplateProcessing

        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", tokenizer.bos_token_id)]
        )
    tokenizer.save_pretrained(tmp_path)
    found, _ = chat_tokenizer(ModelSettings(path=str(tmp_path)))
    (ids,) = prompt_ids([user_prompt("Hi.")], found)
    assert ids.count(found.bos_token_id) == begins
    assert (ids[0] == found.bos_token_id) == begins


@pytest.mark.parametrize("name", [n for n, f in FAMILIES.items() if not f.marks[2]])
def test_a_missing_pad_token_costs_no_end_token(name: str, tmp_path: Path):
    """Padding is told by lengths: an end token is learned, and padding is not, whatever its id."""
    tokenizer, _ = opened(name, tmp_path)
    rows, _ = encode(
        [Sample(str(i), user_prompt("Hi."), "word " * n) for i, n in enumerate((1, 9))],
        tokenizer, max_length=500,
    )  # fmt: skip
    for pad in (0, tokenizer.eos_token_id):
        (batch,) = batches(rows, tokens_per_batch=5000, pad_id=pad)
        ends = (batch.labels != -100) & (batch.input_ids == tokenizer.convert_tokens_to_ids(
            "<|end|>" if name == "phi3" else tokenizer.eos_token))  # fmt: skip
        assert ends.sum(1).tolist() == [1, 1]
        assert bool((batch.labels[batch.attention_mask == 0] == -100).all())


@pytest.mark.parametrize("name", FAMILIES)
def test_the_reply_and_its_end_are_what_is_learned(name: str, tmp_path: Path):
    """No line break behind the end token, where nothing is ever sampled."""
    tokenizer, _ = opened(name, tmp_path)
    (ids,) = prompt_ids([TALK], tokenizer)
    read, reply = parts(TALK, "Gladly, for you.", tokenizer)
    assert read == tokenizer.decode(ids)
    end = {"phi3": "<|end|>", "gemma2": "<end_of_turn>", "gemma3": "<end_of_turn>"}
    assert reply.replace(" </s>", "</s>") in (
        f"{space}Gladly, for you.{end.get(name, tokenizer.eos_token)}" for space in ("", " ")
    )


@pytest.mark.parametrize("name", ["gemma2", "pythia", "qwen2.5", "llama2"])
def test_a_system_prompt_of_the_settings_reaches_conversations_without_one(
    name: str, tmp_path: Path
):
    tokenizer, told = opened(name, tmp_path, system='Answer "so" – {{ briefly }} 😀\nnow.')
    text = 'Answer "so" – {{ briefly }} 😀\nnow.'
    (bare, kind) = (tokenizer.decode(i) for i in prompt_ids([TALK, KIND], tokenizer))
    assert bare.count(text) == 1
    assert text not in kind
    assert "Be kind." in kind
    assert ("no system role" in " ".join(told)) == (name == "gemma2")


def test_a_template_without_a_system_role_gets_it_in_the_first_turn(tmp_path: Path):
    tokenizer, told = opened("gemma3", tmp_path)
    read, _ = parts(KIND, "Yes.", tokenizer)
    assert read.startswith("<bos><start_of_turn>user\nBe kind.\n\nHi.<end_of_turn>\n")
    assert told == ()


def test_a_template_that_leaves_the_system_text_out_gets_it_too(tmp_path: Path):
    tokenizer = tokenizer_of(FAMILIES["olmo"])
    tokenizer.chat_template = "{% for m in messages if m['role'] != 'system' %}" \
        "{{ m['content'] }}{% endfor %}"  # fmt: skip
    tokenizer.save_pretrained(tmp_path)
    found, _ = chat_tokenizer(ModelSettings(path=str(tmp_path)))
    assert found.decode(prompt_ids([KIND], found)[0]).startswith("Be kind.\n\nHi.")


@pytest.mark.parametrize("name", ["mistral", "gemma2"])
def test_turns_that_must_alternate_are_refused_by_a_sentence(name: str, tmp_path: Path):
    tokenizer, _ = opened(name, tmp_path)
    twice = (Message("user", "Hi."), Message("user", "Hello."))
    with pytest.raises(DataError, match=r"alternate for the roles user, user, ending in 'Hello\.'"):
        prompt_ids([twice], tokenizer)


def test_an_own_template_is_left_as_it_is(tmp_path: Path):
    assert opened("llama3", tmp_path)[0].chat_template == FAMILIES["llama3"].template


def test_of_several_templates_the_default_is_taken(tmp_path: Path):
    tokenizer = tokenizer_of(FAMILIES["llama3"])
    tokenizer.chat_template = {"default": FAMILIES["llama3"].template, "tool_use": "tools"}
    tokenizer.save_pretrained(tmp_path)
    found, _ = chat_tokenizer(ModelSettings(path=str(tmp_path)))
    assert found.chat_template == FAMILIES["llama3"].template


def test_the_empty_block_of_thoughts_is_prompt_in_training_as_in_sampling(tmp_path: Path):
    tokenizer, _ = opened("qwen3", tmp_path)
    read, reply = parts(TALK, "Gladly.", tokenizer)
    assert read.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert reply == "Gladly.<|im_end|>"
    assert read == tokenizer.decode(prompt_ids([TALK], tokenizer)[0])


def test_a_block_of_thoughts_that_the_template_opens_is_closed(tmp_path: Path):
    """As templates of models that always think: the block is in the prompt, and in no reply."""
    tokenizer = tokenizer_of(FAMILIES["qwen3"])
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' }}"
        "{{ m['content'] + '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}"
    )
    read, reply = parts(user_prompt("Hi."), "Gladly.", tokenizer)
    assert read.endswith("assistant\n<think>\n\n</think>\n\n")
    assert reply == "Gladly.<|im_end|>"


def test_the_mended_template_is_saved_with_the_model(tmp_path: Path):
    base = Family("GPTNeoXConfig", FAMILIES["pythia"].sizes, FAMILIES["pythia"].marks, "")
    settings = ModelSettings(
        path=str(saved(base, tmp_path / "model")), device="cpu", dtype="float32", system="Be kind."
    )
    policy = load_policy(settings)
    save_policy(policy, tmp_path / "out", provenance={})
    again, told = chat_tokenizer(ModelSettings(path=str(tmp_path / "out")))
    assert told == ()
    assert prompt_ids([TALK], again) == prompt_ids([TALK], policy.tokenizer)


_CLOCKED = (
    "{{- bos_token }}\n{%- if not date_string is defined %}{%- if strftime_now is defined %}"
    "{%- set date_string = strftime_now('%d %b %Y %H:%M:%S') %}"
    "{%- else %}{%- set date_string = '26 Jul 2024' %}{%- endif %}{%- endif %}"
    "{{- 'Today Date: ' + date_string + '\\n' }}"
)
_IN_A_MACRO = (
    "\n{% macro today() %}{{ 'On ' + strftime_now('%A, %B %-d %Y') + '\\n' }}{% endmacro %}"
    "{% for m in messages[:1] %}{{ today() }}{% endfor %}"
)


@pytest.fixture
def day(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sets the clock that chat templates see."""
    from transformers.utils import chat_template_utils

    def set_to(date: str) -> None:
        class Clock(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> datetime:
                return datetime.fromisoformat(date)

        monkeypatch.setattr(chat_template_utils, "datetime", Clock)

    return set_to


@pytest.mark.parametrize(
    ("head", "date"),
    [(_CLOCKED, "26 Jul 2024 00:00:00"), (_IN_A_MACRO, "On Friday, July 26 2024\n")],
)
@pytest.mark.parametrize("family", ["llama3", "gemma2"])
def test_a_template_that_writes_the_date_writes_the_same_every_day(
    tmp_path: Path, day: Callable[[str], None], family: str, head: str, date: str
):
    tokenizer = tokenizer_of(FAMILIES[family])
    tokenizer.chat_template = head + FAMILIES[family].template
    tokenizer.save_pretrained(tmp_path)
    found, told = chat_tokenizer(ModelSettings(path=str(tmp_path), system="Be brief."))
    assert "writes the day's date: here it is always 26 July 2024" in told[0]
    turns, read, raw = [{"role": "user", "content": "Hi."}], [], []
    for today in ("2025-01-02", "2026-11-30"):
        day(today)
        rows, _ = encode([Sample("s", TALK, "Yes.")], found, max_length=500)
        read.append((prompt_ids([KIND], found), rows))
        raw.append(tokenizer.apply_chat_template(turns, tokenize=False))
    assert read[0] == read[1]
    assert raw[0] != raw[1]
    stopped = tokenizer.decode(tokenizer(date, add_special_tokens=False)["input_ids"])
    assert stopped in found.decode(read[0][0][0])
    day("2024-07-26")  # on that day nothing is changed, the begin of the template included
    found, _ = chat_tokenizer(ModelSettings(path=str(tmp_path)))
    assert found.apply_chat_template(turns, tokenize=False) == tokenizer.apply_chat_template(
        turns, tokenize=False
    )


def test_a_saved_model_knows_the_day(tmp_path: Path):
    """Its clock runs again; a run that begins with it stops it again."""
    family = FAMILIES["llama3"]
    template = _CLOCKED + family.template
    base = Family(family.config, family.sizes, family.marks, template)
    policy = load_policy(ModelSettings(path=str(saved(base, tmp_path / "model")), device="cpu"))
    save_policy(policy, tmp_path / "out", provenance={})
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == template
    again = load_policy(ModelSettings(path=str(tmp_path / "out"), device="cpu"))
    assert again.tokenizer.chat_template == policy.tokenizer.chat_template != template
    assert len(again.warnings) == len(policy.warnings) == 1


_OF_THE_LAST_TURN = (
    "{%- if messages[0]['role'] == 'system' %}{%- set system = messages[0]['content'] %}"
    "{%- set messages = messages[1:] %}{%- endif %}{{- bos_token }}{%- for m in messages %}"
    "{%- if m['role'] == 'user' %}{{- '[INST] ' + (system + '\\n\\n' if loop.last and system is "
    "defined else '') + m['content'] + '[/INST]' }}"
    "{%- else %}{{- ' ' + m['content'] | trim + eos_token }}{%- endif %}{%- endfor %}"
)
"""As Mistral 7B v0.3 has it: the system text is in the last turn, if that is the user's."""
_OPENED = (
    "{{ bos_token }}{% for m in messages %}{{ '[INST]' + m['content'] if m['role'] == 'user' else "
    "'[/INST]' + m['content'] + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[/INST]<think>\\n' }}{% endif %}"
)
"""As distilled thinking models have it: what opens the thoughts is not in the conversation."""


@pytest.mark.parametrize(
    ("template", "reply", "learned"),
    [
        (_OF_THE_LAST_TURN, "Yes.", " Yes.</s>"),
        (_OF_THE_LAST_TURN, "  Yes.\n", " Yes.</s>"),
        (_OF_THE_LAST_TURN, " Yes.", " Yes.</s>"),
        (_OPENED, "Yes.", "Yes.</s>"),
        (_OPENED, "  Yes. \n", "  Yes. \n</s>"),
        (_OPENED, "s", "s</s>"),  # which the end token holds, too
        (_OPENED, "Hi.", "Hi.</s>"),  # which the prompt holds, too
    ],
)
def test_a_reply_whose_prompt_the_template_rewrites_is_learned_as_it_is_written(
    template: str, reply: str, learned: str
):
    tokenizer = tokenizer_of(FAMILIES["mistral"])
    tokenizer.chat_template = template
    prompt = (*KIND[:1], Message("user", "Hi."))
    read, found = parts(prompt if template == _OF_THE_LAST_TURN else prompt[1:], reply, tokenizer)
    assert found == learned
    assert "Be kind.\n\nHi.[/INST]" in read or read.endswith("<think>\n\n</think>\n\n")
    if template == _OF_THE_LAST_TURN:  # as without a system text, where nothing is rewritten
        assert parts(prompt[1:], reply, tokenizer)[1] == learned
