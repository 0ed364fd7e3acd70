"""Replies that one file marks as good and as bad, as several annotators may: told, not dropped."""

from __future__ import annotations

from collections.abc import Iterator

from u2a_core.data.columns import Kind
from u2a_core.data.entries import Entry
from u2a_core.data.items import sample_of
from u2a_core.data.turns import Unusable
from u2a_core.types import prompt_text


class Verdicts:
    """The verdicts of a file so far: hashes of prompts with replies, and the line of the first."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._lines: dict[bool, dict[int, int]] = {True: {}, False: {}}

    def against(self, line: int, entry: Entry) -> Iterator[tuple[int, str]]:
        """Replies of the set's own kind whose other verdict is met here, or was met before.

        Each is told once: with the line that makes it part of the set, and the reason.
        """
        if not entry.judged or self._kind not in ("rejected", "chosen"):
            return
        ours = self._kind == "chosen"
        for good, replies in ((True, entry.good), (False, entry.bad)):
            for reply in replies:
                try:
                    sample = sample_of(entry, reply)
                except Unusable:
                    continue
                key = hash((prompt_text(sample.prompt), sample.response))
                new = key not in self._lines[good]
                self._lines[good].setdefault(key, line)
                if new and key in self._lines[not good]:
                    other = "bad" if ours else "good"
                    told = f"the reply is marked as {other} elsewhere in the file, too; kept as "
                    told += f"it stands (line {self._lines[not ours][key]})"
                    yield self._lines[ours][key], told
