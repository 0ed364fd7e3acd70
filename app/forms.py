"""Widgets made from the settings' own models: label, help, range and choices stand there once."""

from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

import streamlit as st
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from app import parts

_WIDTH = 200  # two in a row of a form at 1400 pixels


def section_form(
    section: BaseModel,
    *,
    key: str,
    leave_out: tuple[str, ...] = (),
    names: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """A widget for each field of a section, as many in a row as fit; returns what they say.

    Args:
        section: with the values that the widgets begin with.
        key: what the keys of the widgets begin with.
        leave_out: fields without a widget.
        names: what choices are called; by themselves where they are not in it.
    """
    found: dict[str, Any] = {}
    row, below = st.container(horizontal=True, vertical_alignment="bottom"), st.container()
    for name, field in type(section).model_fields.items():
        if name not in leave_out:
            with below if _many(field.annotation) else row:
                value = getattr(section, name)
                found[name] = _widget(name, field, value, f"{key}_{name}", names or {})
    return found


def readable(text: str) -> str:
    """A docstring on a page: words of code bare, all else as it stands."""
    return parts.plain(text.replace("`", ""))


def _widget(name: str, field: FieldInfo, value: Any, key: str, names: Mapping[str, str]) -> Any:
    title = field.title or name.replace("_", " ").capitalize()
    kind = field.annotation
    common: dict[str, Any] = {
        "help": readable(field.description or "") or None, "key": key, "width": _WIDTH,
        "persist_state": "session",
    }  # fmt: skip
    if get_origin(kind) is Literal:
        choices = list(get_args(kind))
        return st.selectbox(title, choices, index=choices.index(value), **common)
    if _many(kind):
        common |= {"width": "stretch", "format_func": lambda choice: names.get(choice, choice)}
        return st.multiselect(title, _choices(kind), list(value), **common)
    if kind is bool:
        return st.toggle(title, value, **common | {"width": "content"})  # its label is never cut
    if kind is int:
        low, high = _range(field)
        return st.number_input(title, low, high, value, 1, format="%d", **common)
    if kind is float:
        low, high = (bound if bound is None else float(bound) for bound in _range(field))
        return st.number_input(title, low, high, value, _step(value), format="%g", **common)
    text = value if isinstance(value, str) else ", ".join(map(str, value))
    return st.text_input(title, text, **common)


def _many(kind: Any) -> bool:
    """Whether a field holds several of some choices."""
    return get_origin(kind) is tuple and get_origin(get_args(kind)[0]) is Literal


def _choices(kind: Any) -> list[str]:
    """Of a field that holds several."""
    return list(get_args(get_args(kind)[0]))


def _range(field: FieldInfo) -> tuple[Any, Any]:
    """The least and the largest value; a bound that is itself excluded is told by the model."""
    low = high = None
    for rule in field.metadata:
        low = next(
            (v for v in (getattr(rule, n, None) for n in ("ge", "gt")) if v is not None), low
        )
        high = next(
            (v for v in (getattr(rule, n, None) for n in ("le", "lt")) if v is not None), high
        )
    return low, high


def _step(value: float) -> float:
    """What a press of a button adds: a tenth of the value's order of magnitude."""
    return 0.01 if value == 0 else 10.0 ** (int(f"{abs(value):e}".split("e")[1]) - 1)
