"""The weekly report beside the review that it tells: time, size, and how soon it opens.

`python -m benchmarks.report` takes the world of `benchmarks.review`, has the most suspicious keys
told (as many as asked for), and makes their page by turns with the review itself, in one process;
then it opens the page in Chromium, where there is one.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from benchmarks.review import add_world_arguments, made_material, world_folder
from keywatch import pipeline
from keywatch.lake import Lake
from keywatch.model import Review, Window
from keywatch.report.html import render_html
from keywatch.review import history
from keywatch.settings import Settings, load_settings

TARGET_RATIO = 0.5
TARGET_BYTES = 5_000_000
TARGET_OPEN_SECONDS = 2.0
_CHROMIUM_FLAGS = ["--headless", "--no-sandbox", "--disable-gpu"]


def main() -> int:
    given = _arguments()
    material, size = made_material(world_folder(given), given)
    window = Window(datetime.fromisoformat(material.start), datetime.fromisoformat(material.end))
    settings = load_settings(None)
    print(f"{size}; {given.cases} cases\n")
    ratios = []
    page = ""
    print(f"{'run':>4}  {'review':>8}  {'details':>8}  {'page':>8}  {'ratio':>5}")
    for nth in range(given.runs):
        start = time.perf_counter()
        answer = pipeline.review(material.lake, window, settings, keep=False)
        reviewed = time.perf_counter()
        told = _with_cases(answer, given.cases)
        details = _details(material.lake, told, settings)
        read = time.perf_counter()
        page = render_html(told, details)
        made = time.perf_counter()
        ratios.append((made - reviewed) / (reviewed - start))
        print(f"{nth + 1:>4}  {reviewed - start:>6.2f} s  {read - reviewed:>6.2f} s  "
              f"{made - read:>6.2f} s  {ratios[-1]:>5.2f}", flush=True)  # fmt: skip
    print(f"\nreport over review: median {statistics.median(ratios):.2f}, "
          f"the first, which also loads Vega, {ratios[0]:.2f} (target {TARGET_RATIO})")  # fmt: skip
    print(f"page: {len(page.encode()) / 1e6:.2f} MB (target {TARGET_BYTES / 1e6:g})")
    _open(page, given.runs)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    add_world_arguments(parser)
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--runs", type=int, default=3)
    return parser.parse_args()


def _with_cases(answer: Review, most: int) -> Review:
    """The review as if an action were due for `most` keys, no more and no less."""
    cases = tuple(
        replace(
            case,
            action="none"
            if nth >= most
            else "investigate"
            if case.action == "none"
            else case.action,
        )
        for nth, case in enumerate(answer.cases)
    )
    return replace(answer, cases=cases)


def _details(lake: Path, answer: Review, settings: Settings) -> history.Details:
    """With a connection of its own, which is more than a review takes that has one open."""
    with Lake.open(lake, settings.storage) as opened, opened.reading():
        return history.details(opened, answer, settings.review.baseline_days)


def _open(page: str, runs: int) -> None:
    """Print how long Chromium takes from the page's address to its load and its first charts."""
    chromium = shutil.which("chromium")
    if chromium is None:
        print("no chromium: not opened")
        return
    from playwright.sync_api import sync_playwright

    loaded, drawn, opened = [], [], []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        file = Path(folder) / "report.html"
        file.write_text(page, encoding="utf-8")
        for _ in range(runs):
            browser = playwright.chromium.launch(executable_path=chromium, args=_CHROMIUM_FLAGS)
            tab = browser.new_page(viewport={"width": 1280, "height": 900})
            start = time.perf_counter()
            tab.goto(file.as_uri())
            loaded.append(time.perf_counter() - start)
            tab.locator("#case-0 .chart svg").nth(2).wait_for()
            drawn.append(time.perf_counter() - start)
            start = time.perf_counter()
            tab.locator("#case-1 > summary").click()
            tab.locator("#case-1 .chart svg").nth(2).wait_for()
            opened.append(time.perf_counter() - start)
            browser.close()
    print(f"opened in {statistics.median(loaded):.2f} s, with the first case's charts in "
          f"{statistics.median(drawn):.2f} s (target {TARGET_OPEN_SECONDS:g}); another case's in "
          f"{statistics.median(opened):.2f} s; medians of {runs} cold browsers")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
