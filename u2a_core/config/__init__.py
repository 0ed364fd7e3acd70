"""Every setting, once: the models, and how they are read from files and command lines."""

from u2a_core.config.paths import resolved, there
from u2a_core.config.reading import load_settings, override, parse_settings
from u2a_core.config.settings import (
    DataSettings,
    EvaluationSettings,
    ImpactSettings,
    InnerSettings,
    ModelSettings,
    ObjectiveSettings,
    OuterSettings,
    Settings,
)

__all__ = [
    "DataSettings",
    "EvaluationSettings",
    "ImpactSettings",
    "InnerSettings",
    "ModelSettings",
    "ObjectiveSettings",
    "OuterSettings",
    "Settings",
    "load_settings",
    "override",
    "parse_settings",
    "resolved",
    "there",
]
