"""Files and hub sets → negative sets, preference pairs, retain sets, prompts. No torch in here.

Tokenization, which needs torch, stands apart in `u2a_core.data.encode`.
"""

from u2a_core.data.files import (
    beginning,
    fingerprint,
    is_hub_id,
    read_records,
    replace_file,
    write_records,
)
from u2a_core.data.inspection import EVALUATED, DataReport, Inspection, inspect_data
from u2a_core.data.overlaps import Overlap
from u2a_core.data.records import (
    load_negatives,
    load_preferences,
    load_prompts,
    load_retain,
    load_truth,
)

__all__ = [
    "EVALUATED",
    "DataReport",
    "Inspection",
    "Overlap",
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
