"""`u2a <command>`: the command line, and what a job executes.

Exit codes: 0 done; 2 bad input or setting; 3 numerical failure; 130 stopped. Imports no torch
before a command needs it.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from u2a_core.errors import ConfigError, RunError, U2AError
from u2a_core.options import Place, options, parse, place_and_settings

if TYPE_CHECKING:
    from u2a_core.config import Settings
    from u2a_core.runs import Run

STOPPED = 130
"""Exit code of a run that was told to stop."""

COMMANDS = ("gains", "impact", "reweight", "unlearn", "baseline", "ablate", "evaluate")
"""Commands on a settings file."""

_HELP = """Unlearning to Align: measure what each negative sample is worth, reweight, unlearn.

usage: u2a COMMAND [CONFIG.yaml] [--section.field VALUE ...] [--out DIR] [--resume] [--json]

  app         the workbench in the browser
  demo        the main job on the embedded scenario: gains, reweighting, unlearning, comparison
  build-demo  make the embedded scenario again (trains its models; minutes)
  data        the data of a config: counts, faults by line, what sets share; --preview N tokens
  estimate    memory and time of the commands on a config, before anything is loaded
  gains       the marginal gain of every negative sample
  impact      impact curves: what unlearning one sample alone changes, predicted and measured
  ablate      Top-K by gains against random, all, a reward filter and optimized weights
  reweight    optimize the weights, round by round; yields weights and the U2A model
  reproduce   the paper's experiment: safe-rlhf, ultrafeedback or halueval [--scale tiny|full]
  table       results of runs, methods by metrics: --csv, --latex, --markdown, --html FILE
  report      runs as one HTML file with live figures: u2a report RUN... --html FILE
  export      a run's model, samples and training files as a folder: u2a export RUN --to DIR
  unlearn     unlearn with uniform weights, or with --weights RUN
  evaluate    every metric of the original model, or with --evaluation.target RUN of a run's
  baseline    DPO, PPO, retraining or fine-tuning, to compare with (--baseline.method)

