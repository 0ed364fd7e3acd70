"""Entries → samples, preference pairs and prompts; and usual columns → entries."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from u2a_core.config import Part
from u2a_core.data.columns import Kind
from u2a_core.data.entries import Cell, Entry, Reply, joined
from u2a_core.data.files import Record
from u2a_core.data.turns import LeftOut, Unusable, blank, conversation, last_reply, split, text
from u2a_core.types import Message, PreferencePair, Prompt, Sample, prompt_text, user_prompt

Item: TypeAlias = Sample | PreferencePair | Prompt

SYSTEM = "system"
"""A column of system messages, in files of usual columns."""


def by_columns(record: Record, kind: Kind, parts: Mapping[Part, str]) -> Entry:
    """A record whose columns are known: part → column, in lower case.

    Raises:
        Unusable: if it lacks what the kind needs.
    """
    found = _by_columns(record, kind, parts)
    if SYSTEM not in record or SYSTEM in parts.values():
        return found
    return replace(found, system=record[SYSTEM])


def _by_columns(record: Record, kind: Kind, parts: Mapping[Part, str]) -> Entry:
    if kind == "pairs":
        if "chosen" not in parts or "rejected" not in parts:
            raise Unusable("has no columns chosen and rejected")
        better, worse = (Reply(record[parts[s]], parts[s]) for s in ("chosen", "rejected"))
        return Entry(_cell(record, parts), pairs=((better, worse),), asked=_asked_in(parts))
    if kind == "prompts":
        return _asked_alone(record, parts)
    column = parts.get("messages", parts.get("response", ""))
    if not column:
        raise Unusable("has no columns of a known format")
    reply = Reply(record[column], column)
    prompt = None if "messages" in parts else _cell(record, parts)
    pairs: tuple[tuple[Reply, Reply], ...] = ()
    if column in ("chosen", "rejected") and "chosen" in record and "rejected" in record:
        pairs = ((Reply(record["chosen"], "chosen"), Reply(record["rejected"], "rejected")),)
    return Entry(prompt, (reply,), (reply,), pairs, _asked_in(parts))


def _asked_alone(record: Record, parts: Mapping[Part, str]) -> Entry:
    if "prompt" in parts:
        return Entry(_cell(record, parts), asked=_asked_in(parts))
    if "messages" in parts:
        return Entry(good=(Reply(record[parts["messages"]], "messages"),))
    if isinstance(record.get("chosen"), list):  # of a pair without a prompt of its own
        return Entry(good=(Reply(record["chosen"], "chosen"),))
    raise Unusable("has no column prompt, instruction, question or messages")


def _asked_in(parts: Mapping[Part, str]) -> str:
    return parts.get("prompt", "prompt")


def _cell(record: Record, parts: Mapping[Part, str]) -> Cell:
    """The prompt's cell, an instruction with its input; None where there is no such column."""
    column = parts.get("prompt")
    if column is None:
        return None
    return joined(record[column], record.get("input") if column == "instruction" else None)


def items(
    entry: Entry, kind: Kind, key: Cell = None, group: Cell = None
) -> Iterator[Item | Unusable]:
    """What an entry gives to a set of a kind; for what cannot be used, the reason instead.

    Args:
        entry: the record.
        kind: what is made of it.
        key: its own id, where it has one.
        group: its own kind, where it has one.
    """
    todo: list[Callable[[], Item]]
    if kind == "prompts":
        todo = [partial(_prompt_alone, entry)]
    elif kind == "pairs":
        todo = [partial(_pair, entry, *pair) for pair in entry.pairs]
    else:
        replies = entry.bad if kind == "rejected" else entry.good
        todo = [partial(sample_of, entry, reply, key, group) for reply in replies]
    if not todo:
        yield LeftOut(entry.without.get(kind, "gives nothing to this set"))
    for make in todo:
        try:
            yield make()
        except Unusable as reason:
            yield reason


def sample_of(entry: Entry, reply: Reply, key: Cell = None, group: Cell = None) -> Sample:
    """A reply with what it answers.

    Raises:
        Unusable: if something is missing.
    """
    if len(entry.pairs) == 1 and _same(entry, *entry.pairs[0]):
        raise Unusable("chosen and rejected are identical")
    cell = entry.turns(reply.cell)
    response = last_reply(cell, reply.column)
    prompt = _prompt(entry, cell)
    if key is None or key == "":
        content = f"{prompt_text(prompt)}\x1f{response}".encode()
        key = hashlib.sha256(content).hexdigest()[:12]
    elif reply.which:
        key = f"{_word(key, 'id')}.{reply.which}"
    kind = _word(group, "kind") if group else reply.kind
    return Sample(_word(key, "id"), prompt, response, text(kind, "kind") if kind else "")


def _pair(entry: Entry, better: Reply, worse: Reply) -> PreferencePair:
    cells = [entry.turns(reply.cell) for reply in (better, worse)]
    chosen, rejected = last_reply(cells[0], better.column), last_reply(cells[1], worse.column)
    if chosen.strip() == rejected.strip():
        raise Unusable("chosen and rejected are identical")
    prompt, other = (_prompt(entry, cell) for cell in cells)
    if prompt != other:
        raise LeftOut("chosen and rejected answer different prompts")
    return PreferencePair(prompt, chosen, rejected)


def _same(entry: Entry, better: Reply, worse: Reply) -> bool:
    """Whether both replies of a pair say the same, so that neither is the worse one."""
    if isinstance(better.cell, str) and isinstance(worse.cell, str):
        return better.cell.strip() == worse.cell.strip()
    try:
        chosen, rejected = (last_reply(entry.turns(r.cell), r.column) for r in (better, worse))
    except Unusable:
        return False
    return chosen.strip() == rejected.strip()


def _prompt(entry: Entry, reply: Cell) -> Prompt:
    """What is asked: the prompt's cell; of a conversation the turns before its last one.

    A text beside a conversation of several turns is one of these, so that the turns tell more.
    """
    return _led(entry, _asked(entry, reply))


def _led(entry: Entry, turns: Prompt) -> Prompt:
    """The turns after the record's system message, unless they begin with one of their own."""
    if blank(entry.system) or turns[0].role == SYSTEM:
        return turns
    return (Message("system", text(entry.system, SYSTEM)), *turns)


def _asked(entry: Entry, reply: Cell) -> Prompt:
    before = split(reply)[0] if isinstance(reply, list) and len(reply) > 1 else ()
    asked = entry.prompt
    if before and (not asked or (isinstance(asked, str) and len(before) > 1)):
        return before
    if asked is None:
        raise Unusable("has no prompt")
    return _turns(asked, entry.asked)


def _prompt_alone(entry: Entry) -> Prompt:
    return _led(entry, _asked_before(entry))


def _asked_before(entry: Entry) -> Prompt:
    """What is asked, without regard to a reply."""
    if entry.prompt is not None:
        return _turns(entry.prompt, entry.asked)
    if not (known := (*entry.good, *entry.bad)):
        raise Unusable("has no prompt")
    turns = conversation(entry.turns(known[0].cell))
    if turns[-1].role == "user":
        return turns
    if len(turns) > 1:
        return turns[:-1]
    raise Unusable("messages must hold a user's turn")


def _turns(cell: Cell, column: str) -> Prompt:
    return conversation(cell) if isinstance(cell, list) else user_prompt(text(cell, column))


def _word(value: Cell, column: str) -> str:
    """An id or a kind: a text or a number."""
    if isinstance(value, str):
        return text(value, column)
    if isinstance(value, bool | int | float):
        return str(value)
    raise Unusable(f"{column} must be text or a number, got {type(value).__name__}")
