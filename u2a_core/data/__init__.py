"""Files and hub sets → negative sets, preference pairs, retain sets, prompts. No torch in here.

Tokenization, which needs torch, stands apart in `u2a_core.data.encode`.
"""

from u2a_core.data.files import beginning, fingerprint, replace_file, write_records
from u2a_core.data.formats import CHOICES, FORMATS
from u2a_core.data.hub import is_hub_id
from u2a_core.data.inspection import EVALUATED, DataReport, Inspection, inspect_data
from u2a_core.data.overlaps import Overlap
from u2a_core.data.reading import read_records
from u2a_core.data.records import (
    as_record,
    load_negatives,
    load_preferences,
    load_prompts,
    load_retain,
    load_truth,
)
from u2a_core.data.source import Remark

__all__ = [
    "CHOICES",
    "EVALUATED",
    "FORMATS",
    "DataReport",
    "Inspection",
    "Overlap",
    "Remark",
    "as_record",
    "beginning",
    "fingerprint",
    "inspect_data",
    "is_hub_id",
    "load_negatives",
    "load_preferences",
    "load_prompts",
    "load_retain",
    "load_truth",
    "read_records",
    "replace_file",
    "write_records",
]
