"""The formats of files of samples, in one table, and how one is recognized.

A file has one format: that of most of its first records. A format that only names usual columns has
no function of its own: its records are read by their columns' names, one by one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import get_args

from u2a_core.config import FormatName, Part
from u2a_core.data import finetuning, schemas, scored
from u2a_core.data.entries import Entry, is_flag, same
from u2a_core.data.files import Record
from u2a_core.data.turns import dialogue, is_unanswered


@dataclass(frozen=True)
class Format:
    """What a format looks like, and how its records are read.

    Attributes:
        title: its name in full.
        needs: columns that every record has.
        entry: reads a record; None: by the names of its columns.
        looks: whether a record that has the columns is of this format, by its other columns and
            its values.
        reads: column → what it is read as, where the columns' own names do not tell.
    """

    title: str
    needs: tuple[str, ...]
    entry: Callable[[Record], Entry] | None = None
    looks: Callable[[Record], bool] = lambda _: True
    reads: Mapping[str, Part | str] = field(default_factory=dict)


def _has(*columns: str) -> Callable[[Record], bool]:
    return lambda record: any(column in record for column in columns)


def _never(_: Record) -> bool:
    """Of a format that has to be named."""
    return False


def _is_dialogue(record: Record) -> bool:
    return all(
        isinstance(record[side], str) and record[side].lstrip().startswith("Human:")
        for side in ("chosen", "rejected")
    )


def _is_unanswered(record: Record) -> bool:
    return is_unanswered(record["prompt"]) and not _is_labelled(record)


def _is_scored(record: Record) -> bool:
    return None not in scored.scores(record)


def _is_scored_chat(record: Record) -> bool:
    return _is_scored(record) and isinstance(record["chosen"], list)


def _holds_replies(record: Record) -> bool:
    return isinstance(record["completions"], list)


def _is_implicit(record: Record) -> bool:
    texts = isinstance(record["chosen"], str) and isinstance(record["rejected"], str)
    return texts and not _has("prompt", "instruction", "question")(record)


def _is_swapped(record: Record) -> bool:
    return schemas.affirmative(record["goal"]) and not schemas.affirmative(record["target"])


def _is_chat(record: Record) -> bool:
    return isinstance(record["chosen"], list | dict)


def _is_labelled(record: Record) -> bool:
    return is_flag(record.get("label", record.get("kto_tag")))


def _halueval(title: str, asked: str, reply: str, read: schemas.Reads = same) -> Format:
    """A part of HaluEval with a right and a hallucinated reply."""
    right, wrong = f"right_{reply}", f"hallucinated_{reply}"
    entry = partial(schemas.halueval, asked=asked, right=right, wrong=wrong, read=read)
    reads: Mapping[str, Part | str] = {asked: "prompt", right: "chosen", wrong: "rejected"}
    return Format(f"HaluEval, {title}", (asked, right, wrong), entry, reads=reads)


def _judged(title: str, asked: str, reply: str, read: schemas.Reads = same) -> Format:
    """A part of HaluEval with a verdict on one reply."""
    verdict = "hallucination"
    entry = partial(schemas.halueval_judged, asked=asked, answered=reply, read=read)
    told = {asked: "prompt", reply: "response", verdict: "whether it is hallucinated"}
    return Format(f"HaluEval, {title}", (asked, reply, verdict), entry, reads=told)


_SCORED: Mapping[str, Part | str] = {
    "prompt": "prompt", "question": "prompt, if there is no other",
    "instruction": "prompt, if there is no other", "input": "prompt, continued", "chosen": "chosen",
    "rejected": "rejected", "system": "system message",
    **{column: "score" for columns in scored.SCORE_COLUMNS for column in columns},
}  # fmt: skip
_SAFER: Mapping[str, Part | str] = {
    "prompt": "prompt", "response_0": "reply", "response_1": "reply",
    "is_response_0_safe": "whether it is safe", "is_response_1_safe": "whether it is safe",
    "response_0_severity_level": "safe at 0, if not marked",
    "response_1_severity_level": "safe at 0, if not marked",
    "response_0_harm_category": "kind", "response_1_harm_category": "kind",
}  # fmt: skip
_ALPACA: Mapping[str, Part | str] = {
    "instruction": "prompt", "input": "prompt, continued", "output": "response",
    "system": "system message", "history": "earlier turns",
}  # fmt: skip
_TALK: Mapping[str, Part | str] = {
    "conversations": "messages", "messages": "messages", "system": "system message",
}  # fmt: skip
_WANTED: Mapping[str, Part | str] = {
    "label": "whether it is wanted", "kto_tag": "whether it is wanted"
}  # fmt: skip
FORMATS: Mapping[FormatName, Format] = {
    "pku-saferlhf": Format(
        "PKU-SafeRLHF, pairs by safety", ("prompt", "response_0", "response_1"),
        schemas.pku_saferlhf,
        _has("is_response_0_safe", "response_0_severity_level", "response_0_harm_category"),
        {**_SAFER, "safer_response_id": "which one is chosen"},
    ),
    "pku-saferlhf-helpful": Format(
        "PKU-SafeRLHF, pairs by helpfulness", ("prompt", "response_0", "response_1"),
        partial(schemas.pku_saferlhf, by="better_response_id"), _never,
        {**_SAFER, "better_response_id": "which one is chosen"},
    ),
    "beavertails": Format(
        "BeaverTails", ("prompt", "response", "is_safe"), schemas.beavertails,
        reads={"prompt": "prompt", "response": "response", "category": "kind",
               "harm_category": "kind", "is_safe": "whether it is safe"},
    ),
    "halueval-qa": _halueval("questions", "question", "answer"),
    "halueval-dialogue": _halueval("dialogues", "dialogue_history", "response", dialogue),
    "halueval-summarization": _halueval("summaries", "document", "summary", schemas.summary_of),
    "halueval-general": _judged("general", "user_query", "chatgpt_response"),
    "halueval-qa-samples": _judged("questions with a verdict", "question", "answer"),
    "halueval-dialogue-samples": _judged(
        "dialogues with a verdict", "dialogue_history", "response", dialogue
    ),
    "halueval-summarization-samples": _judged(
        "summaries with a verdict", "document", "summary", schemas.summary_of
    ),
    "truthfulqa": Format(
        "TruthfulQA", ("question",), schemas.truthfulqa,
        _has("incorrect answers", "incorrect_answers", "mc1_targets", "mc2_targets"),
        {"question": "prompt", "category": "kind",
         **dict.fromkeys(("best answer", "best_answer"), "chosen"),
         **dict.fromkeys(("correct answers", "correct_answers"), "replies to keep"),
         **dict.fromkeys(("incorrect answers", "incorrect_answers"), "rejected"),
         **dict.fromkeys(("mc1_targets", "mc2_targets"), "replies with labels")},
    ),
    "advbench-swapped": Format(
        "AdvBench, headers swapped", ("goal", "target"),
        partial(schemas.advbench, asked="target", answered="goal"), _is_swapped,
        {"target": "prompt", "goal": "response"},
    ),
    "advbench": Format(
        "AdvBench", ("goal", "target"), schemas.advbench,
        reads={"goal": "prompt", "target": "response"},
    ),
    "hh-rlhf": Format(
        "HH-RLHF dialogues", ("chosen", "rejected"), schemas.hh_rlhf, _is_dialogue,
        {"chosen": "chosen", "rejected": "rejected"},
    ),
    "hh-rlhf-prompt": Format(
        "HH-RLHF dialogues that are asked to go on", ("prompt",), schemas.hh_prompt,
        _is_unanswered,
        {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected",
         **dict.fromkeys(("response", "completion"), "response, if there is no pair")},
    ),
    "ultrafeedback": Format(
        "UltraFeedback, replies with scores", ("instruction", "completions"), scored.completions,
        _holds_replies, {"instruction": "prompt", "completions": "replies with scores"},
    ),
    "ultrafeedback-binarized": Format(
        "UltraFeedback, binarized chats with scores", ("chosen", "rejected"), scored.scored,
        _is_scored_chat, _SCORED,
    ),
    "ultrafeedback-flat": Format(
        "UltraFeedback, texts with scores", ("chosen", "rejected"), scored.scored, _is_scored,
        {**_SCORED, "metadata": "scores"},
    ),
    "sharegpt-dpo": Format(
        "LLaMA-Factory ShareGPT, DPO", ("conversations", "chosen", "rejected"),
        finetuning.sharegpt_dpo,
        reads={**_TALK, "conversations": "prompt", "chosen": "chosen", "rejected": "rejected"},
    ),
    "sharegpt-kto": Format(
        "LLaMA-Factory ShareGPT, KTO", (), finetuning.sharegpt_kto,
        lambda record: _is_labelled(record) and _has("conversations", "messages")(record),
        {**_TALK, **_WANTED},
    ),
    "alpaca-dpo": Format(
        "LLaMA-Factory Alpaca, DPO", ("instruction", "chosen", "rejected"), finetuning.alpaca_dpo,
        reads={**_ALPACA, "chosen": "chosen", "rejected": "rejected"},
    ),
    "alpaca-kto": Format(
        "LLaMA-Factory Alpaca, KTO", ("instruction", "output", "kto_tag"), finetuning.alpaca_kto,
        reads={**_ALPACA, "kto_tag": "whether it is wanted"},
    ),
    "trl-unpaired": Format(
        "TRL unpaired preference", ("prompt", "completion", "label"), finetuning.unpaired,
        _is_labelled,
        {"prompt": "prompt", "completion": "response", "label": "whether it is wanted",
         "system": "system message"},
    ),
    "trl-preference-chat": Format(
        "TRL preference, conversational", ("chosen", "rejected"), looks=_is_chat
    ),
    "trl-preference-implicit": Format(
        "TRL preference, prompt in both texts", ("chosen", "rejected"), finetuning.implicit,
        _is_implicit, {"chosen": "prompt and chosen", "rejected": "prompt and rejected",
         "system": "system message"},
    ),
    "trl-preference": Format("TRL preference", ("chosen", "rejected")),
    "alpaca-eval": Format(
        "AlpacaEval", ("instruction", "output"), finetuning.alpaca, _has("generator", "dataset"),
        _ALPACA,
    ),
    "alpaca": Format(
        "LLaMA-Factory Alpaca", ("instruction", "output"), finetuning.alpaca, reads=_ALPACA
    ),
    "sharegpt": Format(
        "LLaMA-Factory ShareGPT", ("conversations",), finetuning.sharegpt, reads=_TALK
    ),
    "messages": Format("Chat messages", ("messages",)),
    "tofu": Format(
        "TOFU with perturbed answers", ("question", "answer"), schemas.tofu,
        _has("perturbed_answer", "paraphrased_answer"),
        {"question": "prompt", "answer": "response", "perturbed_answer": "rejected"},
    ),
    "muse-verbmem": Format(
        "MUSE, verbatim memory", ("prompt", "gt"), schemas.muse,
        reads={"prompt": "prompt", "gt": "response"},
    ),
    "question-answer": Format("Question and answer (TOFU, MUSE)", ("question", "answer")),
    "prompt-completion": Format("TRL prompt and completion", ("prompt", "completion")),
    "prompt-response": Format("Prompt and response", ("prompt", "response")),
    "prompts": Format("Prompts", (), looks=_has("prompt", "instruction", "question")),
}  # fmt: skip
"""Format → how it is read; the first that a record looks like is its own."""

CHOICES: tuple[FormatName, ...] = get_args(FormatName)
"""Every format's name, in the order in which they are offered."""
_BY_NAME: Mapping[str, Mapping[Part, str]] = {
    "messages": {"messages": "messages"},
    "question-answer": {"prompt": "question", "response": "answer"},
    "prompt-completion": {"prompt": "prompt", "response": "completion"},
    "prompt-response": {"prompt": "prompt", "response": "response"},
}


def named_columns(name: FormatName) -> Mapping[Part, str]:
    """Part → column of a format that only names usual columns, for where it is asked for."""
    return _BY_NAME.get(name, {})


def detect(records: Sequence[Record]) -> FormatName | None:
    """The format of most of a file's first records, their columns in lower case; None: unknown."""
    votes = Counter(name for name in map(_format_of, records) if name is not None)
    return max(votes, key=lambda name: votes[name], default=None)


def fits(name: FormatName, record: Record) -> bool:
    """Whether a record has the columns of a format."""
    return all(column in record for column in FORMATS[name].needs)


def _format_of(record: Record) -> FormatName | None:
    return next(
        (name for name, known in FORMATS.items() if fits(name, record) and known.looks(record)),
        None,
    )
