"""The results table: rows made of runs, and their export. No torch: pages read it."""

from u2a_core.table.formats import (
    amount,
    as_json,
    best,
    cell,
    frame,
    heading,
    latex,
    lines,
    markdown,
    shown_metrics,
)
from u2a_core.table.rows import (
    DESCENTS,
    LEDGER,
    ORIGINAL,
    Row,
    comparable,
    differences,
    label,
    losses,
    rows,
)

__all__ = [
    "DESCENTS",
    "LEDGER",
    "ORIGINAL",
    "Row",
    "amount",
    "as_json",
    "best",
    "cell",
    "comparable",
    "differences",
    "frame",
    "heading",
    "label",
    "latex",
    "lines",
    "losses",
    "markdown",
    "rows",
    "shown_metrics",
]
