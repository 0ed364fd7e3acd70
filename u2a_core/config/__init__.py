"""Every setting, once: the models, and how they are read from files and command lines."""

from u2a_core.config.columns import BESIDE, PARTS, Columns, FormatName, Part, SetName
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
    "BESIDE",
    "PARTS",
    "AblationSettings",
    "BaselineSettings",
    "Columns",
    "DataSettings",
    "EvaluationSettings",
    "FormatName",
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
