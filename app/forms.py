"""Widgets made from the settings' own models: label, help, range and choices stand there once."""

import types
from typing import Any, Literal, get_args, get_origin

import streamlit as st
from pydantic import BaseModel
from pydantic.fields import FieldInfo


def section_form(
    section: BaseModel, *, key: str, leave_out: tuple[str, ...] = ()
) -> dict[str, Any]:
    """A widget for each field of a section, two in a row; returns what they say."""
    fields = [
        item for item in type(section).model_fields.items() if item[0] not in leave_out
    ]  # fmt: skip
    found: dict[str, Any] = {}
    for start in range(0, len(fields), 2):
        for column, (name, field) in zip(st.columns(2), fields[start : start + 2], strict=False):
            with column:
                found[name] = _widget(name, field, getattr(section, name), f"{key}_{name}")
    return found


def _widget(name: str, field: FieldInfo, value: Any, key: str) -> Any:
    title, about = name.replace("_", " "), field.description
    kind = field.annotation
    common: dict[str, Any] = {"help": about, "key": key, "persist_state": "session"}
    if get_origin(kind) is Literal:
        choices = list(get_args(kind))
        return st.selectbox(title, choices, index=choices.index(value), **common)
    if kind is bool:
        return st.toggle(title, value, **common)
    if kind in (int, float) or isinstance(kind, types.UnionType):
        low = _bound(field)
        step: float = 1 if kind is int else 10.0 ** _tens(float(value))
        low = low if low is None or kind is int else float(low)
        shape = "%d" if kind is int else "%g"
        return st.number_input(title, low, None, value, step, format=shape, **common)
    return st.text_input(title, value, **common)


def _bound(field: FieldInfo) -> float | int | None:
    """The least value, where the model gives one."""
    for rule in field.metadata:
        low = getattr(rule, "ge", None)
        if low is not None:
            return low  # type: ignore[no-any-return]
    return None


def _tens(value: float) -> int:
    """The order of magnitude below a value: the step of its buttons."""
    return -2 if value == 0 else int(f"{abs(value):e}".split("e")[1]) - 1
