"""`u2a` in a process of its own, which outlives the one that began it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from u2a_core.runs.files import writing


def detached(
    words: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    log: Path,
    out: Path | None = None,
    append: bool = False,
) -> subprocess.Popen[bytes]:
    """Starts `u2a WORDS` in a session of its own; once it has ended, no zombie is left.

    Args:
        words: the command and its arguments.
        env: what its environment holds beside this process's, such as the hub's token; it is
            written nowhere.
        log: file of what it says on stderr, and on stdout without `out`.
        out: file of what it says on stdout.
        append: whether the log goes on where it was; else it begins anew.

    Raises:
        RunError: if a file cannot be written.
    """
    with writing(log), log.open("ab" if append else "wb") as said:
        answer = said if out is None else out.open("wb")
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "u2a_core.cli", *words],
                stdin=subprocess.DEVNULL,
                stdout=answer,
                stderr=said,
                start_new_session=True,
                env={**os.environ, **env, "PYTHONUNBUFFERED": "1"},
            )
        finally:
            if answer is not said:
                answer.close()
    threading.Thread(target=process.wait, daemon=True).start()
    return process
