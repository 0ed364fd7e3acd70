"""Linked exploration in a real browser: boxes, clicks, ticks, keys, slices, a large set."""

import re
import time

import psutil
import pytest
from workbench import Server, many_gains, pictured

from u2a_core.runs import Workspace, reviews, slices

pytestmark = pytest.mark.browser


def set_of(space: Workspace) -> str:
    return str(space.find("demo-gains").report()["data"]["negatives_sha256"])


def main(tab):
    """The page without Streamlit's own header."""
    return tab.get_by_test_id("stMain")


def plot(tab, number: int):
    """A picture that answers the mouse."""
    found = tab.locator(".js-plotly-plot").nth(number)
    found.locator(".main-svg").first.wait_for()
    tab.wait_for_timeout(1000)
    return found


def drag(tab, picture, *, width: float) -> None:
    """A box over the left of a picture, at its full height."""
    picture.hover()
    picture.locator("[data-val='select']").click()
    box = picture.locator(".nsewdrag").first.bounding_box()
    tab.mouse.move(box["x"] + 3, box["y"] + 3)
    tab.mouse.down()
    tab.mouse.move(box["x"] + width, box["y"] + box["height"] - 3, steps=8)
    tab.mouse.up()


def selected(tab) -> int:
    text = tab.get_by_text(re.compile(r"Selected [\d,]+ of")).inner_text()
    return int(re.search(r"Selected ([\d,]+)", text)[1].replace(",", ""))


def click(tab, mark) -> None:
    box = mark.bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.wait_for_timeout(500)
    tab.mouse.down()
    tab.mouse.up()


def tick(tab, row: int, *, grid: int = 0) -> None:
    """The table is a canvas: rows of 35 px under a header of 35 px."""
    table = tab.get_by_test_id("stDataFrame").nth(grid)
    table.scroll_into_view_if_needed()
    box = table.bounding_box()
    tab.mouse.click(box["x"] + 16, box["y"] + 35 * row + 17)


def test_a_box_becomes_a_slice_that_a_link_restores_and_unlearn_takes(server: Server, tab):
    from playwright.sync_api import expect

    space = Workspace(server.folder)
    tab.goto(f"{server.url}/gains?run=demo-gains")
    drag(tab, plot(tab, 1), width=60)
    expect(tab.get_by_text(re.compile(r"Selected [1-9]\d* of 240"))).to_be_visible()
    count = selected(tab)
    ids = space.find("demo-gains").table("gains")["id"].tolist()
    main(tab).get_by_role("button", name="Save as slice").click()
    name = tab.get_by_role("textbox", name=f"Name of these {count} samples")
    name.fill("the best")
    name.press("Enter")
    tab.get_by_role("button", name="Save", exact=True).click()
    tab.wait_for_url(re.compile("slice=the-best-"))
    (one,) = slices.all_slices(space, space.find("demo-gains"))
    assert list(one.ids) == ids[:count]
    tab.reload()
    expect(tab.get_by_text(f"1 of {count} selected")).to_be_visible(timeout=30_000)
    expect(tab.get_by_text(re.compile(f"Selected {count} of 240"))).to_be_visible()
    main(tab).get_by_role("button", name="Unlearn these").click()
    tab.wait_for_url(re.compile(f"/unlearn.*slice={one.key}"))
    slices.delete(one)


def test_a_click_on_a_point_selects_one_sample_and_on_a_bar_its_samples(server: Server, tab):
    from playwright.sync_api import expect

    tab.goto(f"{server.url}/gains?run=demo-gains")
    click(tab, plot(tab, 1).locator(".scatterlayer .trace").last.locator(".point").last)
    worst = Workspace(server.folder).find("demo-gains").table("gains")["id"].iloc[-1]
    expect(tab.get_by_text("Selected 1 of 240")).to_be_visible()
    expect(tab.get_by_text(f"Sample {worst}")).to_be_visible()
    click(tab, plot(tab, 0).locator(".barlayer .trace").last.locator(".point").last)
    expect(tab.get_by_text(f"Sample {worst}")).to_have_count(0)
    assert 1 <= selected(tab) < 240
    main(tab).get_by_role("button", name="Clear", exact=True).click()
    expect(tab.get_by_text("Selected 0 of 240")).to_be_visible()


