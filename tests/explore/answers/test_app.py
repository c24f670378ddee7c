"""The page on which owners answer: what it shows to whom, and that only its form answers."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from socket import create_server, socket
from typing import Any
from unittest.mock import patch

import anyio
import pytest
import uvicorn
from httpx import Client, Response
from starlette.requests import Request
from starlette.types import ASGIApp

from keywatch.deliver import Codes
from keywatch.errors import UsageError
from keywatch.explore.answers import Answers, serve
from keywatch.explore.answers.app import Limiter
from keywatch.explore.web import PromptProtocol, read_form
from keywatch.lake import Lake, utc_now
from keywatch.settings import Settings
from tests.browser import chromium, opened, violations
from tests.deliver.asking import BASE, HOSTING, Asking, asking, in_days
from tests.deliver.test_channels import HOSTILE_TEXT

BIND = "127.0.0.1:8480"
OWN = {"origin": BASE}


@contextmanager
def asked(folder: Path, name: str = "") -> Iterator[tuple[Asking, Client]]:
    """A question that was sent, and a browser at the page."""
    with asking(folder, name=name, bind=BIND) as made:
        made.deliver()
        with Lake.open(made.lake) as lake:
            codes = Codes.of(lake)
        app = Answers(made.lake, made.settings, codes, BIND)
        with (
            served(app) as address,
            Client(
                base_url=address, headers={"host": "keys.example.com"}, trust_env=False, timeout=180
            ) as browser,
        ):
            yield made, browser


@contextmanager
def served(app: ASGIApp, listening: socket | None = None) -> Iterator[str]:
    config = uvicorn.Config(app, port=0, log_level="error", ws="none", http=PromptProtocol)
    listening = listening or config.bind_socket()
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def answers(made: Asking) -> list[tuple[object, ...]]:
    return made.rows("SELECT answer, until, way FROM lake.answers")


@pytest.mark.slow
def test_a_link_shows_a_form_and_only_its_post_answers(tmp_path: Path) -> None:
    with asked(tmp_path, name=HOSTILE_TEXT) as (made, browser):
        code = made.code()
        for method in ("GET", "HEAD", "GET"):
            page = browser.request(method, f"/answer?code={code}&answer=once")
            assert page.status_code == 200
        for part in (HOSTING, "ply_live_prod_4f8a2c…9e1d", code, "Not my key", "https://db-ip.com"):
            assert part in page.text
        assert "<script" not in page.text.replace("&lt;script", "")
        assert "<img src=x" not in page.text
        assert page.headers["content-security-policy"].startswith("default-src 'none'")
        assert page.headers["cache-control"] == "no-store"
        assert page.headers["x-frame-options"] == "DENY"
        assert browser.get("/style.css").headers["content-type"].startswith("text/css")
        assert answers(made) == []

        def post(origin: dict[str, str] = OWN, **form: str) -> Response:
            return browser.post("/answer", data={"code": code, **form}, headers=origin)

        assert post({"origin": "https://evil.example"}, answer="once").status_code == 403
        assert post({}, answer="once").status_code == 403
        perhaps = post(answer="perhaps")
        assert perhaps.status_code == 400
        assert f'<a href="answer?code={code}">Back to the question</a>' in perhaps.text
        assert post(answer="until").status_code == 400
        assert post(answer="until", until=f"{in_days(900)}").status_code == 400
        assert post(answer="until", until="soon").status_code == 400
        assert answers(made) == []
        done = post(answer="until", until=f"{in_days(20)}")
        assert done.status_code == 200
        assert f"yes, until {in_days(20)}" in done.text
        assert answers(made) == [("yes", in_days(20), "link")]
        again = post(answer="no")
        assert again.status_code == 400
        assert "This question was answered before." in again.text
        assert "was answered at" in again.text
        assert "was answered at" in browser.get(f"/answer?code={code}").text
        assert len(answers(made)) == 1
        assert code.encode() not in made.every_byte()


@pytest.mark.slow
def test_without_a_valid_code_nothing_is_shown_or_answered(tmp_path: Path) -> None:
    with asked(tmp_path) as (made, browser):
        code = made.code()
        now = utc_now()
        expired = patch("keywatch.explore.answers.app.utc_now", lambda: now + timedelta(days=8))
        foreign = Codes(b"x" * 32).code(code.split(".")[0], now).get_secret_value()
        plain = browser.get("/").text
        with expired:
            assert browser.get("/answer", params={"code": code}).text == plain
        for wrong in ("", foreign, code[:-2] + "AA", HOSTILE_TEXT[:200]):
            for answer in (
                browser.get("/answer", params={"code": wrong}),
                browser.post("/answer", data={"code": wrong, "answer": "no"}, headers=OWN),
            ):
                assert (answer.status_code, answer.text) == (404, plain)
        for path in ("/", "/case", "/answer/x", "/../etc/passwd"):
            assert browser.get(path).text == plain
        assert browser.delete(f"/answer?code={code}").text == plain
        assert "team-a" not in plain
        assert "key_1" not in plain
        elsewhere = browser.get(f"/answer?code={code}", headers={"host": "evil.example"})
        assert (elsewhere.status_code, "key_1" in elsewhere.text) == (421, False)
        for _ in range(20):
            last = browser.get("/answer", params={"code": foreign})
        assert last.status_code == 429
        assert browser.get(f"/answer?code={code}").status_code == 200  # owners are not kept out
        assert answers(made) == []


def test_owners_see_what_each_answer_does_and_press_one_button(tmp_path: Path) -> None:
    with asking(tmp_path, bind=BIND) as made, create_server(("127.0.0.1", 0)) as listening:
        made.deliver()
        bind = f"127.0.0.1:{listening.getsockname()[1]}"
        owners = made.settings.owners.model_copy(update={"base_url": f"http://{bind}"})
        settings = made.settings.model_copy(update={"owners": owners})
        with Lake.open(made.lake) as lake:
            app = Answers(made.lake, settings, Codes.of(lake), bind)
        link = f"http://{bind}/answer?code={made.code()}"
        with served(app, listening) as address, chromium() as browser:
            for width, scheme in ((1280, "light"), (390, "dark")):
                size: dict[str, Any] = {"viewport": {"width": width, "height": 900}}
                with opened(browser, link, address, color_scheme=scheme, **size) as seen:
                    assert violations(seen.page) == []
                    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
                    assert (seen.said, seen.requests) == ([], [])
            with opened(browser, link, address) as seen:
                page = seen.page
                day = page.get_by_label("Day")
                for chosen in ("", f"{in_days(-3)}", f"{in_days(900)}"):
                    day.fill(chosen)
                    page.get_by_role("button", name="Yes, until that day").click()
                    assert not day.evaluate("each => each.validity.valid")
                day.press("Enter")
                assert page.url == link
                assert answers(made) == []
                page.get_by_role("button", name="No", exact=True).dblclick()
                page.get_by_text(re.compile("is recorded|was answered at")).wait_for()
                page.go_back()
                page.reload()
                page.get_by_text("This question was answered before.").wait_for()
                assert violations(page) == []
        assert answers(made) == [("no", None, "link")]


def test_a_form_that_breaks_off_is_no_form_and_no_error() -> None:
    parts = iter(
        [{"type": "http.request", "body": b"code=x", "more_body": True},
         {"type": "http.disconnect"}]
    )  # fmt: skip

    async def receive() -> Any:
        return next(parts)

    request = Request({"type": "http", "method": "POST", "headers": []}, receive)
    assert anyio.run(read_form, request) is None


def test_so_many_are_counted_by_name_and_no_more_names_are_kept() -> None:
    limiter = Limiter(2, 60.0)
    assert [limiter.is_over("a", now) for now in (0.0, 1.0, 2.0, 3.0)] == [False, False, True, True]
    assert not limiter.is_over("b", 4.0)
    assert not limiter.is_over("a", 61.0)
    for n in range(20_000):
        limiter.is_over(str(n), 62.0)
    assert len(limiter._counted) == 10_000


def test_what_no_settings_ask_for_is_not_served(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no way to answer: under"):
        serve(tmp_path, Settings(), print)
