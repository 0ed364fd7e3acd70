"""The results table: rows made of runs, and their export. No torch: pages read it."""

from u2a_core.table.faults import fault
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
from u2a_core.table.groups import DESCENTS, ORIGINAL, comparable, label
from u2a_core.table.pairs import (
    differing,
    drawn_alike,
    measured_alike,
    paired,
    rewards_table,
    settings_table,
)
from u2a_core.table.rows import (
    LEDGER,
    Row,
    Usable,
    bounds,
    differences,
    losses,
    rows,
    usable,
)

__all__ = [
    "DESCENTS",
    "LEDGER",
    "ORIGINAL",
    "Row",
    "Usable",
    "amount",
    "as_json",
    "best",
    "bounds",
    "cell",
    "comparable",
    "differences",
    "differing",
    "drawn_alike",
    "fault",
    "frame",
    "heading",
    "label",
    "latex",
    "lines",
    "losses",
    "markdown",
    "measured_alike",
    "paired",
    "rewards_table",
    "rows",
    "settings_table",
    "shown_metrics",
    "usable",
]
