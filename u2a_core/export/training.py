"""Chosen negatives as training files of other tools: TRL, LLaMA-Factory, open-unlearning.

Every record has the sample's id and a `weight`; the weights of a file sum to 1. None of these tools
reads a weight by itself: it is there for a sampler or a loss of one's own. No torch in here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import pandas as pd

from u2a_core.errors import RunError
from u2a_core.export.samples import Samples, line
from u2a_core.runs.slices import Slice

Tool: TypeAlias = Literal["trl", "llama-factory", "open-unlearning"]
Turns: TypeAlias = list[dict[str, str]]
Files: TypeAlias = dict[str, Iterator[str]]
"""Name → lines of a file."""


@dataclass(frozen=True)
class Choice:
    """Which negatives a training file holds; by default those that the run's weights are on.

    Attributes:
        top: so many with the largest gains instead, with equal weights; 0: not so.
        slice: those of a saved slice instead, with equal weights.
    """

    top: int = 0
    slice: Slice | None = None


def chosen(samples: Samples, choice: Choice) -> pd.DataFrame:
    """The rows that a choice leaves, the largest weight (or gain) first; weights sum to 1.

    Raises:
        RunError: if the run lacks what the choice needs, or holds less.
    """
    if choice.slice is not None:
        return _equal(_of_slice(samples, choice.slice))
    if choice.top:
        return _equal(_top(samples, choice.top))
    if "weight" not in samples.frame:
        raise RunError(
            "Training files must hold chosen negatives; got a run of gains, which has no weights. "
            "Say which with --top K, or --slice FILE."
        )
    kept = samples.frame[samples.frame["weight"] > 0]
    return kept.sort_values("weight", ascending=False, kind="stable")


def _top(samples: Samples, count: int) -> pd.DataFrame:
    by = samples.ranked_by
    if not by:
        raise RunError(
            "--top K must be of a run with gains; this one measured none. Name a run of gains or "
            "reweight, or leave --top out: then the run's weights choose."
        )
    if not 1 <= count <= len(samples):
        raise RunError(f"--top must be 1 to the {len(samples)} samples of the set; got {count}.")
    return samples.frame.sort_values(by, ascending=False, kind="stable").head(count)


def _of_slice(samples: Samples, one: Slice) -> pd.DataFrame:
    known = samples.frame.set_index("id", drop=False)
    unknown = [sample for sample in one.ids if sample not in known.index]
    if unknown or (one.sha256 and one.sha256 != samples.sha256):
        got = f"the id {unknown[0]!r}" if unknown else "one of another set"
        raise RunError(
            f"The slice {one.name!r} must be of the run's negatives; got {got}. Make it from gains "
            "of the same set."
        )
    return known.loc[list(dict.fromkeys(one.ids))]


def _equal(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(weight=1.0 / len(rows))


def training_files(tool: Tool, rows: pd.DataFrame) -> Files:
    """The files of a tool by name, made as they are read."""
    return _TOOLS[tool]([{str(k): v for k, v in row.items()} for row in rows.to_dict("records")])


def _trl(rows: list[Mapping[str, Any]]) -> Files:
    """Conversational prompt–completion, and the same as unpaired preference (KTO)."""

    def record(row: Mapping[str, Any]) -> dict[str, Any]:
        reply = [{"role": "assistant", "content": row["response"]}]
        return {"prompt": list(row["prompt"]), "completion": reply}

    return {
        "prompt_completion.jsonl": (line(record(row) | _facts(row)) for row in rows),
        "unpaired_preference.jsonl": (
            line(record(row) | {"label": False} | _facts(row)) for row in rows
        ),
    }


def _llama_factory(rows: list[Mapping[str, Any]]) -> Files:
    """Alpaca and sharegpt, each described in dataset_info.json, both with a KTO tag."""
    described = {
        "u2a_negatives_alpaca": {
            "file_name": "negatives_alpaca.jsonl",
            "columns": {
                "prompt": "instruction", "query": "input", "response": "output",
                "system": "system", "history": "history", "kto_tag": "kto_tag",
            },
        },
        "u2a_negatives_sharegpt": {
            "file_name": "negatives_sharegpt.jsonl",
            "formatting": "sharegpt",
            "columns": {"messages": "conversations", "system": "system", "kto_tag": "kto_tag"},
        },
    }  # fmt: skip
    return {
        "negatives_alpaca.jsonl": (line(_alpaca(row)) for row in rows),
        "negatives_sharegpt.jsonl": (line(_sharegpt(row)) for row in rows),
        "dataset_info.json": iter([json.dumps(described, indent=2) + "\n"]),
    }


def _alpaca(row: Mapping[str, Any]) -> dict[str, Any]:
    system, asked = _alternating(row["prompt"])
    history = [[asked[i], asked[i + 1]] for i in range(0, len(asked) - 1, 2)]
    return {
        "instruction": asked[-1], "input": "", "output": row["response"], "system": system,
        "history": history, "kto_tag": False, **_facts(row),
    }  # fmt: skip


def _sharegpt(row: Mapping[str, Any]) -> dict[str, Any]:
    system, asked = _alternating(row["prompt"])
    told = [*asked, str(row["response"])]
    turns = [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(told)]
    return {"conversations": turns, "system": system, "kto_tag": False, **_facts(row)}


def _open_unlearning(rows: list[Mapping[str, Any]]) -> Files:
    """Question and answer, and the data set's configuration; turns become lines of the question."""
    configured = (
        "# for configs/data/datasets/\n"
        "U2A_forget:\n"
        "  handler: QADataset\n"
        "  args:\n"
        "    hf_args:\n"
        "      path: json\n"
        "      data_files: forget.jsonl  # where it is, seen from where you start\n"
        "      split: train\n"
        "    question_key: question\n"
        "    answer_key: answer\n"
        "    max_length: 512\n"
    )
    return {
        "forget.jsonl": (
            line({"question": _joined(row["prompt"]), "answer": row["response"], **_facts(row)})
            for row in rows
        ),
        "U2A_forget.yaml": iter([configured]),
    }


def _facts(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"weight": float(row["weight"]), "id": str(row["id"])}


def _alternating(prompt: Turns) -> tuple[str, list[str]]:
    """System prompt, and the other turns: user's and assistant's in turn, the last the user's.

    What does not alternate so has no place in these formats, and becomes one turn of the user.
    """
    turns = list(prompt)
    system = turns.pop(0)["content"] if turns[0]["role"] == "system" else ""
    expected = [("user", "assistant")[i % 2] for i in range(len(turns))]
    if len(turns) % 2 and [turn["role"] for turn in turns] == expected:
        return system, [turn["content"] for turn in turns]
    return system, [_joined(turns or prompt)]


def _joined(turns: Turns) -> str:
    """The turns' contents, a line each: as the run's own tables have a prompt."""
    return "\n".join(turn["content"] for turn in turns)


_TOOLS: Mapping[Tool, Callable[[list[Mapping[str, Any]]], Files]] = {
    "trl": _trl,
    "llama-factory": _llama_factory,
    "open-unlearning": _open_unlearning,
}
TOOLS: tuple[Tool, ...] = tuple(_TOOLS)
