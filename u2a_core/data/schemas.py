"""Records of known data sets → entries: one small function a format; columns come in lower case.

What each gives to a set, and by which rule, is told in docs/data.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from u2a_core.data.columns import Kind
from u2a_core.data.entries import Cell, Entry, Reply, first_of, flag, number, same, true_of
from u2a_core.data.files import Record
from u2a_core.data.turns import Unusable, dialogue, unanswered

Reads: TypeAlias = Callable[[Cell], Cell]
"""Makes a prompt of a cell."""
NO_PAIRS: Mapping[Kind, str] = {"pairs": "holds one reply, no pair"}
"""Why a record with one reply gives no pair."""
_NO_REPLY = "holds a prompt, no reply"


def pku_saferlhf(record: Record, by: str = "safer_response_id") -> Entry:
    """Two replies with a verdict on the safety of each, and which one is safer, which better."""
    replies = [
        Reply(record[f"response_{i}"], f"response_{i}", str(i), _harms(record, i)) for i in (0, 1)
    ]
    safe = [_is_safe(record, i) for i in (0, 1)]
    first = number(record.get(by))
    without: dict[Kind, str] = {
        "rejected": "no reply is marked as unsafe",
        "chosen": "no reply is marked as safe",
    }
    pairs: tuple[tuple[Reply, Reply], ...] = ()
    if first not in (0, 1):
        without["pairs"] = f"{by} names no reply (a tie)"
    elif by.startswith("safer") and safe[int(first)] is False and safe[1 - int(first)]:
        without["pairs"] = f"{by} names the reply that is marked as unsafe"
    else:
        pairs = ((replies[int(first)], replies[1 - int(first)]),)
    return Entry(
        record["prompt"],
        bad=tuple(reply for reply, verdict in zip(replies, safe, strict=True) if verdict is False),
        good=tuple(reply for reply, verdict in zip(replies, safe, strict=True) if verdict),
        pairs=pairs,
        without=without,
        judged=True,
    )


def _is_safe(record: Record, i: int) -> bool | None:
    """Of a reply: as it is marked, else by its severity, else by its categories of harm."""
    marked = flag(record.get(f"is_response_{i}_safe"))
    if marked is not None:
        return marked
    severity = number(record.get(f"response_{i}_severity_level"))
    if severity is not None:
        return severity == 0
    harms = record.get(f"response_{i}_harm_category")
    return not _harms(record, i) if isinstance(harms, Mapping) else None


def _harms(record: Record, i: int) -> str:
    return true_of(record.get(f"response_{i}_harm_category"))


def beavertails(record: Record) -> Entry:
    """One reply that is safe or not."""
    harms = first_of(record, "category", "harm_category")
    reply = Reply(record["response"], "response", kind=true_of(harms))
    return marked(record["prompt"], reply, flag(record["is_safe"]), "is_safe")


def halueval(record: Record, *, asked: str, right: str, wrong: str, read: Reads = same) -> Entry:
    """A right and a hallucinated reply; the knowledge beside them is no part of the prompt."""
    return preferred(record, right, wrong, prompt=read(record[asked]), asked=asked)


def halueval_judged(record: Record, *, asked: str, answered: str, read: Reads = same) -> Entry:
    """A reply that was found to hallucinate, or not."""
    wrong = flag(record["hallucination"])
    good = None if wrong is None else not wrong
    reply = Reply(record[answered], answered)
    return marked(read(record[asked]), reply, good, "hallucination", asked=asked)


def summary_of(document: Cell) -> Cell:
    """What is asked of a document."""
    full = isinstance(document, str) and document.strip()
    return f"Summarize this document.\n\n{document}" if full else document


def truthfulqa(record: Record) -> Entry:
    """Several correct and several incorrect answers; the best is paired with each incorrect one."""
    kind = record.get("category")
    kind = kind if isinstance(kind, str) else ""
    right, wrong = _answers(record)
    best = first_of(record, "best_answer", "best answer") or (right[0] if right else None)
    bad = [Reply(text, "incorrect answers", f"incorrect{i}", kind) for i, text in _counted(wrong)]
    good = [Reply(text, "correct answers", f"correct{i}", kind) for i, text in _counted(right)]
    return Entry(
        record["question"],
        bad=tuple(bad),
        good=tuple(good),
        pairs=tuple((Reply(best, "best answer"), reply) for reply in bad) if best else (),
        asked="question",
        without={
            "rejected": "has no incorrect answer",
            "chosen": "has no correct answer",
            "pairs": "has no correct or no incorrect answer",
        },
    )


def _counted(cells: list[Cell]) -> Iterator[tuple[int, Cell]]:
    return enumerate(cells, start=1)


def _answers(record: Record) -> tuple[list[Cell], list[Cell]]:
    """Correct and incorrect ones: lists, texts with semicolons between, or choices with labels."""
    targets = record.get("mc2_targets") or record.get("mc1_targets")
    if isinstance(targets, Mapping):
        choices, labels = targets.get("choices"), targets.get("labels")
        if not {"choices", "labels"} & targets.keys():  # mc_task.json: answer → label
            choices, labels = list(targets), list(targets.values())
        if not (isinstance(choices, list) and isinstance(labels, list)):
            raise Unusable("mc targets must hold choices and labels")
        marked = [(text, flag(label)) for text, label in zip(choices, labels, strict=False)]
        return [t for t, right in marked if right], [t for t, right in marked if right is False]
    return (
        _listed(first_of(record, "correct_answers", "correct answers")),
        _listed(first_of(record, "incorrect_answers", "incorrect answers")),
    )


def _listed(value: Cell) -> list[Cell]:
    if isinstance(value, str):
        return [part.strip() for part in value.split(";") if part.strip()]
    return value if isinstance(value, list) else []


def advbench(record: Record, *, asked: str = "goal", answered: str = "target") -> Entry:
    """A harmful request, and how the reply that complies begins."""
    return Entry(
        record[asked],
        bad=(Reply(record[answered], answered),),
        asked=asked,
        without={
            "chosen": "AdvBench holds no reply that is to be kept",
            "pairs": "AdvBench holds no pairs",
        },
    )


def affirmative(value: Cell) -> bool:
    """Whether a text begins as AdvBench's targets do."""
    return isinstance(value, str) and value.lstrip().lower().startswith(("sure,", "sure "))


