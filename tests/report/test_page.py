"""The page in a real Chromium: by mouse and by keyboard, at two widths, in light and in dark."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import date
from itertools import product
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect

from keywatch import pipeline
from keywatch.model import Review
from keywatch.report.html import render_html
from tests.browser import Watched, chromium, opened, violations
from tests.long import long_form
from tests.report.pages import details_of
from tests.report.reviews import FULL, QUIET, filled_with
from tests.report.test_html import MARKUP
from tests.test_pipeline import AWAY, SETTINGS, WEEK, crowd, daily, key, lake_of, line, theft

# Where pictures are kept to be looked at; pytest's own folder where nobody asks for them.
PICTURES = os.environ.get("KEYWATCH_PICTURES")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


def written(folder: Path, review: Review, text: str | None = None) -> str:
    file = folder / "report.html"
    file.write_text(render_html(review, details_of(review, text)), encoding="utf-8")
    return file.as_uri()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("report"), FULL)


@pytest.fixture
def watched(browser: Browser, url: str) -> Iterator[Watched]:
    with opened(browser, url, viewport={"width": 1280, "height": 900}) as page:
        yield page
        assert (page.said, page.requests) == ([], [])


@pytest.fixture
def page(watched: Watched) -> Page:
    return watched.page


def shown_keys(page: Page) -> list[str]:
    """Names in the table, in their order on the page."""
    return page.locator("#glance tbody tr:visible a").all_inner_texts()


def shown_cases(page: Page) -> list[str]:
    texts: list[str] = page.locator("details.case:visible h3").all_inner_texts()
    return [text.split(" ", 1)[1] for text in texts]


def pasted(page: Page) -> str:
    """What the clipboard holds, as somebody gets it who pastes it."""
    page.evaluate(
        "() => { const area = document.createElement('textarea'); area.id = 'paste'; "
        "document.body.append(area); area.focus(); }"
    )
    page.keyboard.press("Control+V")
    text: str = page.locator("#paste").input_value()
    page.evaluate("() => document.getElementById('paste').remove()")
    return text


STEPS = "REVOKE Grafana dashboards (key_0700353)\n1. Revoke ply_live_prod_4f8a2c…9e1d now"


def test_from_opening_to_the_copied_steps_takes_one_click(page: Page) -> None:
    page.get_by_role("button", name="Copy steps for Grafana dashboards").click()

    expect(page.locator("#said")).to_have_text("Copied.")
    assert pasted(page).startswith(STEPS)


def test_from_opening_to_the_copied_steps_takes_three_keys(page: Page) -> None:
    for pressed in ("Tab", "Enter", "Enter"):
        page.keyboard.press(pressed)

    expect(page.locator("#said")).to_have_text("Copied.")
    assert pasted(page).startswith(STEPS)


def test_arrows_lead_from_one_runbook_to_the_next(page: Page) -> None:
    for pressed in ("Tab", "Enter", "ArrowDown", "ArrowDown", "ArrowDown", "ArrowUp", "Enter"):
        page.keyboard.press(pressed)

    expect(page.locator("#said")).to_have_text("Copied.")
    assert pasted(page).startswith(
        "REVOKE CI smoke tests (key_0700411)\n1. The key is already revoked"
    )


def test_the_first_case_is_open_with_its_charts_and_others_draw_when_opened(page: Page) -> None:
    first, second = page.locator("#case-0"), page.locator("#case-1")
    expect(page.locator("#case-0 .chart svg")).to_have_count(3)
    assert second.locator(".chart svg").count() == 0

    second.locator("summary").first.click()

    expect(page.locator("#case-1 .chart svg")).to_have_count(3)
    for box in (first, second):
        points = box.locator("[data-chart=timeline] .mark-symbol path").count()
        assert points >= 98
        land = box.locator("[data-chart=map] .mark-shape path").count()
        assert land > 150
        assert box.locator("[data-chart=endpoints] .mark-rect path").count() >= 2
    assert first.locator(".chart[aria-label*='by day and network']").count() == 1


def test_a_link_opens_its_case_by_keyboard(page: Page) -> None:
    page.get_by_role("link", name="CI smoke tests").focus()
    page.keyboard.press("Enter")

    expect(page.locator("#case-1 .chart svg")).to_have_count(3)
    assert page.evaluate("document.activeElement.closest('details').id") == "case-1"
    page.keyboard.press("Enter")
    assert page.locator("#case-1").get_attribute("open") is None


def test_filters_take_cases_and_rows_alike(page: Page) -> None:
    everything = shown_keys(page)
    assert len(everything) == 3

    page.locator("select[name=action]").select_option("investigate")
    assert len(shown_keys(page)) == len(shown_cases(page)) == 1
    assert page.locator("#shown").inner_text() == "1 of 3 keys"

    page.locator("select[name=action]").select_option("")
    page.locator("select[name=owner]").select_option("team-delivery")
    assert shown_keys(page) == shown_cases(page) == ["CI smoke tests"]

    page.locator("select[name=owner]").select_option("")
    page.get_by_label("Search").fill("COUNTRY dashboards")
    assert shown_keys(page) == shown_cases(page) == ["Grafana dashboards"]

    page.get_by_label("Search").fill("nothing is like this")
    assert shown_keys(page) == shown_cases(page) == []
    assert page.get_by_text("No case matches.").is_visible()

    page.get_by_label("Search").fill("")
    assert shown_keys(page) == everything


def test_the_filter_works_by_keyboard(page: Page) -> None:
    page.get_by_label("Search").focus()
    page.keyboard.type("smoke")
    assert shown_keys(page) == ["CI smoke tests"]
    page.keyboard.press("Enter")
    assert shown_keys(page) == ["CI smoke tests"]
    page.keyboard.press("Tab")
    page.keyboard.press("i")
    assert page.locator("select[name=action]").input_value() == "investigate"
    assert shown_keys(page) == []


def test_a_long_table_has_a_filter_of_its_own(page: Page) -> None:
    rows = page.locator("#upkeep tbody tr")
    everything = rows.count()
    field = page.locator("#upkeep").get_by_label("Filter rows")
    field.fill("rotation overdue")
    shown = page.locator("#upkeep tbody tr:visible").count()
    assert 0 < shown < everything
    assert page.locator("#upkeep [role=status]").inner_text() == f"{shown} of {everything} rows"
    field.fill("")
    assert page.locator("#upkeep tbody tr:visible").count() == everything
    assert page.locator("#networks").get_by_label("Filter rows").count() == 0


@pytest.mark.parametrize("by", ["mouse", "keyboard"])
def test_sorting_orders_rows_and_cases_both_ways(page: Page, by: str) -> None:
    def sort(head: str) -> None:
        button = page.locator("#glance th").get_by_role("button", name=head)
        if by == "mouse":
            button.click()
        else:
            button.focus()
            page.keyboard.press("Enter")

    names = shown_keys(page)
    sort("Key")
    assert shown_keys(page) == shown_cases(page) == sorted(names, key=str.casefold)
    assert page.locator("#glance th[aria-sort=ascending]").inner_text() == "Key"
    sort("Key")
    assert shown_keys(page) == sorted(names, key=str.casefold, reverse=True)
    sort("Confidence")
    assert shown_keys(page) == names
    sort("Confidence")
    assert shown_keys(page) == shown_cases(page) == names[::-1]


def test_new_networks_can_be_sorted_too(page: Page) -> None:
    def sort(head: str) -> list[str]:
        page.locator("#networks th").get_by_role("button", name=head).click()
        ranks = "rows => rows.map((row) => row.dataset.rank)"
        order: list[str] = page.locator("#networks tbody tr").evaluate_all(ranks)
        return order

    cases = shown_keys(page)
    assert sort("Requests") == ["2", "0", "1"]
    assert sort("Requests") == ["1", "0", "2"]
    assert sort("Bits") == ["0", "1", "2"]
    assert sort("Network") == ["2", "0", "1"]
    assert page.locator("th[aria-sort]").all_inner_texts() == ["Network"]
    assert shown_keys(page) == cases


def test_all_cases_open_and_close_at_once(page: Page) -> None:
    page.get_by_role("button", name="Open all cases").click()
    expect(page.locator(".chart svg")).to_have_count(9)
    page.get_by_role("button", name="Close all cases").click()
    assert page.locator("details.case[open]").count() == 0


def test_printed_every_case_is_open_and_drawn_in_light(
    browser: Browser, url: str, page: Page
) -> None:
    page.emulate_media(color_scheme="dark")
    expect(page.locator("#case-0 [data-theme=dark] svg")).to_have_count(3)

    page.evaluate("() => { dispatchEvent(new Event('beforeprint')); }")
    expect(page.locator("details.case[open]")).to_have_count(3)
    expect(page.locator("[data-theme=light] svg")).to_have_count(9)
    page.evaluate("() => { dispatchEvent(new Event('afterprint')); }")
    expect(page.locator("details.case[open]")).to_have_count(1)
    expect(page.locator("#case-0 [data-theme=dark] svg")).to_have_count(3)


def test_a_printed_page_has_the_charts_in_it(browser: Browser, url: str, page: Page) -> None:
    with opened(browser, url, java_script_enabled=False) as plain:
        without = plain.page.pdf()

    assert len(page.pdf()) > len(without) + 50_000


def test_charts_follow_the_theme(page: Page) -> None:
    expect(page.locator("#case-0 [data-theme=light] svg")).to_have_count(3)
    page.emulate_media(color_scheme="dark")
    expect(page.locator("#case-0 [data-theme=dark] svg")).to_have_count(3)


def test_a_tooltip_says_what_a_point_is(page: Page) -> None:
    expect(page.locator("#case-0 .chart svg")).to_have_count(3)
    page.locator("#case-0 [data-chart=endpoints]").scroll_into_view_if_needed()
    page.locator("#case-0 [data-chart=endpoints] .mark-symbol.role-mark path").first.hover()
    page.locator(".vg-tooltip.visible").wait_for()
    assert "GET /v1/members" in page.locator(".vg-tooltip").inner_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("width", "scheme"),
    long_form([*product((1280, 390), ("light", "dark"))], short=[(1280, "light"), (390, "dark")]),
)
def test_accessible_within_its_width_and_pictured(
    browser: Browser, url: str, scheme: str, width: int, tmp_path: Path
) -> None:
    size = {"width": width, "height": 900}
    with opened(browser, url, viewport=size, color_scheme=scheme) as watched:
        page = watched.page
        page.get_by_role("button", name="Open all cases").click()
        page.locator("details.fold").evaluate_all(
            "all => all.forEach(each => { each.open = true })"
        )
        expect(page.locator(".chart svg")).to_have_count(9)

        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        picture = Path(PICTURES or tmp_path) / f"report-{width}-{scheme}.png"
        assert len(page.screenshot(path=picture, full_page=True)) > 50_000
        assert (watched.said, watched.requests) == ([], [])


def test_without_scripts_all_but_the_charts_is_there(browser: Browser, url: str) -> None:
    with opened(browser, url, java_script_enabled=False) as watched:
        page = watched.page
        assert page.get_by_text("The charts need JavaScript").is_visible()
        assert page.locator("#filter").is_hidden()
        assert page.locator("button.copy:visible").count() == 0
        page.locator("#case-2 > summary").click()
        steps = page.locator("#case-2 ol li")
        assert steps.first.is_visible()
        assert steps.first.inner_text().startswith("Ask arn:aws:iam::123456789012")


def test_a_quiet_week_has_nothing_to_draw(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, written(tmp_path, QUIET)) as watched:
        assert watched.page.get_by_text("No key to revoke").is_visible()
        assert violations(watched.page) == []
        assert (watched.said, watched.requests) == ([], [])


HOSTILE = [
    MARKUP,
    "</script><script>document.title='1'</script>",
    "javascript:alert(1)",
    "<svg><animate onbegin=alert(1) attributeName=x></svg>",
    "{{constructor.constructor('alert(1)')()}}",
    "https://evil.example/x.png",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_of_a_log_does_nothing(browser: Browser, tmp_path: Path, text: str) -> None:
    review = filled_with(text)
    with opened(browser, written(tmp_path, review, text)) as watched:
        page = watched.page
        page.get_by_role("button", name="Open all cases").click()
        # All cases are of one key here, and drawn as the last of them.
        expect(page.locator(".chart svg")).to_have_count(3)
        page.locator(".mark-symbol.role-mark path").first.hover()
        page.locator("button.copy").first.click()

        assert page.title().startswith("Keywatch review")
        assert page.locator("body img, body iframe, body animate").count() == 0
        assert (watched.said, watched.requests) == ([], [])


@pytest.mark.slow
def test_a_log_full_of_markup_from_the_file_to_the_page(browser: Browser, tmp_path: Path) -> None:
    """Agent, path and the inventory's texts are the thief's; nothing in between is made up."""
    hostile = [event | {"user_agent": f"{MARKUP}/1"} for event in theft()]
    hostile += [
        line(f"2026-10-01T04:00:0{n}", ip=AWAY, endpoint=f"/v1/{quote(MARKUP, safe='<>/ =')}/{n}")
        for n in range(3)
    ]
    keys = [key(name=MARKUP, owner=f"{MARKUP} & co", scopes=["read:checks", MARKUP])]
    lake = lake_of(tmp_path, daily(date(2026, 8, 1), 65) + hostile + crowd(), keys)
    review, details = pipeline.review_in_detail(lake, WEEK, SETTINGS)
    assert review.alerted()[0].name == MARKUP
    file = tmp_path / "report.html"
    file.write_text(render_html(review, details), encoding="utf-8")

    with opened(browser, file.as_uri()) as watched:
        page = watched.page
        expect(page.locator("#case-0 .chart svg")).to_have_count(3)
        page.locator("#case-0 [data-chart=endpoints] .mark-symbol.role-mark path").first.hover()
        assert "onerror" in page.locator("#case-0 h3").inner_text()
        assert page.locator("body img").count() == 0
        assert page.title().startswith("Keywatch review")
        assert (watched.said, watched.requests) == ([], [])
