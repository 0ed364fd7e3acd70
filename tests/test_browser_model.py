"""The Model page in a real browser: the check of the demo, and of one's own model with a token."""

import re
import shutil
from pathlib import Path

import psutil
import pytest
from workbench import Server, pictured

from u2a_core.runs import Workspace, demo_assets

pytestmark = pytest.mark.browser
TOKEN = "hf_typedintothepage"


def test_the_check_tells_memory_and_time_before_launch(server: Server, tab):
    from playwright.sync_api import expect

    hosts: set[str] = set()
    errors: list[str] = []
    tab.on("request", lambda request: hosts.add(request.url.split("/")[2].split(":")[0]))
    tab.goto(server.url)
    tab.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    tab.get_by_role("link", name="Model", exact=True).click()
    tab.get_by_role("button", name="Check", exact=True).click()
    expect(tab.get_by_text("Nothing is loaded")).to_be_visible(timeout=30_000)
    expect(tab.get_by_text(re.compile("It fits. .* are free"))).to_be_visible(timeout=60_000)
    bars = tab.locator(".js-plotly-plot .bars .point")
    expect(bars.first).to_be_visible()
    expect(tab.get_by_label(re.compile("Memory that Gains, Unlearn and U2A need"))).to_be_visible()
    pictured(tab, "memory-estimate")
    tab.reload()  # what was checked is kept
    expect(tab.get_by_text(re.compile("It fits"))).to_be_visible(timeout=30_000)
    assert hosts == {"localhost"}
    assert [text for text in errors if "404" not in text] == []


@pytest.fixture
def own_model(server: Server, tmp_path: Path):
    shutil.copytree(demo_assets() / "model", tmp_path / "mine")
    yield tmp_path / "mine"
    (server.folder / ".draft.yaml").unlink(missing_ok=True)


def test_a_model_of_ones_own_is_checked_and_the_token_reaches_jobs_alone(
    server: Server, tab, own_model: Path
):
    from playwright.sync_api import expect

    (own_model / "tokenizer.json").rename(own_model / "aside")
    (own_model / "tokenizer_config.json").unlink()
    tab.goto(f"{server.url}/model")
    tab.get_by_text("My own model and data").click()
    path = tab.get_by_role("textbox", name="Model folder or hub id")
    path.fill(str(own_model))
    tab.get_by_role("button", name="Check and save").click()
    expect(tab.get_by_text("must hold a tokenizer")).to_be_visible(timeout=60_000)
    expect(path).to_have_value(str(own_model))
    (own_model / "aside").rename(own_model / "tokenizer.json")
    shutil.copy(demo_assets() / "model" / "tokenizer_config.json", own_model)
    tab.get_by_role("button", name="Check again").click()
    expect(tab.get_by_text(re.compile("It fits"))).to_be_visible(timeout=60_000)
    expect(tab.get_by_text("Taken for granted")).to_be_visible()
    tab.get_by_text("Access to gated and private models").click()
    field = tab.get_by_role("textbox", name="Hugging Face token")
    assert field.get_attribute("type") == "password"
    field.fill(TOKEN)
    field.press("Enter")
    expect(tab.get_by_text("A token was entered")).to_be_visible(timeout=30_000)
    pictured(tab, "token-of-the-hub")
    assert TOKEN not in tab.url
    tab.get_by_text("Embedded demo").click()
    tab.get_by_role("link", name="Unlearn", exact=True).click()
    tab.get_by_role("button", name="Launch").click()
    tab.get_by_test_id("stMain").get_by_role("button", name="Stop").wait_for()
    run = Workspace(server.folder).runs()[0]
    worker = run.lock.worker()
    assert worker is not None
    assert worker.environ()["HF_TOKEN"] == TOKEN
    worker.kill()
    psutil.wait_procs([worker], 20)
    kept = [f for f in server.folder.rglob("*") if f.is_file()]
    assert not [f for f in kept if TOKEN.encode() in f.read_bytes()]