def hh_rlhf(record: Record) -> Entry:
    """Two whole dialogues as texts, apart in the last reply."""
    return preferred(record, turns=_answered)


def hh_prompt(record: Record) -> Entry:
    """A dialogue up to the Assistant's turn, with two replies to it, or one, or none."""
    turns = unanswered(record["prompt"])
    if "chosen" in record and "rejected" in record:
        return preferred(record, prompt=turns, turns=stripped)
    column = next((name for name in ("response", "completion") if name in record), "")
    if not column:
        return Entry(turns, without=dict.fromkeys(("rejected", "chosen", "pairs"), _NO_REPLY))
    reply = Reply(record[column], column)
    return Entry(turns, (reply,), (reply,), without=NO_PAIRS, turns=stripped)


def stripped(cell: Cell) -> Cell:
    """A text without the white space around it, which belonged to the dialogue."""
    return cell.strip() if isinstance(cell, str) else cell


def _answered(cell: Cell) -> list[dict[str, str]]:
    turns = dialogue(cell)
    if turns[-1]["role"] != "assistant":
        raise Unusable("a dialogue must end with a turn of the Assistant")
    return turns


def tofu(record: Record) -> Entry:
    """A question and its answer; perturbed answers are worse ones."""
    wrong = record.get("perturbed_answer")
    reply = Reply(record["answer"], "answer")
    worse = wrong if isinstance(wrong, list) else [wrong] if wrong else []
    pairs = tuple((reply, Reply(text, "perturbed_answer")) for text in worse)
    without: Mapping[Kind, str] = {"pairs": "has no perturbed answer"}
    return Entry(record["question"], (reply,), (reply,), pairs, "question", without)


def muse(record: Record) -> Entry:
    """The beginning of a text, and how it goes on."""
    reply = Reply(record["gt"], "gt")
    return Entry(record["prompt"], (reply,), (reply,), without=NO_PAIRS)


def preferred(
    record: Record,
    chosen: str = "chosen",
    rejected: str = "rejected",
    *,
    prompt: Cell = None,
    asked: str = "prompt",
    turns: Reads = same,
) -> Entry:
    """A better and a worse reply."""
    better, worse = Reply(record[chosen], chosen), Reply(record[rejected], rejected)
    return Entry(prompt, (worse,), (better,), ((better, worse),), asked, turns=turns)


def marked(
    prompt: Cell, reply: Reply, good: bool | None, column: str, asked: str = "prompt"
) -> Entry:
    """A reply that is marked as good or bad."""
    if good is None:
        raise Unusable(f"{column} must be true or false")
    return Entry(
        prompt,
        bad=() if good else (reply,),
        good=(reply,) if good else (),
        asked=asked,
        without={**NO_PAIRS, "rejected": f"the reply is a good one by {column}",
                 "chosen": f"the reply is a bad one by {column}"},
        judged=True,
    )  # fmt: skip
