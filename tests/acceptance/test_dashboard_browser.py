"""A real browser shows the dashboard: live, by keyboard, narrow, dark, readable, and deaf to hostile names."""

import re
import time

import pytest

from benchmarks import browser
from benchmarks.dashboard_world import EVIL, UI, builder, details
from prefect_intelligent.dashboard.assets import static_page

expect = pytest.importorskip("playwright.sync_api").expect

pytestmark = [pytest.mark.browser]
CHROMIUM = browser.find_chromium()
if CHROMIUM is None:
    pytest.skip("no Chromium on this machine: apt-get install chromium", allow_module_level=True)

CONTRAST = """
() => {
  const light = (c) => { const [r, g, b] = c.map((v) => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; }); return .2126 * r + .7152 * g + .0722 * b; };
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const ground = (node) => { for (; node; node = node.parentElement) { const c = rgb(getComputedStyle(node).backgroundColor); if (c.length < 4 || c[3] > 0) return c.slice(0, 3); } return [255, 255, 255]; };
  const bad = [];
  for (const node of document.querySelectorAll("h1, h2, p, td, th, dt, dd, a, li, summary, caption, span, small, strong, label, figcaption, button, select")) {
    if (!node.textContent.trim() || !node.offsetParent) continue;
    const a = light(rgb(getComputedStyle(node).color).slice(0, 3)), b = light(ground(node));
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) bad.push([node.tagName, node.className, node.textContent.slice(0, 30), ratio.toFixed(2)]);
  }
  return bad;
}
"""  # noqa: E501


@pytest.fixture(scope="module")
def state():
    build = builder(time.time)
    build()
    build.wait()
    return build()


@pytest.fixture(scope="module")
def served(state):
    with browser.serve(lambda: state) as found:
        yield found


@pytest.fixture(scope="module")
def with_pages(state):
    """A dashboard with its pages of deployments, datasets and pools, that can look back further or less far."""
    build = builder(time.time)
    with browser.serve(lambda: state, details=details(time.time), look_back=build.look_back) as found:
        yield found[0]


def test_it_is_live_and_runs_no_script_of_others(served, state):
    url, hub = served
    with browser.page(CHROMIUM, viewport={"width": 1400, "height": 900}) as page:
        page.goto(url)
        page.wait_for_selector("#queues td")
        assert page.title() == "warehouse · prefect-intelligent"
        assert EVIL in page.inner_text("#health") + page.inner_text("#causes")
        assert page.locator("main script, main img").count() == 0
        first = page.inner_text("#queues tbody tr td:nth-child(4)")
        rows = [dict(row) for row in state["queues"]]
        rows[0]["waiting"] = 987
        hub.publish({**state, "queues": rows, "error": None})
        expect(page.locator("#queues tbody tr:first-child td:nth-child(4)")).to_have_text("987")
        assert first != "987"
        assert page.locator("canvas").get_attribute("aria-label").startswith("396 runs, and ")
        assert page.problems == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(served, scheme):
    with browser.page(CHROMIUM, color_scheme=scheme, viewport={"width": 1400, "height": 900}) as page:
        page.goto(served[0])
        page.wait_for_selector("#health td")
        assert page.evaluate(CONTRAST) == []


def test_it_fits_a_narrow_screen(served):
    with browser.page(CHROMIUM, viewport={"width": 360, "height": 740}) as page:
        page.goto(served[0])
        page.wait_for_selector("#health td")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        widths = page.evaluate("[...document.querySelectorAll('td:not(.n)')].map((cell) => cell.clientWidth)")
        assert min(widths) >= 90


def test_it_is_used_by_keyboard(served):
    with browser.page(CHROMIUM, viewport={"width": 1400, "height": 900}) as page:
        page.goto(served[0])
        page.wait_for_selector("#health td")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("/")
        assert page.evaluate("document.activeElement.id") == "filter"
        page.keyboard.type("daily-003")
        expect(page.locator("#health tbody tr")).to_have_count(1)
        page.keyboard.press("Escape")
        expect(page.locator("#health tbody tr")).to_have_count(50)
        page.keyboard.press("2")
        assert page.evaluate("location.hash") == "#alerts"
        page.select_option("#health-of", "pools")
        expect(page.locator("#health tbody tr")).to_have_count(1)
        expect(page.locator("#health tbody td").first).to_have_text("warehouse")


