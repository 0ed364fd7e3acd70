"""Every setting, once: the models, and how they are read from files and command lines."""

from u2a_core.config.columns import PARTS, Columns, Part, SetName
from u2a_core.config.evidence import AblationSettings, BaselineSettings, EvaluationSettings
from u2a_core.config.paths import resolved, there
from u2a_core.config.problem import (
    ImpactSettings,
    InnerSettings,
    ObjectiveSettings,
    OuterSettings,
)
from u2a_core.config.reading import load_settings, override, parse_settings, read_yaml
from u2a_core.config.settings import DataSettings, ModelSettings, Settings

__all__ = [
    "PARTS",
    "AblationSettings",
    "BaselineSettings",
    "Columns",
    "DataSettings",
    "EvaluationSettings",
    "ImpactSettings",
    "InnerSettings",
    "ModelSettings",
    "ObjectiveSettings",
    "OuterSettings",
    "Part",
    "SetName",
    "Settings",
    "load_settings",
    "override",
    "parse_settings",
    "read_yaml",
    "resolved",
    "there",
]
