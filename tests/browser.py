"""A real Chromium for tests of pages: Debian's, or the one that KEYWATCH_CHROMIUM names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, sync_playwright

from tests.conftest import CHROMIUM, NO_CHROMIUM

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium; skips the test where there is none, fails it in CI."""
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("no chromium: .ci/run installs it")
        pytest.skip(NO_CHROMIUM)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@dataclass
class Watched:
    """A page, what its console said, and which requests tried to leave it."""

    page: Page
    said: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@contextmanager
def opened(
    browser: Browser, url: str, allowed: str = "file:", **context_options: Any
) -> Iterator[Watched]:
    """The page at `url` in a context of its own, which loads nothing but what starts `allowed`."""
    context = browser.new_context(**context_options)
    watched = Watched(context.new_page())

    def refuse(route: Route) -> None:
        watched.requests.append(route.request.url)
        route.abort()

    context.route(lambda address: not address.startswith(allowed), refuse)
    watched.page.on("console", lambda message: watched.said.append(message.text))
    watched.page.on("pageerror", lambda error: watched.said.append(str(error)))
    watched.page.on("dialog", lambda dialog: watched.said.append(f"dialog: {dialog.message}"))
    watched.page.goto(url)
    yield watched
    context.close()


def violations(page: Page) -> list[str]:
    """What axe-core finds of serious and critical violations: rule and the elements."""
    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {[node['target'] for node in each['nodes']][:5]}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]
