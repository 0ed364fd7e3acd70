"""Records of the formats of LLaMA-Factory and TRL → entries, as in `schemas`."""

from __future__ import annotations

from u2a_core.data.entries import Cell, Entry, Reply, first_of, flag, joined
from u2a_core.data.files import Record
from u2a_core.data.schemas import NO_PAIRS, marked, preferred, stripped
from u2a_core.data.turns import Unusable, is_unanswered, parted, unanswered


def unpaired(record: Record) -> Entry:
    """A reply with a label, true where it is wanted."""
    asked, said = record["prompt"], record["completion"]
    if is_unanswered(asked):
        asked, said = unanswered(asked), stripped(said)
    return marked(asked, Reply(said, "completion"), flag(record["label"]), "label")


def implicit(record: Record) -> Entry:
    """Two texts that begin with the same prompt."""
    prompt, *rests = parted(record["chosen"], record["rejected"])
    better, worse = map(Reply, rests, ("chosen", "rejected"))
    return Entry(prompt, (worse,), (better,), ((better, worse),), "chosen")


def alpaca(record: Record) -> Entry:
    """Instruction and input, after earlier turns where there are some."""
    reply = Reply(record["output"], "output")
    return Entry(alpaca_prompt(record), (reply,), (reply,), asked="instruction", without=NO_PAIRS)


def alpaca_dpo(record: Record) -> Entry:
    """The same prompt with a chosen and a rejected reply."""
    return preferred(record, prompt=alpaca_prompt(record), asked="instruction")


def alpaca_kto(record: Record) -> Entry:
    """The same prompt with a reply that is wanted, or not."""
    reply, good = Reply(record["output"], "output"), flag(record["kto_tag"])
    return marked(alpaca_prompt(record), reply, good, "kto_tag", asked="instruction")


def alpaca_prompt(record: Record) -> Cell:
    """Instruction and input as a text; the turns of a conversation where earlier ones are given."""
    asked, before = joined(record["instruction"], record.get("input")), list[dict[str, Cell]]()
    history = record.get("history") or []
    for turn in history if isinstance(history, list) else [history]:
        if not isinstance(turn, list | tuple) or len(turn) != 2:
            raise Unusable("history must hold pairs of an instruction and a reply")
        before += [{"role": "user", "content": turn[0]}, {"role": "assistant", "content": turn[1]}]
    return [*before, {"role": "user", "content": asked}] if before else asked


def sharegpt_dpo(record: Record) -> Entry:
    """A conversation up to the user's turn, and two replies to it."""
    return preferred(record, prompt=_conversation(record), asked="conversations")


def sharegpt_kto(record: Record) -> Entry:
    """A whole conversation whose last reply is wanted, or not."""
    tag = "kto_tag" if "kto_tag" in record else "label"
    reply = Reply(_conversation(record), "conversations")
    return marked(None, reply, flag(record.get(tag)), tag)


def sharegpt(record: Record) -> Entry:
    """A whole conversation."""
    reply = Reply(_conversation(record), "conversations")
    return Entry(None, (reply,), (reply,), without=NO_PAIRS)


def _conversation(record: Record) -> Cell:
    return first_of(record, "conversations", "messages")
