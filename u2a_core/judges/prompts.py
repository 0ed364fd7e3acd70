"""Judge prompts: our own texts, one a criterion, and what an answer to them may look like."""

from __future__ import annotations

import json
import math
import re
from functools import cache
from pathlib import Path
from typing import Any

from u2a_core.judges.protocol import Question
from u2a_core.metrics import SCALES, Criterion
from u2a_core.types import prompt_text

REPAIR = (
    "That was not the JSON object I asked for. Reply with that object alone, on one line, with the "
    "key and the values named above, and with no other text."
)
"""Asked once, after an answer that cannot be read."""

_PREFERENCES = {"a": 1.0, "b": 0.0, "tie": 0.5}
_PLACE = re.compile(r"\{\{(prompt|reply|reference)\}\}")


def _folder() -> Path:
    package = Path(__file__).resolve().parents[1]
    beside = package.parent / "assets" / "judges"  # a checkout; else inside the installed package
    return beside if beside.is_dir() else package / "assets" / "judges"


@cache
def template(criterion: Criterion) -> str:
    """The prompt of a criterion, with places for prompt, reply and reference."""
    return (_folder() / f"{criterion}.md").read_text(encoding="utf-8")


def rendered(question: Question) -> str:
    """What the judge is asked.

    All places are filled in one pass: a reply that holds `{{reference}}` stays as it is.
    """
    texts = {
        "prompt": prompt_text(question.prompt),
        "reply": question.reply,
        "reference": question.reference or "",
    }
    return _PLACE.sub(lambda place: texts[place[1]], template(question.criterion))


def verdict(criterion: Criterion, answer: str) -> float | None:
    """The judgement that an answer holds, or None.

    The last JSON object with a value of the criterion's scale counts, wherever it stands: within a
    code fence, after prose, after thoughts that quote another object.
    """
    found = None
    for place in re.finditer(r"\{", answer):
        try:
            parsed, _ = json.JSONDecoder().raw_decode(answer, place.start())
        except (ValueError, RecursionError):
            continue
        value = _value(criterion, parsed)
        found = found if value is None else value
    return found


def _value(criterion: Criterion, parsed: Any) -> float | None:
    if not isinstance(parsed, dict):
        return None
    if criterion == "pairwise":
        return _PREFERENCES.get(str(parsed.get("better", "")).strip().casefold())
    try:
        number = float(parsed.get("score"))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    low, high = SCALES[criterion]
    return number if math.isfinite(number) and low <= number <= high and number % 1 == 0 else None