u2a COMMAND --help lists a command's options.
exit codes: 0 done, 2 bad input or setting, 3 numerical failure, 130 stopped
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
        return code
    except U2AError as error:
        sys.stderr.write(f"u2a: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("u2a: stopped.\n")
        return STOPPED
    except BrokenPipeError:  # the reader has seen enough, as `| head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to flush
        return 0
    except Exception:  # the boundary: whatever is left is a fault of ours
        sys.stderr.write(
            f"u2a: an unexpected fault ended the command; details:\n{traceback.format_exc()}"
        )
        return 1


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(_HELP)
        return 0
    command, rest = arguments[0], arguments[1:]
    actions: dict[str, Callable[[list[str]], int]] = {
        "app": _app,
        "demo": _demo,
        "build-demo": _build_demo,
        "data": _data,
        "estimate": _estimate,
        "reproduce": _reproduce,
        "table": _table,
        "report": _report,
        "export": _export,
        "try": _try,
        **{name: _on_settings(name) for name in COMMANDS},
    }
    if command not in actions:
        known = ", ".join(name for name in actions if name != "try")  # the workbench's own
        raise ConfigError(f"The command must be one of {known}; got {command!r}. See u2a --help.")
    return actions[command](rest)


def _on_settings(command: str) -> Callable[[list[str]], int]:
    """A command that takes CONFIG.yaml and overrides."""

    def action(arguments: list[str]) -> int:
        from u2a_core import jobs
        from u2a_core.runs import Run

        if arguments[:1] == ["--run"] and len(arguments) > 1:
            return 0 if jobs.work(Run.open(Path(*arguments[1:2]))) else STOPPED
        place, settings = place_and_settings(command, arguments)
        run = _open_run(command, place, settings)
        return _execute(run, as_json=place.json)

    return action


def _open_run(command: str, place: Place, settings: Settings) -> Run:
    """The run directory of a call: new, or continued with --resume."""
    from u2a_core.runs import Run

    path = place.out or Path("runs") / f"{command}-{time.strftime('%m%d-%H%M%S')}"
    if not place.resume:
        return Run.create(path, command, settings)
    run = Run.open(path)
    if run.config()["command"] != command or run.settings() != settings:
        raise RunError(
            f"A resumed run must have the settings it was started with; {path} has others. "
            "Give the same settings, or another --out."
        )
    run.check_unchanged()
    return run


def _execute(run: Run, *, as_json: bool) -> int:
    """Executes a run in the terminal, with progress bars, and shows its report."""
    from u2a_core import jobs, report

    def body(stopping: Callable[[], bool]) -> dict[str, Any]:
        with report.ProgressBars() as bars:
            return jobs.compute(run, stopping, bars.show)

    result = jobs.until_stopped(run, body)
    if result is None:
        return STOPPED
    if as_json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
    else:
        report.show(run)
    return 0


@dataclass(frozen=True)
class DemoPlace(Place):
    """Options of the demo."""

    seed: int = 0
    """Seed of the data, the mislabelling and the sampling; 0 is the committed data."""
    headless: bool = False
    """Run in the terminal; without it the workbench opens, with the demo's runs."""


def _demo(arguments: list[str]) -> int:
    from u2a_core.demo.run import demo_settings

    place = options(DemoPlace, arguments, prog="u2a demo")
    if not place.headless:
        if place != DemoPlace():
            raise ConfigError(
                "u2a demo takes --out, --seed, --resume and --json together with --headless; got "
                f"{arguments[0]} alone. Add --headless, or use u2a app --runs DIR."
            )
        return _app([])
    settings = demo_settings(place.seed)
    return _execute(_open_run("demo", place, settings), as_json=place.json)


def _app(arguments: list[str]) -> int:
    """Becomes the server of the workbench."""
    from u2a_core.serve import Place as ServerPlace
    from u2a_core.serve import serve

    return serve(options(ServerPlace, arguments, prog="u2a app"))


def _build_demo(arguments: list[str]) -> int:
    from u2a_core.demo.build import BuildOptions, build
    from u2a_core.demo.ship import ship

    chosen = options(BuildOptions, arguments, prog="u2a build-demo")

    def tell(line: str) -> None:
        sys.stderr.write(line + "\n")

    if chosen.runs:
        ship(chosen.out, tell)
    else:
        build(chosen.out, chosen.seed, tell)
    return 0


def _data(arguments: list[str]) -> int:
    from u2a_core.report import DataOptions, show_data

    chosen, settings = place_and_settings("data", arguments, DataOptions)
    return show_data(settings, chosen)


def _estimate(arguments: list[str]) -> int:
    """`u2a estimate CONFIG.yaml [--section.field VALUE ...] [--json]`."""
    from u2a_core.report import show_estimate

    place, settings = place_and_settings("estimate", arguments)
    return show_estimate(settings, as_json=place.json)


def _table(arguments: list[str]) -> int:
    from u2a_core.report import TableOptions, results_table

    return results_table(options(TableOptions, arguments, prog="u2a table"))


def _report(arguments: list[str]) -> int:
    from u2a_core.report import ReportOptions, write_report

    return write_report(options(ReportOptions, arguments, prog="u2a report"))


def _export(arguments: list[str]) -> int:
    from u2a_core.export import ExportOptions, export_run

    return export_run(options(ExportOptions, arguments, prog="u2a export"))


def _try(arguments: list[str]) -> int:
    """The process that answers the workbench's try-outs."""
    from u2a_core.tryout.worker import TryOptions, work

    return work(options(TryOptions, arguments, prog="u2a try"))


def _reproduce(arguments: list[str]) -> int:
    """`u2a reproduce TASK [CONFIG.yaml] [--scale tiny|full]`; as a job `--run DIR`."""
    from u2a_core.reproduce import reproduction_settings

    if arguments[:1] == ["--run"]:
        return _on_settings("reproduce")(arguments)
    call = "u2a reproduce TASK [CONFIG.yaml] [--scale tiny|full] [--section.field VALUE ...]"
    place, words = parse(Place, arguments, prog=call)
    settings = reproduction_settings(words)
    return _execute(_open_run("reproduce", place, settings), as_json=place.json)


if __name__ == "__main__":
    sys.exit(main())
