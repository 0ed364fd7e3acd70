"""How far a run is: its stages with the time each took, the one in hand, the time that is left."""

import html
import itertools
import statistics
import time
from dataclasses import dataclass

import streamlit as st

from app import parts
from u2a_core import jobs
from u2a_core.runs import Run, Status
from u2a_core.types import Progress

MOST = 8
"""Stages shown."""
ARMS = "arms"
"""The stage that counts the arms of an ablation; in between, each arm tells stages of its own."""
_Z = 1.96
STYLE = """
.u2a-stages{display:flex;flex-wrap:wrap;gap:4px;font-size:13px}
.u2a-stages div{border-top:3px solid #8a8f98;padding:2px 8px 0 0;white-space:nowrap;
font-variant-numeric:tabular-nums}
.u2a-stages div.now{border-top-color:#0072B2;font-weight:600}
.u2a-stages div.ill{border-top-color:#D55E00;font-weight:600}
"""
"""Of the page's head."""


@dataclass(frozen=True)
class Left:
    """The time until the stage in hand ends, from the steps that it has made.

    Attributes:
        seconds: the middle, with the bounds of its 95 % interval.
        n: steps that it is told from.
    """

    seconds: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        low, high = words(self.low), words(self.high)
        bounds = low if low == high else f"{low} to {high}"
        return f"about {words(self.seconds)} left (95 %: {bounds}, n = {self.n} steps)"


def words(seconds: float) -> str:
    """A length of time, in words."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def left(lines: list[Progress], since: float) -> Left | None:
    """Until the stage in hand ends; None before it has made two steps.

    Args:
        lines: of the run's progress.
        since: seconds since the last line.
    """
    last = lines[-1]
    own: list[Progress] = []
    for line in reversed(lines):  # since the stage began, or since a resume
        if line.stage != last.stage or (own and line.step > own[-1].step):
            break
        own.append(line)
    own.reverse()
    pairs = [(a, b) for a, b in itertools.pairwise(own) if b.step > a.step]
    paces = [max(0.0, b.seconds - a.seconds) / (b.step - a.step) for a, b in pairs]
    rest = last.total - last.step
    if len(paces) < 2 or rest <= 0:
        return None
    pace, spread = statistics.fmean(paces), statistics.stdev(paces)
    # of the steps to come, and of their mean, which is known from n steps only
    error = _Z * spread * (rest + rest**2 / len(paces)) ** 0.5
    middle, low, high = (max(0.0, rest * pace + side * error - since) for side in (0, -1, 1))
    return Left(middle, low, high, len(paces))


def spent(lines: list[Progress]) -> dict[str, float]:
    """Seconds in each stage so far, in the order in which they were last in hand.

    A resume goes through the first ones again. What it went back is not taken off.
    """
    found: dict[str, float] = {}
    for line, after in zip(lines, [*lines[1:], lines[-1]] if lines else [], strict=True):
        passed = max(0.0, after.seconds - line.seconds)
        found[line.stage] = found.pop(line.stage, 0.0) + passed
    return found


def shown(run: Run) -> list[Progress]:
    """The progress that tells how far a run is: of one with arms, how many have ended."""
    lines = run.progress()
    return [line for line in lines if line.stage == ARMS] or lines


def timeline(run: Run, status: Status) -> None:
    """The stages in a row: how long each took, which is in hand, where it failed."""
    lines = shown(run)
    if not lines:
        return
    found = list(spent(lines).items())
    items = [f"<div>… {len(found) - MOST} before</div>"] if len(found) > MOST else []
    last = lines[-1].stage
    for stage, seconds in found[-MOST:]:
        here = stage == last and status.state != "finished"
        kind = ("ill" if status.state == "failed" else "now") if here else ""
        mark = {"ill": "✕ ", "now": "▸ "}.get(kind, "✓ ")
        time_said = f" {words(seconds)}" if seconds >= 0.5 else ""
        said = f"{mark}{html.escape(stage)}{time_said}"
        items.append(f'<div role="listitem" class="{kind}">{said}</div>')
    named = 'role="list" aria-label="Stages of the run"'
    st.html(f'<div class="u2a-stages" {named}>{"".join(items)}</div>')


def bar(run: Run, status: Status) -> None:
    """How far the stage in hand is, how long the run has worked, and how long it still takes."""
    lines = shown(run)
    if status.state == "queued" or not lines:
        st.progress(0.0, text=waiting(run) if status.state == "queued" else "starting")
        return
    last, since = lines[-1], max(0.0, time.time() - run.progress_time())
    if last.total == 1:  # nothing to count: that time goes on is all there is to say
        st.progress(0.0, text=f"{parts.plain(last.stage)}, {words(last.seconds + since)}")
        return
    text = f"{parts.plain(last.stage)} {last.step} of {last.total}, {words(last.seconds + since)}"
    rest = left(lines, since)
    st.progress(min(1.0, last.step / max(1, last.total)), text=f"{text}, {rest}" if rest else text)


def waiting(run: Run) -> str:
    """For what a queued run waits: its device, and the run that has it."""
    turn, before = run.lock.turn(), jobs.ahead(run)
    if turn is None or not before:  # a try-out may have the device, which the run itself tells
        return parts.plain(run.status().message) or "starting"
    first = parts.workspace().identify(before[-1])
    return parts.plain(f"waiting for its turn on {turn[0]}, which {first} has")


def told(run: Run) -> str:
    """How far a run at work is, in a line."""
    lines = shown(run)
    if not lines:
        return ""
    last, since = lines[-1], max(0.0, time.time() - run.progress_time())
    where = last.stage if last.total == 1 else f"{last.stage} {last.step} of {last.total}"
    rest = left(lines, since)
    return f"{where}, {rest}" if rest else where