def test_ticks_select_and_the_keys_step_and_mark(server: Server, tab):
    from playwright.sync_api import expect

    space = Workspace(server.folder)
    ids = space.find("demo-gains").table("gains")["id"]
    tab.goto(f"{server.url}/gains?run=demo-gains")
    tab.get_by_test_id("stDataFrame").first.wait_for()
    for row in (1, 2):
        tick(tab, row)
        expect(tab.get_by_text(re.compile(rf"Selected {row} of 240"))).to_be_visible()
        expect(tab.get_by_text(f"Sample {ids[row - 1]}")).to_be_visible()
    for key, place in (("p", 0), ("n", 1)):
        tab.keyboard.press(key)
        expect(tab.get_by_text(f"Sample {ids[place]}")).to_be_visible()
    main(tab).get_by_role("button", name="←").click()
    tab.wait_for_url(re.compile(f"sample={ids[0]}"))
    tab.keyboard.press("1")
    expect(main(tab).get_by_role("button", name="Mistake")).to_have_attribute(
        "data-testid", "stBaseButton-primary"
    )
    assert reviews.marks(space, set_of(space)) == {ids[0]: "mistake"}
    search = tab.get_by_role("textbox", name="Search in prompt and reply")
    search.press_sequentially("n1")  # typed, no shortcut
    search.press("Enter")
    expect(tab.get_by_text(re.compile("listed (?!240)"))).to_be_visible()
    expect(tab.get_by_text(f"Sample {ids[0]}")).to_be_visible()
    reviews.put(space, set_of(space), ids[0], None)


def test_what_is_seen_is_saved_as_csv_and_png_and_linked(server: Server, tab):
    from playwright.sync_api import expect

    tab.goto(f"{server.url}/gains?run=demo-gains&sample=n001")
    picture = plot(tab, 1)
    picture.hover()
    with tab.expect_download() as png:
        picture.locator("[data-title*='PNG'], [data-title*='png']").first.click()
    assert png.value.path().read_bytes().startswith(b"\x89PNG")
    main(tab).get_by_role("button", name="Export").click()
    pictured(tab, "exports")
    with tab.expect_download() as csv:
        tab.get_by_role("button", name="CSV", exact=True).first.click()
    lines = csv.value.path().read_text("utf-8").splitlines()
    assert len(lines) == 241
    assert "gain_low" in lines[0]
    tab.keyboard.press("Escape")
    main(tab).get_by_role("button", name="Link", exact=True).click()
    link = tab.get_by_test_id("stCode").inner_text().strip()
    pictured(tab, "link-to-one-sample")
    assert link == f"{server.url}/sample?run=demo-gains&sample=n001"
    tab.goto(link)
    expect(tab.get_by_text("Sample n001")).to_be_visible(timeout=30_000)


def test_a_hundred_thousand_samples_stay_usable(server: Server, tab):
    from playwright.sync_api import expect

    run = many_gains(server.folder, 100_000)
    errors: list[str] = []
    tab.goto(server.url)
    tab.get_by_role("button", name="Open the demo").wait_for()
    tab.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    began = time.monotonic()
    tab.goto(f"{server.url}/gains?run=many")
    tab.get_by_test_id("stDataFrame").first.wait_for()
    tab.locator(".js-plotly-plot .main-svg").nth(2).wait_for()
    assert time.monotonic() - began < 15  # 1.8 s on idle cores; the bound allows a busy machine
    expect(tab.get_by_text("Page 1 of 100")).to_be_visible()
    pictured(tab, "a-hundred-thousand-samples")
    drag(tab, plot(tab, 1), width=60)
    expect(tab.get_by_text(re.compile(r"Selected [1-9][\d,]* of 100,000"))).to_be_visible()
    ids = run.table("gains")["id"].tolist()
    count = selected(tab)
    assert 1_000 < count < 20_000
    expect(tab.get_by_text(f"Sample {ids[0]}")).to_be_visible()
    main(tab).get_by_role("button", name="→").wait_for()
    tab.wait_for_timeout(1000)
    began = time.monotonic()
    tab.keyboard.press("n")
    expect(tab.get_by_text(f"Sample {ids[1]}")).to_be_visible()
    assert time.monotonic() - began < 5
    tick(tab, 1)  # the first of the selection is taken out of it
    expect(tab.get_by_text(re.compile(f"Selected {count - 1:,} of 100,000"))).to_be_visible()
    assert psutil.Process(server.process.pid).memory_info().rss < 500 * 2**20
    assert [e for e in errors if "404" not in e] == []
    run.delete()
