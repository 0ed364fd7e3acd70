"""Memory and time of a job before anything is loaded, from the settings and the configuration.

`u2a_core.estimate.estimating.estimate` makes the estimate, and needs torch; what is here is the
result as data, which the pages read.
"""

from u2a_core.estimate.result import (
    MARGIN,
    Beside,
    Estimate,
    Machine,
    Need,
    Part,
    Suggestion,
    from_dict,
    size,
    time_range,
    verdict,
)

__all__ = [
    "MARGIN",
    "Beside",
    "Estimate",
    "Machine",
    "Need",
    "Part",
    "Suggestion",
    "from_dict",
    "size",
    "time_range",
    "verdict",
]
