"""The triage page as it is served: who is refused, and how it works in a real browser."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from html import unescape
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page

from keywatch import pipeline
from keywatch.lake import Lake
from tests.browser import Watched, chromium, opened, violations
from tests.long import long_form
from tests.test_pipeline import AWAY, SETTINGS, WEEK, crowd, daily, key, lake_of, theft

pytestmark = pytest.mark.slow

MARKUP = "<img src=x onerror=\"document.title='broken'\"></script><script>alert(1)</script>\u202e"
CONFIG = "[scoring]\nfalse_revoke_rate = 0.5\n[review]\npower_keys = 0\nreplayed_windows = 1\n"
PICTURES = os.environ.get("KEYWATCH_PICTURES")
"""A folder for screenshots, to look at."""


@dataclass
class Served:
    """A running page: its address with the token, and the lake behind it."""

    address: str
    lake: Path

    @property
    def root(self) -> str:
        return self.address.partition("?")[0]

    @cached_property
    def client(self) -> httpx.Client:
        """A browser that has opened the address."""
        client = httpx.Client(
            base_url=self.root, follow_redirects=True, trust_env=False, timeout=60
        )
        assert client.get(self.address).status_code == 200
        return client

    def said(self) -> list[tuple[str, str, str, str]]:
        with Lake.open(self.lake) as lake:
            return lake.rows(
                "SELECT key_id, verdict, by_whom, because FROM lake.verdicts ORDER BY given_at"
            )


@contextmanager
def serving(lake: Path, *options: str) -> Iterator[Served]:
    config = lake.parent / "keywatch.toml"
    config.write_text(CONFIG, encoding="utf-8")
    command = [
        sys.executable, "-X", "faulthandler", "-m", "keywatch", "triage", "--lake", str(lake),
        "--config", str(config), *options,
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+", line)
            assert found, line
            served = Served(found[0], lake)
            yield served
            assert process.poll() is None, f"it ended by itself: {process.returncode}"
            served.client.close()
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    strange = {"user_agent": MARKUP, "endpoint": f"/v1/{MARKUP}"}
    thefts = [event | strange if n % 2 else event for n, event in enumerate(theft())]
    second = daily(date(2026, 8, 1), 65, key_id="key_2", ip="84.151.10.21")
    events = daily(date(2026, 8, 1), 65) + thefts + second + theft("key_2") + crowd()
    keys = [
        key(name=MARKUP, owner=f"team {MARKUP}"),
        key("key_2", key="ply_live_prod_000000…0002", name="billing export", owner="team-b"),
    ]
    made = lake_of(tmp_path_factory.mktemp("desk"), events, keys)
    answer = pipeline.review(made, WEEK, SETTINGS)
    assert {case.key_id for case in answer.alerted()} == {"key_1", "key_2"}
    return made


@pytest.fixture(scope="module")
def served(lake: Path) -> Iterator[Served]:
    with serving(lake, "--allow-verdicts", "--by", "ana") as page:
        yield page


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


# --------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("path", ["", "?token=", "?token=wrong", "case?key=key_1", "report"])
def test_without_its_token_nothing_is_shown(served: Served, path: str) -> None:
    answer = httpx.get(served.root + path, trust_env=False)
    assert answer.status_code == 401
    assert "key" not in answer.text.replace("keywatch triage", "")
    assert "set-cookie" not in answer.headers


def test_the_token_buys_a_cookie_that_no_script_and_no_other_site_gets(served: Served) -> None:
    answer = httpx.get(served.address, trust_env=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert served.address.partition("=")[2].lower() not in cookie
    shown = served.client.get("/")
    assert shown.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in shown.headers["content-security-policy"]
    assert "script-src" not in shown.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in shown.headers["content-security-policy"]
    assert shown.headers["x-frame-options"] == "DENY"
    assert shown.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1.evil.example:80", ""])
def test_a_name_that_is_made_to_point_here_is_refused(served: Served, host: str) -> None:
    answer = served.client.get("/", headers={"host": host})
    assert answer.status_code in (400, 421)
    assert "key_1" not in answer.text


def form_of(page: str) -> dict[str, str]:
    fields = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page)
    return {name: unescape(value) for name, value in fields}


def test_a_verdict_needs_our_own_form_from_our_own_page(served: Served) -> None:
    client = served.client
    form = form_of(client.get("/case?key=key_2&week=2026-W40").text)
    whole = form | {"because": "forged", "verdict": "benign"}
    own = {"origin": served.root.rstrip("/")}
    before = served.said()
    for headers, fields in (
        (own, whole | {"form_token": "guessed"}),
        (own, {name: value for name, value in whole.items() if name != "form_token"}),
        ({"origin": "http://evil.example"}, whole),
        ({}, whole),
        (own, whole | {"padding": "x" * 70_000}),
    ):
        assert client.post("/verdict", data=fields, headers=headers).status_code == 403
    foreign = httpx.post(served.root + "verdict", data=whole, headers=own, trust_env=False)
    assert foreign.status_code == 401
    assert client.get("/verdict", params=whole).status_code == 405
    assert served.said() == before


def test_what_is_wrong_with_a_verdict_is_told(served: Served) -> None:
    client = served.client
    form = form_of(client.get("/case?key=key_2&week=2026-W40").text)
    own = {"origin": served.root.rstrip("/")}
    for wrong, told in (
        ({"because": " ", "verdict": "benign"}, "because REASON"),
        ({"because": "x", "verdict": "fine"}, "Unknown verdict"),
        ({"because": "x", "verdict": "expected", "until": "soon"}, "is not a date"),
        ({"because": "x", "verdict": "benign", "key": "nobody"}, "no key"),
    ):
        answer = client.post("/verdict", data=form | wrong, headers=own)
        assert (answer.status_code, told.lower() in answer.text.lower()) == (400, True), told
    for path, told in (("/case", "No key given"), ("/?week=soon", "not an ISO week"),
                       ("/chart?key=key_2&chart=pie", "unknown chart")):  # fmt: skip
        assert told.lower() in client.get(path).text.lower()


def test_a_verdict_says_what_is_meant_of_a_key_that_no_alert_named(served: Served) -> None:
    client = served.client
    page = client.get("/case?key=crowd_07&week=2026-W40").text
    assert '<input type="checkbox" name="origin" value="84.151.10.0/24">' in page
    said = {"because": "a release", "verdict": "expected", "origin": "84.151.10.0/24"}
    chosen = {**form_of(page), **said, "family": ["endpoints", "volume"]}
    own = {"origin": served.root.rstrip("/")}
    answer = client.post("/verdict", data=chosen, headers=own)
    assert answer.status_code == 200, answer.text
    with Lake.open(served.lake) as lake:
        given = lake.rows(
            "SELECT origin, families FROM lake.suppressions WHERE key_id = 'crowd_07'"
        )
    assert given == [("84.151.10.0/24", ["endpoints", "volume"])]
    undone = client.post(
        "/verdict", data=form_of(page) | {"because": "none", "verdict": "undo"}, headers=own
    )
    assert undone.status_code == 200


def test_an_alert_is_assigned_commented_on_and_approved(served: Served) -> None:
    client = served.client
    page = client.get("/case?key=key_1&week=2026-W40").text
    assert "Not assigned." in page
    form = {
        name: unescape(value)
        for name, value in re.findall(
            r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.partition('"/alert"')[2]
        )
    }
    own = {"origin": served.root.rstrip("/")}
    for change, text in (("assign", "ben"), ("comment", MARKUP), ("approve", "it is a theft")):
        answer = client.post("/alert", data=form | {"do": change, "text": text}, headers=own)
        assert answer.status_code == 200, answer.text
    section = answer.text.partition('id="alert"')[2].partition("</section>")[0]
    assert "Assigned to ben." in section
    assert "ana: &lt;img src=x" in section
    assert ", acknowledged, open for" in section
    for wrong in ({"do": "comment", "text": " "}, {"do": "close"}, {"do": "assign", "alert": "x"}):
        assert client.post("/alert", data=form | wrong, headers=own).status_code == 400
    forged = form | {"do": "assign", "text": "eve", "form_token": "guessed"}
    assert client.post("/alert", data=forged, headers=own).status_code == 403
    assert client.get("/alert", params=form).status_code == 405


def test_a_verdict_says_when_somebody_else_writes_and_pages_go_on(
    served: Served, lake: Path
) -> None:
    client = served.client
    form = form_of(client.get("/case?key=key_2&week=2026-W40").text)
    before = served.said()
    with Lake.open(lake) as other, other.writing():
        answer = client.post(
            "/verdict",
            data=form | {"because": "x", "verdict": "benign"},
            headers={"origin": served.root.rstrip("/")},
            timeout=30,
        )
        assert answer.status_code == 503
        assert "Another process is writing" in answer.text
        assert client.get("/").status_code == 200
    assert served.said() == before


def test_without_allow_verdicts_none_can_be_given(lake: Path) -> None:
    with serving(lake) as served:
        client = served.client
        page = client.get("/case?key=key_2").text
        assert "read-only" in page
        assert "<form" not in page
        answer = client.post("/verdict", headers={"origin": served.root.rstrip("/")})
        assert answer.status_code == 404


def test_a_name_is_needed_to_give_verdicts_in(lake: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "keywatch", "triage", "--lake", str(lake), "--allow-verdicts"],
        capture_output=True,
        text=True,
    )
    assert (ran.returncode, "--by NAME" in ran.stderr) == (2, True)


# ------------------------------------------------------------------------------------- in Chromium


@contextmanager
def looking(
    browser: Browser, served: Served, width: int = 1280, scheme: str = "light"
) -> Iterator[Page]:
    """The page in a browser; nothing may fail, run or leave the machine."""
    size = {"width": width, "height": 900}
    with opened(
        browser, served.address, served.root, viewport=size, color_scheme=scheme
    ) as watched:
        yield watched.page
        assert_quiet(watched)


def assert_quiet(watched: Watched) -> None:
    assert watched.said == []
    assert watched.requests == []
    assert watched.page.title() != "broken"


def names(page: Page) -> list[str]:
    found: list[str] = page.locator(".glance tbody .id").all_inner_texts()
    return found


def photographed(page: Page, name: str) -> None:
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"{name}.png", full_page=True)


@pytest.mark.parametrize(
    ("width", "scheme"),
    [(1280, "dark"), (390, "light"), *long_form([(1280, "light")], short=[])],
)
def test_list_and_case_are_shown_whole_and_accessible(
    browser: Browser, served: Served, width: int, scheme: str
) -> None:
    with looking(browser, served, width, scheme) as page:
        assert "token" not in page.url
        assert sorted(names(page)) == ["key_1", "key_2"]
        assert violations(page) == []
        photographed(page, f"cases_{width}_{scheme}")
        page.get_by_role("link", name=re.compile("onerror")).first.click()
        page.wait_for_url("**/case**")
        page.wait_for_load_state("networkidle")
        drawn = page.locator("img.picture").evaluate_all("all => all.map(one => one.naturalWidth)")
        assert len(drawn) == 3
        assert min(drawn) > 100
        body = page.locator("body").inner_text()
        assert "alert(1)" in body  # the hostile name, as text
        assert AWAY.rpartition(".")[0] in body
        assert "\u202e" not in body
        assert page.locator("script").count() == 0
        assert violations(page) == []
        photographed(page, f"case_{width}_{scheme}")
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width


def test_filter_and_sort_by_mouse(browser: Browser, served: Served) -> None:
    with looking(browser, served) as page:
        page.get_by_role("link", name="Bits", exact=True).click()
        page.wait_for_url("**sort=bits&order=desc")
        head = page.get_by_role("columnheader", name="Bits")
        assert head.get_attribute("aria-sort") == "descending"
        falling = names(page)
        page.get_by_role("link", name="Bits", exact=True).click()
        page.wait_for_url("**sort=bits&order=asc")
        assert head.get_attribute("aria-sort") == "ascending"
        assert names(page) == falling[::-1]
        page.get_by_label("Search").fill("BILLING")
        page.get_by_role("button", name="Show").click()
        page.wait_for_url("**text=BILLING**")
        assert names(page) == ["key_2"]
        page.get_by_label("State").select_option("judged")
        page.get_by_role("button", name="Show").click()
        page.wait_for_url("**state=judged**")
        assert "No case matches." in page.locator("main").inner_text()


def test_filter_and_sort_by_keyboard(browser: Browser, served: Served) -> None:
    with looking(browser, served) as page:
        page.get_by_label("Search").focus()
        page.keyboard.type("team-b")
        page.keyboard.press("Enter")
        page.wait_for_url("**text=team-b**")
        assert names(page) == ["key_2"]
        page.goto(served.root)
        page.get_by_role("link", name="Key", exact=True).focus()
        page.keyboard.press("Enter")
        page.wait_for_url("**sort=key**")
        assert names(page) == ["key_1", "key_2"]  # "<" comes before letters


def test_a_verdict_by_mouse_and_its_undoing_by_keyboard(browser: Browser, served: Served) -> None:
    with looking(browser, served) as page:
        page.get_by_role("link", name="billing export").click()
        page.wait_for_url("**/case**")
        # Enter in a field gives no verdict.
        page.get_by_label("Because").fill("I tried <b>it</b>")
        page.get_by_text("Scope of the verdict").click()
        for name in ("because", "until", "family"):
            page.locator(f"#verdict input[name={name}]").first.press("Enter")
            assert "No verdict yet." in page.locator("#verdict").inner_text()
        page.get_by_role("button", name="Benign").click()
        page.wait_for_url("**#verdict")
        assert "Verdict: benign by ana: I tried <b>it</b>" in page.locator("#verdict").inner_text()
        assert served.said()[-1] == ("key_2", "benign", "ana", "I tried <b>it</b>")
        page.goto(served.root)
        assert names(page) == ["key_1"]

        page.get_by_label("State").select_option("judged")
        page.get_by_role("button", name="Show").press("Enter")
        page.wait_for_url("**state=judged**")
        page.get_by_role("link", name="billing export").press("Enter")
        page.wait_for_url("**/case**")
        page.get_by_label("Because").focus()
        page.keyboard.type("it was not me")
        for _ in range(12):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.value") == "undo":
                break
        page.keyboard.press("Enter")
        page.wait_for_url("**#verdict")
        shown = page.locator("#verdict").inner_text()
        assert "No verdict yet." in shown
        assert "History of verdicts (2)" in shown
        assert served.said()[-1] == ("key_2", "undo", "ana", "it was not me")


def test_the_report_opens_from_the_page(browser: Browser, served: Served) -> None:
    with looking(browser, served) as page:
        page.set_default_timeout(60_000)
        page.get_by_role("link", name="The report of this week").click()
        page.wait_for_selector(".chart svg")
        assert "Keywatch review" in page.locator("header").inner_text()
