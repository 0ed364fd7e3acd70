"""U2A against DPO and PPO at the same tokens, over seeds that each draw their own data.

    python benchmarks/baselines.py OUT --seeds 0 1 2 3 4

Of every seed: U2A with NPO, then DPO and PPO on the same prompts and pairs, ended when they have
used as many tokens as that U2A run. Prints the table of docs/evidence.md: the reward on the test
prompts, and U2A minus each, mean and 95 % t interval over seeds. Finished runs in OUT are read, not
computed again; about three minutes a seed on one core.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from pathlib import Path

from u2a_core.cli import main as u2a
from u2a_core.demo import world
from u2a_core.metrics import over_seeds
from u2a_core.runs import Run, demo_assets

RIVALS = ("dpo", "ppo")
SETS = ("negatives", "preferences", "retain", "prompts", "truth")


def run(out: Path, command: str, *words: str) -> Run:
    """The finished run of a command on the demo's settings; one that is there is kept."""
    made = Run(out)
    if not (made.exists and made.finished):
        settings = str(demo_assets() / "demo.yaml")
        with redirect_stdout(sys.stderr):  # the table alone is printed
            code = u2a([command, settings, *words, "--out", str(out), "--json"])
        if code != 0:
            raise SystemExit(code)
    return Run.open(out)


def rewards(out: Path, seed: int) -> dict[str, float]:
    """Method → mean reward on the test prompts."""
    folder = out / str(seed)
    if not (folder / "data").exists():
        world.write_data(folder / "data", seed)
    words = ["--seed", str(seed)]
    for name in SETS:
        file = {"prompts": "test_prompts"}.get(name, name)
        words += [f"--data.{name}", str(folder / "data" / f"{file}.jsonl")]
    ours = run(folder / "u2a", "reweight", *words)
    tokens = str(int(ours.report()["ledger"]["tokens"]))
    found = {"original": ours.report()["reward"]["before"]["mean"], "u2a": _after(ours)}
    for rival in RIVALS:
        own = ("--baseline.method", rival, "--baseline.max-tokens", tokens)
        found[rival] = _after(run(folder / rival, "baseline", *words, *own))
    return found


def _after(finished: Run) -> float:
    return float(finished.report()["reward"]["after"]["mean"])


def main() -> None:
    """A line a method, a column a seed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    options = parser.parse_args()
    found = {seed: rewards(options.out.resolve(), seed) for seed in options.seeds}
    print("| seed | " + " | ".join(map(str, found)) + " | U2A minus it |")
    print("|---" * (len(found) + 2) + "|")
    for method in ("original", "u2a", *RIVALS):
        values = [row[method] for row in found.values()]
        ahead = over_seeds([row["u2a"] - row[method] for row in found.values()])
        interval = f" [{ahead.low:+.2f}, {ahead.high:+.2f}]" if ahead.n > 1 else ""
        last = f"{ahead.mean:+.2f}{interval}" if method != "u2a" else ""
        print(f"| {method} | " + " | ".join(f"{v:+.3f}" for v in values) + f" | {last} |")


if __name__ == "__main__":
    main()
