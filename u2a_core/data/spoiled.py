"""Texts that were spoiled before they came here: told, never mended.

Only sequences that hardly any language writes are told: UTF-8 quotes, dashes, Latin-1 letters and
emoji that were read as Windows-1252 (â€™ for ’, Ã© for é), the replacement character, and what a
chat template writes between turns. A conversation that was rendered before is rendered once more,
and its marks are tokens that end a turn.
"""

from __future__ import annotations

import re

_AFTER = "¡-¿€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘“•–—˜™š›œžŸ\x81\x8d\x8f\x90\x9d"
"""What the bytes 0x80 … 0xBF are in Windows-1252, without the quotes that end a word."""
_MISREAD = re.compile(f"Ã[{_AFTER}]|Â[\xa0-¿]|â€[{_AFTER}’”]|ðŸ[{_AFTER}’”]|ï»¿")
MISREAD = "looks like UTF-8 that was read as Windows-1252 (such as â€™ for ’); kept as it stands"
_MARKS = re.compile(
    r"<\|(?:im_start|im_end|im_sep|eot_id|eom_id|start_header_id|end_header_id|begin_of_text"
    r"|end_of_text|endoftext|user|assistant|system|end)\|>"
    r"|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|\A\s*<s>|</s>\s*\Z"
)
"""Of the families' templates; `<s>` and `</s>` are also HTML, and meant only at either end."""
RENDERED = (
    "holds marks of a chat template (such as <|im_end|>, [/INST] or a last </s>), which the model "
    "takes for its own; kept as it stands"
)
LOST = "holds the replacement character \ufffd, a letter that was lost; kept as it stands"


def spoiled(text: str) -> str:
    """How a text is spoiled; empty if it is not."""
    if ("<" in text or "[" in text) and _MARKS.search(text):
        return RENDERED
    if text.isascii():
        return ""
    if _MISREAD.search(text):
        return MISREAD
    return LOST if "\ufffd" in text else ""
