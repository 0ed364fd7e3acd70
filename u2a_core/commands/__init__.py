"""What each command does with a run directory: load, compute, write tables, write the report.

The same functions are called by the command line, by the demo's workers and by jobs. A command
continues from the run's checkpoint where there is one, and stops at a step when it is told to.
"""

from u2a_core.commands.ablations import run_ablate
from u2a_core.commands.arms import BODIES, arm, execute_arms, processes
from u2a_core.commands.baselines import run_baseline
from u2a_core.commands.curves import run_impact
from u2a_core.commands.descents import run_reweight, run_unlearn
from u2a_core.commands.evaluating import run_evaluate
from u2a_core.commands.scoring import run_gains
from u2a_core.commands.work import Command, Stopped, Watch, execute

__all__ = [
    "BODIES",
    "Command",
    "Stopped",
    "Watch",
    "arm",
    "execute",
    "execute_arms",
    "processes",
    "run_ablate",
    "run_baseline",
    "run_evaluate",
    "run_gains",
    "run_impact",
    "run_reweight",
    "run_unlearn",
]
