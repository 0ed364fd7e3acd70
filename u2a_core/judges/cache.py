"""Judgements kept on disk by the content of the question: an answer is paid for once."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from u2a_core.data import replace_file
from u2a_core.errors import RunError


@dataclass(frozen=True)
class Cache:
    """A folder of judgements, one small file each, shared by the runs beside it.

    Attributes:
        folder: where they are.
        judge: who judges; another judge's answers are not found.
    """

    folder: Path
    judge: str

    def find(self, text: str) -> float | None:
        """The judgement of a question's text, if it is known; a damaged file is not."""
        try:
            found = json.loads(self._path(text).read_text(encoding="utf-8"))
            return float(found["value"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, text: str, value: float, answer: str) -> None:
        """Keeps a judgement with the judge's own words.

        Raises:
            RunError: if it cannot be written.
        """
        content = json.dumps({"judge": self.judge, "value": value, "answer": answer})
        path = self._path(text)
        try:
            replace_file(path, lambda beside: beside.write_text(content, encoding="utf-8"))
        except OSError as error:
            raise RunError(
                f"The cache of judgements {self.folder} must be writable; got: {error.strerror}. "
                "Free disk space, or give the run another folder with --out."
            ) from error

    def _path(self, text: str) -> Path:
        content = f"{self.judge}\x1f{text}".encode("utf-8", "surrogatepass")
        name = hashlib.sha256(content).hexdigest()
        return self.folder / name[:2] / f"{name[2:]}.json"
