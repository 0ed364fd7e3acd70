"""A user's own files in a real browser: faults, columns, samples in tokens, refused uploads."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from workbench import Server, pictured

from u2a_core.runs import demo_assets

pytestmark = pytest.mark.browser


@pytest.fixture
def own_project(server: Server) -> Iterator[None]:
    """Other tests work on the demo."""
    yield
    (server.folder / ".draft.yaml").unlink(missing_ok=True)


def test_a_faulty_file_is_told_by_its_line_and_nothing_typed_is_lost(
    server: Server, tab, own_project: None, tmp_path: Path
):
    from playwright.sync_api import expect

    good = (demo_assets() / "data" / "negatives.jsonl").read_text().splitlines()[:20]
    (tmp_path / "mine.jsonl").write_text("\n".join([*good[:16], "{broken", *good[17:]]))
    tab.goto(server.url)
    tab.get_by_role("button", name="Use my own data").click()
    typed = tab.get_by_role("textbox", name="Preference pairs: path or hub id")
    typed.fill("/nowhere/pairs")
    uploads = tab.locator("input[type=file]")
    uploads.first.set_input_files(str(tmp_path / "mine.jsonl"))
    expect(tab.get_by_text("mine.jsonl")).to_be_visible(timeout=30_000)
    tab.get_by_role("button", name="Check and save").click()
    expect(tab.get_by_text("Saved. Before a job can run")).to_be_visible(timeout=30_000)
    expect(tab.get_by_text("line 17: not valid JSON")).to_be_visible(timeout=30_000)
    pictured(tab, "faults-by-line")
    expect(typed).to_have_value("/nowhere/pairs")
    (tmp_path / "empty.csv").write_text("")
    uploads.first.set_input_files(str(tmp_path / "empty.csv"))
    expect(tab.get_by_text("empty.csv")).to_be_visible(timeout=30_000)
    tab.get_by_role("button", name="Check and save").click()
    told = tab.get_by_text("must hold at least one record; it is empty")
    expect(told.first).to_be_visible(timeout=30_000)


@pytest.fixture
def with_model(server: Server, own_project: None) -> None:
    """A project of the user's own that has a model and no data yet."""
    server.folder.mkdir(parents=True, exist_ok=True)
    model = {"path": str(demo_assets() / "model")}
    (server.folder / ".draft.yaml").write_text(yaml.safe_dump({"model": model}))


def test_columns_are_chosen_and_a_sample_is_shown_as_the_model_reads_it(
    server: Server, tab, with_model: None, tmp_path: Path
):
    from playwright.sync_api import expect

    hosts, errors, dialogs = set(), [], []
    tab.on("request", lambda request: hosts.add(request.url.split("/")[2].split(":")[0]))
    tab.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    tab.on("dialog", lambda dialog: dialogs.append(dialog.dismiss()))
    rows = [
        {
            "ask": f"Why {i}? <script>alert(1)</script>",
            "bad": f"<img src=x onerror=alert(1)> 🙂 مرحبا {i}",
        }
        for i in range(3)
    ]
    file = tmp_path / "<b>odd.jsonl"
    file.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    tab.goto(server.url)
    tab.get_by_role("link", name="Data", exact=True).click()
    tab.locator("input[type=file]").first.set_input_files(str(file))
    expect(tab.get_by_text("<b>odd.jsonl")).to_be_visible(timeout=30_000)
    tab.get_by_role("button", name="Check and save").click()
    expect(tab.get_by_text("choose them here")).to_be_visible(timeout=30_000)
    for part, column in (("Prompt", "ask"), ("Reply", "bad")):
        choice = tab.get_by_role("combobox", name=re.compile(f"^{part}|{part}$")).first
        choice.scroll_into_view_if_needed()
        tab.wait_for_timeout(800)  # a menu closes when the page scrolls
        choice.click()
        tab.get_by_role("option", name=column, exact=True).click()
        expect(choice).to_have_value(column, timeout=30_000)
        tab.wait_for_timeout(2000)  # what was there before fades
    expect(tab.get_by_text("Median characters")).to_be_visible(timeout=30_000)
    expect(tab.get_by_text("Half of the replies have at most")).to_be_visible(timeout=30_000)
    tab.wait_for_timeout(1500)  # the figures have taken their places
    tab.get_by_text("As the model reads them").click()
    expect(tab.get_by_role("radio", name="As the model reads them")).to_be_checked()
    told = tab.get_by_text(re.compile(r"\d+ tokens, \d+ of the reply"))
    expect(told).to_be_visible(timeout=90_000)  # a process loads the tokenizer
    shown = tab.locator(".u2a-text")
    expect(shown).to_contain_text("<|user|>Why 0? <script>alert(1)</script>", timeout=30_000)
    expect(shown).to_contain_text("<img src=x onerror=alert(1)> 🙂 مرحبا 0")
    pictured(tab, "data-preview")
    tab.get_by_role("button", name="Next").click()
    expect(shown).to_contain_text("Why 1?", timeout=30_000)
    tab.keyboard.press("ArrowRight")
    expect(shown).to_contain_text("Why 2?", timeout=30_000)
    assert (hosts, dialogs, errors) == ({"localhost"}, [], [])


def test_an_upload_above_the_limit_is_refused_in_words_and_nothing_typed_is_lost(
    server: Server, tab, with_model: None, tmp_path: Path
):
    from playwright.sync_api import expect

    big = tmp_path / "big.jsonl"
    with big.open("wb") as sparse:
        sparse.truncate(300 * 2**20)
    tab.goto(server.url)
    tab.get_by_role("link", name="Data", exact=True).click()
    expect(tab.get_by_text("at most 200 MB")).to_be_visible(timeout=30_000)
    typed = tab.get_by_role("textbox", name="Retain set: path or hub id")
    typed.fill("/my/retain.jsonl")
    tab.locator("input[type=file]").first.set_input_files(str(big))
    expect(tab.get_by_text(re.compile(r"must be 200(\.0)?MB or smaller"))).to_be_visible(
        timeout=30_000
    )
    tab.get_by_role("button", name="Check and save").click()
    expect(tab.get_by_text("data.negatives must name a file").first).to_be_visible(timeout=30_000)
    expect(typed).to_have_value("/my/retain.jsonl")
