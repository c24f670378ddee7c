"""Draw docs/report.png and docs/notebook.png, from a demo lake.

    keywatch demo --keep demo --html review.html && mv review.html demo
    python tools/demo_verdicts.py demo
    python tools/draw_pages.py demo

The report shows its first case, with the list filtered to its owner; the notebook is one on a rule,
whose chart needs the verdicts. docs/runs.png is Prefect's own page, drawn by hand.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Browser, Error, Page, ViewportSize, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
_FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync")
_MOST_PIXELS = 3_600
_SCREEN: ViewportSize = {"width": 1_280, "height": 900}


def draw_report(browser: Browser, page_file: Path) -> None:
    """The list of keys, filtered, and the first case down to its charts."""
    page = browser.new_page(viewport={"width": 1_000, "height": _MOST_PIXELS})
    page.goto(page_file.resolve().as_uri())
    owner = page.locator("#case-0 summary").first.inner_text().split("·")[0].split()[-1]
    page.locator("#filter input[type=search]").fill(owner)
    page.locator("#filter input[type=search]").blur()
    charts = page.locator("#case-0 svg")
    charts.first.wait_for(timeout=60_000)
    last = charts.last.bounding_box()
    assert last, "the case has charts"
    _cut(page, 0, min(last["y"] + last["height"] + 20, _MOST_PIXELS), DOCS / "report.png")


def draw_notebook(browser: Browser, lake: Path) -> None:
    """One screen of the notebook on a rule, as marimo serves it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    served = subprocess.Popen(
        [
            Path(sys.executable).with_name("marimo"), "run",
            ROOT / "notebooks/which_keys_would_a_rule_hit.py",
            "--headless", "--no-token", "--host", "127.0.0.1", "--port", str(port),
        ],
        env=os.environ | {"KEYWATCH_LAKE": str(lake.resolve())},
    )  # fmt: skip
    try:
        page = browser.new_page(viewport=_SCREEN)
        _open(page, f"http://127.0.0.1:{port}/")
        page.locator("img[src^='data:image/png'], img[src*='@file']").first.wait_for(
            timeout=300_000
        )
        page.wait_for_timeout(5_000)  # tables and charts grow while they are filled
        page.screenshot(path=DOCS / "notebook.png")
    finally:
        served.terminate()
        served.wait()


def _open(page: Page, address: str, tries: int = 60) -> None:
    for left in reversed(range(tries)):
        try:
            page.goto(address)
            return
        except Error:
            if not left:
                raise
            page.wait_for_timeout(1_000)


def _cut(page: Page, top: float, bottom: float, output: Path) -> None:
    size = page.viewport_size
    assert size, "the page has a viewport"
    page.screenshot(
        path=output, clip={"x": 0, "y": top, "width": size["width"], "height": bottom - top}
    )


def main(demo: Path) -> int:
    chromium = os.environ.get("KEYWATCH_CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(_FLAGS))
        draw_report(browser, demo / "review.html")
        draw_notebook(browser, demo / "lake")
        browser.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
