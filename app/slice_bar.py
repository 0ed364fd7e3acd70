"""Slices on a page: choose one, save the selection as one, rename, delete, unlearn exactly it."""

import streamlit as st

from app import parts, selection, urlstate
from app.gain_table import Gains
from u2a_core.runs import Run, demo_assets, slices


def follow(kept: list[slices.Slice]) -> None:
    """Selects the slice that the address names, where that has changed.

    Args:
        kept: the slices of the set.
    """
    state = st.session_state
    wanted = state.get("slice")
    if wanted == state.get("slice_followed"):
        return
    state["slice_followed"] = wanted
    if wanted is None:
        return
    found = next((one for one in kept if one.key == wanted), None)
    if found is None:
        state["slice"] = None
        st.warning(
            f"The slice {parts.plain(wanted[:40])} is none of this set's; it may have been "
            "deleted. Choose another."
        )
        return
    read = state.get("sample")
    _take(found)
    if read in found.ids:
        state["sample"] = read


def choice(kept: list[slices.Slice]) -> slices.Slice | None:
    """The slices of the set; choosing one selects its samples. The one that is chosen."""
    if not kept:
        return None
    state, by_key = st.session_state, {one.key: one for one in kept}
    state["slice_choice"] = state.get("slice") if state.get("slice") in by_key else None

    def take() -> None:
        key = state["slice_choice"]
        if key is None:
            selection.choose([], "slice")
        else:
            _take(by_key[key])

    st.selectbox(
        "Slice", list(by_key), index=None, key="slice_choice", on_change=take, width=260,
        placeholder=f"Slice: {len(kept)} saved", label_visibility="collapsed",
        format_func=lambda key: f"{by_key[key].name} ({len(by_key[key].ids):,})",
    )  # fmt: skip
    return by_key.get(str(state.get("slice")))


def buttons(run: Run, gains: Gains, kept: list[slices.Slice]) -> None:
    """Save the selection as a slice; unlearn exactly it."""
    chosen = st.session_state["chosen"]
    with st.popover("Save as slice", disabled=not chosen, icon=":material/bookmark_add:"):
        key = f"slice_name_{st.session_state.get('slices_saved', 0)}"  # a saved one frees the field
        name = st.text_input(
            f"Name of these {len(chosen):,} samples", _proposed(gains), key=key,
            max_chars=slices.LONGEST_NAME,
        )  # fmt: skip
        if st.button("Save", type="primary", key="save_slice"):
            parts.guarded(lambda: _saved(run, gains, name))
    if st.button(
        "Unlearn these", disabled=not chosen, icon=":material/play_arrow:",
        help="Goes to Unlearn, with these samples alone, weighted equally; nothing starts yet. "
        "They are kept as a slice",
    ):  # fmt: skip
        _unlearn(run, gains, kept)


def _saved(run: Run, gains: Gains, name: str) -> None:
    one = slices.save(parts.workspace(), run, name, st.session_state["chosen"])
    st.session_state["slices_saved"] = st.session_state.get("slices_saved", 0) + 1
    _keep(one)
    st.rerun()


def _unlearn(run: Run, gains: Gains, kept: list[slices.Slice]) -> None:
    """To Unlearn with the selection as a slice, saved under a name of its own if it has none."""
    state, space = st.session_state, parts.workspace()
    one = next((s for s in kept if set(s.ids) == set(state["chosen"])), None)
    if one is None:
        taken, name, number = {s.name.casefold() for s in kept}, _proposed(gains), 1
        while (numbered := name if number == 1 else f"{name} ({number})").casefold() in taken:
            number += 1
        one = slices.save(space, run, numbered, state["chosen"])
    _keep(one)
    if run.path.is_relative_to(demo_assets()):
        state["project"] = "demo"  # the slice is of its negatives
    state.update(weights_slice=str(one.path), run=space.identify(run))
    st.switch_page("views/unlearn.py", query_params=urlstate.choices())


def _proposed(gains: Gains) -> str:
    """A name that tells how the selection was made."""
    chosen = st.session_state["chosen"]
    if st.session_state["origin"] == "top":
        return f"Top {len(chosen)}"
    if len(chosen) == 1:
        return f"Sample {chosen[0]}"[: slices.LONGEST_NAME]
    gain = gains.frame["gain"].to_numpy()[gains.rows(chosen)]
    if not len(gain):
        return ""
    return f"{len(chosen)} samples, gain {gain.min():+.2f} to {gain.max():+.2f}"


def manage(run: Run, one: slices.Slice) -> None:
    """Rename, download, delete."""
    with st.popover("Edit", icon=":material/edit:", help="Rename, download or delete this slice"):
        name = st.text_input(
            "Name", one.name, key=f"rename_{one.key}", max_chars=slices.LONGEST_NAME
        )
        with st.container(horizontal=True):
            if st.button("Rename", key=f"renamed_{one.key}"):
                parts.guarded(lambda: _renamed(run, one, name))
            st.download_button(
                "JSON", one.path.read_bytes, f"{one.key}.json", "application/json",
                key=f"json_{one.key}", icon=":material/download:", on_click="ignore",
                help="u2a unlearn takes this file as --weights",
            )  # fmt: skip
            if st.button("Delete", key=f"delete_{one.key}", icon=":material/delete:"):
                parts.guarded(lambda: _deleted(one))


def _renamed(run: Run, one: slices.Slice, name: str) -> None:
    slices.rename(parts.workspace(), run, one, name)
    st.rerun()


def _deleted(one: slices.Slice) -> None:
    slices.delete(one)
    st.session_state.update(slice=None, slice_followed=None)
    st.rerun()


def _take(one: slices.Slice) -> None:
    selection.choose(one.ids, "slice", key=one.key)
    _keep(one)


def _keep(one: slices.Slice) -> None:
    """The selection is this slice, which the address then names."""
    st.session_state.update(slice=one.key, slice_followed=one.key)
