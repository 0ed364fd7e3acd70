"""r(x, y): a function of the user's, or a reward model (`scorer`)."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from u2a_core.config import ModelSettings, ObjectiveSettings, there
from u2a_core.errors import ConfigError, ModelError, U2AError
from u2a_core.models.scorer import RewardModel, check_scorer
from u2a_core.types import Prompt, Reward, prompt_text

_EXPECTED = {
    "reward": "take (prompts, replies), two sequences of texts, and return a number for each reply"
}
"""What is asked of a user's function when it is called."""
_NAME_IT = "Give module:function of an installed module, or file.py:function."


def load_reward(
    spec: str, settings: ModelSettings, objective: ObjectiveSettings | None = None
) -> Reward:
    """r(x, y) from `module:function`, or from a sequence classifier's folder or hub id.

    Args:
        spec: the setting that names it.
        settings: device and number format, of the policy.
        objective: how a classifier is read: its template, logit and device.

    Raises:
        ModelError: if it cannot be loaded.
    """
    if not spec:
        raise ConfigError(
            "objective.reward must name a reward; got nothing. Give a reward model's folder, or "
            "module:function (prompts, replies → scores); or set objective.kind to preference and "
            "data.preferences to pairs (prompt, chosen, rejected)."
        )
    if is_function(spec):
        return _reward_function(spec)
    found = objective or ObjectiveSettings()
    return _reward_model(
        spec, settings, found.reward_template, found.reward_logit, found.reward_device
    )


def check_reward(spec: str, settings: ModelSettings, objective: ObjectiveSettings) -> None:
    """Whether a reward can be asked, as far as that is known without its weights or its code.

    Raises:
        ConfigError: if its template or logit is none, or a file is named without its function.
        ModelError: if a file has no such function, or a classifier needs more declared.
    """
    if is_function(spec):
        _check_file(spec)
        return
    template, logit = objective.reward_template, objective.reward_logit
    check_scorer(spec, settings, template=template, logit=logit)


def is_function(spec: str) -> bool:
    """Whether a reward is a function, not a classifier.

    Raises:
        ConfigError: if it is a file of Python alone.
    """
    if spec.endswith(".py"):
        raise ConfigError(
            f"objective.reward must name the function, too; got {spec!r}. Give file.py:function."
        )
    return ":" in spec and not there(Path(spec))


def _check_file(spec: str) -> None:
    """The function's name is looked for in its file, which is not run."""
    file, _, name = spec.rpartition(":")
    if not file.endswith(".py"):
        return
    with _users_code(f"The reward {spec!r} must be a function that can be imported"):
        if not there(Path(file)):
            raise FileNotFoundError(file)
        code = compile(Path(file).read_bytes(), file, "exec")
        if name not in code.co_names and ("*",) not in code.co_consts:  # from … import *
            raise AttributeError(f"{Path(file).name} has no {name!r}")


@lru_cache(maxsize=2)
def _reward_model(
    spec: str, settings: ModelSettings, template: str, logit: int, device: str
) -> RewardModel:
    """The classifier, once in memory however many ask for it: J, the evaluation, the next arm."""
    placed = settings.model_copy(update={"device": device} if device else {})
    return RewardModel.load(spec, placed, template=template, logit=logit)


def _reward_function(spec: str) -> Reward:
    found = load_function(spec, "reward")

    def reward(prompts: Sequence[Prompt], replies: Sequence[str]) -> Any:
        return found([prompt_text(prompt) for prompt in prompts], replies)

    return reward


def load_function(spec: str, role: str) -> Callable[..., Any]:
    """A user's `module:function`, whose faults, imported or called, become sentences.

    Args:
        spec: as the settings name it.
        role: what it is used as (reward, judge), for the sentences.

    Raises:
        ModelError: if it cannot be imported or called, or when it raises.
    """
    source, _, name = spec.rpartition(":")
    with _users_code(f"The {role} {spec!r} must be a function that can be imported"):
        module = _module_of(source) if source.endswith(".py") else importlib.import_module(source)
        found = getattr(module, name)
    if not callable(found):
        raise ModelError(f"The {role} {spec!r} must be a function; got {type(found).__name__}.")

    def guarded(*arguments: Any) -> Any:
        asked = f"The {role} {spec!r} must {_EXPECTED.get(role, 'return scores')}"
        with _users_code(asked, "Mend the function."):
            return found(*arguments)

    return guarded


@contextmanager
def _users_code(expected: str, remedy: str = _NAME_IT) -> Iterator[None]:
    """Turns whatever a user's own code raises, exits included, into a sentence with its line."""
    try:
        yield
    except U2AError:
        raise
    except (Exception, SystemExit) as error:
        theirs = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename != __file__ and not frame.filename.startswith("<")
        ]
        where = f" ({Path(theirs[-1].filename).name}, line {theirs[-1].lineno})" if theirs else ""
        raise ModelError(
            f"{expected}; got {type(error).__name__}: {error}{where}. {remedy}"
        ) from error


def _module_of(file: str) -> ModuleType:
    """A user's file as a module, without its folder on the path of imports."""
    spec = importlib.util.spec_from_file_location(f"u2a_reward_{Path(file).stem}", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a dataclass looks its module up there
    spec.loader.exec_module(module)
    return module
