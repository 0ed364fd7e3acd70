"""Every page, light and dark: no errors, no request to outside, alt, contrast."""

import re

import pytest
from playwright.sync_api import expect
from workbench import Server, pictured

pytestmark = pytest.mark.browser
PAGES = {
    "": "U2A workbench",
    "data": "Data",
    "model": "Model",
    "gains?run=demo-gains&sample=n001": "Gains",
    "sample?run=demo-gains&sample=n001": "Sample",
    "impact?run=demo-impact": "Impact",
    "unlearn?run=demo-npo-u2a": "Unlearn",
    "ablation": "Ablation",
    "compare?a=original&b=demo-npo-u2a": "Compare",
}
TWO_KNOWN = re.compile(r"(_stcore/health|_stcore/host-config)$")
"""Of a deep link: Streamlit asks below the page's path first."""

FAINT = """() => {
  const skipped = "[disabled],[aria-disabled=true],script,style,noscript,[aria-hidden=true]"
  const rgb = text => {
    const found = text.match(/[\\d.]+/g).map(Number)
    return found.length < 4 ? [...found, 1] : found
  }
  const over = (a, b) => [0, 1, 2].map(i => a[3] * a[i] + (1 - a[3]) * b[i])
  const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4
  const light = colour => {
    const [r, g, b] = colour.map(v => linear(v / 255))
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const upwards = e => e ? [e, ...upwards(e.parentElement)] : []
  const ground = e => upwards(e).map(at => rgb(getComputedStyle(at).backgroundColor))
    .reduceRight((below, layer) => over(layer, below), [255, 255, 255])
  const faint = new Set(), walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement, text = walk.currentNode.textContent.trim()
    const seen = {opacityProperty: true, visibilityProperty: true}
    if (!text || !e || !e.checkVisibility(seen) || e.closest(skipped)) continue
    const style = getComputedStyle(e)
    if (style.fontFamily.includes("Material")) continue  // an icon's name
    const ink = rgb(e instanceof SVGElement ? style.fill : style.color)
    for (const at of upwards(e)) ink[3] *= Number(getComputedStyle(at).opacity)
    const [a, b] = [light(over(ink, ground(e))), light(ground(e))].sort((x, y) => y - x)
    const ratio = (a + 0.05) / (b + 0.05), size = parseFloat(style.fontSize)
    const large = size >= 24 || (size >= 18.6 && Number(style.fontWeight) >= 700)
    if (ratio < (large ? 3 : 4.5)) faint.add(`${ratio.toFixed(2)} ${text.slice(0, 50)}`)
  }
  return [...faint]
}"""
"""Texts with less contrast than WCAG AA asks: 4.5, or 3 where they are large."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_legible_and_quiet(server: Server, browser, scheme: str):
    context = browser.new_context(viewport={"width": 1400, "height": 1000}, color_scheme=scheme)
    tab = context.new_page()
    wrong: list[str] = []
    tab.on("request", lambda asked: wrong.extend(_outside(asked.url)))
    tab.on("console", lambda said: wrong.extend(_serious(said)))
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    for page, title in PAGES.items():
        tab.goto(f"{server.url}/{page}")
        expect(tab.get_by_role("heading", name=title, exact=True)).to_be_visible(timeout=60_000)
        tab.wait_for_timeout(1800)
        pictured(tab, f"{title}-{scheme}")
        charts = tab.locator("[data-testid=stPlotlyChart]")
        for chart in charts.all():
            named = chart.evaluate("e => !!e.querySelector('[aria-label],[alt]') || !!e.ariaLabel")
            wrong += [] if named else [f"{title}: a chart without alt"]
        wrong += [f"{title} ({scheme}): faint {text}" for text in tab.evaluate(FAINT)]
    context.close()
    assert "\n".join(dict.fromkeys(wrong)) == ""


def _outside(url: str) -> list[str]:
    return [] if re.match(r"(http://localhost:|data:|blob:)", url) else [f"asked {url}"]


def _serious(said) -> list[str]:
    known = said.type != "error" or TWO_KNOWN.search(said.location.get("url", ""))
    return [] if known else [said.text]
