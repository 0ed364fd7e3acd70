"""Judges: who says whether a reply answers, is useful, breaks a policy, is better or made up.

`evaluation.judge` names one of four sources: an OpenAI-compatible endpoint (http…), a local causal
model, a local classifier of harm, or module:function. All take questions and give numbers; a
judgement that failed is None. Prompts are ours, in assets/judges.
"""

from __future__ import annotations

from pathlib import Path
from threading import Event

from u2a_core.config import ModelSettings, Settings, there
from u2a_core.data import fingerprint
from u2a_core.judges.asking import TextJudge
from u2a_core.judges.cache import Cache
from u2a_core.judges.endpoint import Endpoint
from u2a_core.judges.protocol import Cost, Judge, Question, Usage
from u2a_core.judges.sources import ClassifierJudge, FunctionJudge, LocalSource
from u2a_core.models import HarmClassifier, load_function, load_local_judge

__all__ = ["Cost", "Endpoint", "Judge", "Question", "TextJudge", "Usage", "load_judge"]


def load_judge(settings: Settings, cache: Path) -> Judge:
    """The judge that `evaluation.judge` names.

    Args:
        settings: whose evaluation names one.
        cache: the folder of judgements that are known already.

    Raises:
        ConfigError: if a setting that it needs is missing.
        ModelError: if it cannot be loaded.
    """
    own = settings.evaluation
    if own.judge.startswith(("http://", "https://")):
        ended = Event()
        endpoint = Endpoint.of(own, ended)
        kept = Cache(cache, endpoint.identity)
        return TextJudge(endpoint, kept, own.judge_requests, ended)
    if ":" in own.judge and not there(Path(own.judge)):
        return FunctionJudge(own.judge, load_function(own.judge, "judge"))
    return _local(own.judge, settings.model, cache, own.judge_requests)


def _local(path: str, settings: ModelSettings, cache: Path, budget: int) -> Judge:
    found = load_local_judge(path, settings)
    if isinstance(found, HarmClassifier):
        return ClassifierJudge(path, found)
    mark = f" {fingerprint(Path(path))[:16]}" if there(Path(path)) else ""
    source = LocalSource(f"{path}{mark}", found)
    return TextJudge(source, Cache(cache, source.identity), budget)
