"""What leaves a finished run: its model, its weighted samples, training files, a card.

`u2a export` writes them as a folder and may push it to the hub; the workbench offers the small ones
as downloads. Imports no torch before an adapter is merged.
"""

from u2a_core.export.card import card, settings_text
from u2a_core.export.command import ExportOptions, export_run
from u2a_core.export.folder import Exported, Wanted, evaluations, run_card, write_export
from u2a_core.export.samples import TABLES, Samples, line, samples_of, write_jsonl, write_parquet
from u2a_core.export.training import TOOLS, Choice, Tool, chosen, training_files

__all__ = [
    "TABLES",
    "TOOLS",
    "Choice",
    "ExportOptions",
    "Exported",
    "Samples",
    "Tool",
    "Wanted",
    "card",
    "chosen",
    "evaluations",
    "export_run",
    "line",
    "run_card",
    "samples_of",
    "settings_text",
    "training_files",
    "write_export",
    "write_jsonl",
    "write_parquet",
]