def test_the_slots_are_read_by_keyboard(served):
    with browser.page(CHROMIUM, viewport={"width": 1400, "height": 900}) as page:
        page.goto(served[0])
        page.wait_for_selector("#health td")
        page.focus("canvas")
        page.keyboard.press("ArrowRight")
        expect(page.locator("#gantt-run")).to_contain_text("in queue-")
        page.select_option("#gantt-queue", "queue-2")
        expect(page.locator("canvas")).to_have_attribute("aria-label", re.compile("^66 runs"))


def test_every_panel_is_filled_and_a_runbook_is_one_click_away(served):
    with browser.page(CHROMIUM, viewport={"width": 1400, "height": 900}) as page:
        page.goto(served[0])
        page.wait_for_selector("#health td")
        assert page.locator("#graph svg rect").count() == 14
        assert page.locator("#money svg circle").count() == 8
        assert page.locator("#money").get_by_text("× 1, in force").count() >= 1
        page.locator("#spending select").select_option("hour")
        expect(page.locator("#spending th").first).to_have_text("hour")
        page.locator("#alerts a").first.click()
        page.wait_for_url("**/runbooks/*")
        assert "Do." in page.inner_text("pre")
        assert page.problems == []


def test_actions_are_there_only_when_allowed(state):
    from prefect_intelligent.testing.history import InMemoryHistory

    history = InMemoryHistory()
    with (
        browser.serve(lambda: state, actions=history) as (url, _),
        browser.page(CHROMIUM, viewport={"width": 1400, "height": 900}) as page,
    ):
        page.goto(url)
        page.get_by_role("button", name="Steering off").click()
        expect(page.locator("#status")).to_have_text("Done: steer-off")
    assert history.latest("switch", "warehouse")["position"] == "off"


def test_the_static_report_needs_no_server(state, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(static_page(state), "utf-8")
    with browser.page(CHROMIUM, viewport={"width": 1400, "height": 900}) as page:
        page.goto(file.as_uri())
        page.wait_for_selector("#health td")
        assert page.problems == []
        assert EVIL in page.inner_text("#health") + page.inner_text("#causes")


PAGES = ("/deployment?name=features/daily-002", "/dataset?name=scores", "/pools")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_other_pages_have_the_contrast_and_fit_a_narrow_screen(with_pages, scheme):
    with browser.page(CHROMIUM, color_scheme=scheme, viewport={"width": 390, "height": 844}) as page:
        for path in PAGES:
            page.goto(with_pages + path)
            assert page.evaluate(CONTRAST) == [], path
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), path
        assert page.problems == []


def test_names_lead_to_their_pages_and_on_to_prefect(with_pages):
    with browser.page(CHROMIUM, viewport={"width": 1400, "height": 900}) as page:
        page.goto(with_pages)
        page.wait_for_selector("#health td")
        page.locator("#health a").get_by_text("report/daily-005").click()
        page.wait_for_url("**/deployment?name=report*")
        assert page.locator("h1").inner_text() == "report/daily-005"
        assert page.locator("a", has_text="In Prefect").get_attribute("href").startswith(UI)
        page.get_by_text("All pools").click()
        page.wait_for_url("**/pools")
        page.get_by_text("Back to the pool").click()
        page.wait_for_selector("#risk a")
        assert page.locator(f"#queues a[href^='{UI}/work-pools/']").count() == 6


def test_another_span_is_chosen_and_stays(with_pages):
    with browser.page(CHROMIUM, viewport={"width": 1400, "height": 900}) as page:
        page.goto(with_pages)
        page.wait_for_selector("#health td")
        week = page.locator("#tiles").inner_text()
        page.select_option("#span", "24h")
        expect(page.locator("#tiles")).not_to_have_text(week)
        expect(page.locator("#tiles")).to_contain_text("in 1d")


def test_what_is_cut_off_says_so(with_pages):
    with browser.page(CHROMIUM, viewport={"width": 390, "height": 844}) as page:
        page.goto(with_pages)
        page.wait_for_selector("#health td")
        expect(page.locator("#risk .cut-x")).to_have_count(1)
        silent = """() => [...document.querySelectorAll(".scroll")]
          .filter((box) => box.checkVisibility() && box.scrollWidth > box.clientWidth + 1)
          .filter((box) => !box.classList.contains("cut-x"))
          .map((box) => box.getAttribute("aria-label"))"""
        assert page.evaluate(silent) == []
