"""The cost of growth: what is measured of a size, what is compared, and its picture."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path

import pytest

from benchmarks import growth
from benchmarks.growth import FIRST, LOAD, NEXT, STEPS, WEEKS_LOAD, Figure, Ratio, Size
from benchmarks.review import Measure, measure
from tests.command import keywatch
from tests.long import IS_LONG
from tools import draw_growth


def figure(step: str, cpu_seconds: float, keys: int = 1000, weeks: int = 13) -> Figure:
    return Figure("2026-10-05 00:00", keys, weeks, step, 1000 * keys, cpu_seconds, 9.0, 500)


def test_pairs_of_one_run_are_compared_by_turns() -> None:
    figures = [
        figure(LOAD, 10),
        figure(LOAD, 60, keys=5000),
        figure(FIRST, 30),
        figure(FIRST, 120, keys=5000),
        *(figure(NEXT, cpu) for cpu in (10, 20, 40)),
        *(figure(NEXT, cpu, keys=5000) for cpu in (40, 60, 40)),
        *(figure(NEXT, cpu, weeks=26) for cpu in (12, 22, 48)),
    ]
    assert growth.ratios(figures) == [
        Ratio("an event's load, 5,000 keys, 13 weeks beside 1,000 keys", 1.2, 1.1),
        Ratio("first review, 5,000 keys, 13 weeks beside 1,000 keys", 4.0, 5.5),
        Ratio("next week's review, 5,000 keys, 13 weeks beside 1,000 keys", 3.0, 5.5),
        Ratio("first review beside next week's review, 1,000 keys, 13 weeks", 3.0, 4.0),
        Ratio("next week's review, 1,000 keys, 26 weeks beside 13 weeks", 1.2, 1.1),
        Ratio("first review beside next week's review, 5,000 keys, 13 weeks", 3.0, 4.0),
    ]


def test_what_was_not_measured_is_not_compared() -> None:
    loads = [figure(LOAD, 10), figure(LOAD, 50, keys=5000)]
    assert [ratio.name for ratio in growth.ratios(loads)] == [
        "an event's load, 5,000 keys, 13 weeks beside 1,000 keys"
    ]
    # With less history, a first review replays fewer weeks.
    assert growth.ratios([figure(step, 10, weeks=4) for step in STEPS]) == []


def test_a_ratio_says_whether_it_meets_its_target() -> None:
    assert str(Ratio("a beside b", 1.1, 1.1)) == "a beside b: 1.10 (target: at most 1.1; met)"
    assert str(Ratio("a beside b", 1.2, 1.1)) == "a beside b: 1.20 (target: at most 1.1; not met)"


@pytest.mark.parametrize("text", ["5000", "1x4", "10x0", "10x4x2", "x"])
def test_what_is_no_size_is_refused(text: str) -> None:
    assert Size.parse("5000x13") == Size(5000, 13)
    with pytest.raises(ValueError):  # noqa: PT011 - int's own too
        Size.parse(text)


def in_this_process(command: list[str]) -> Measure:
    """As `measure`, but that only the log is made, and the first load is run, in another process.

    Python and its libraries take longer to load than the commands on so small a lake.
    """
    python, _, module, *words = command
    if module != "keywatch" or (words[0] == "ingest" and words[-1].endswith("12x1")):
        return measure(command)
    began = time.process_time()
    ran = keywatch(*words)
    assert (python, ran.code) == (sys.executable, 0), ran.err
    took = time.process_time() - began
    return Measure(took, took, 1.0, None)


@pytest.mark.slow
def test_each_step_of_a_lake_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not IS_LONG:
        monkeypatch.setattr(growth, "measure", in_this_process)
    sizes = [Size(12, 1), Size(12, 2)]
    worlds = {size: growth.made_world(tmp_path, size, sizes) for size in sizes}
    shorter, longer = worlds.values()
    assert shorter.logs == longer.logs[-14:]
    assert (len(longer.logs), longer.end) == (21, date(2026, 10, 5))

    figures = list(growth.measured(worlds, tmp_path, runs=1))
    steps = [LOAD, FIRST, WEEKS_LOAD, NEXT]
    assert [(each.size, each.step) for each in figures] == [
        *((size, step) for step in steps for size in sizes)
    ]
    events = {(each.size, each.step): each.events for each in figures}
    for size in sizes:
        assert events[size, FIRST] == events[size, LOAD] > 0
        assert events[size, NEXT] == events[size, LOAD] + events[size, WEEKS_LOAD]
    assert all(each.cpu_seconds > 0 and each.peak_mib > 0 for each in figures)
    assert [path.name for path in tmp_path.iterdir()] == ["growth-12-keys-3-weeks"]


def test_the_picture_has_a_median_of_each_size_and_what_is_in_proportion(tmp_path: Path) -> None:
    by_weeks = [figure(step, cpu, weeks=w) for step in STEPS for w, cpu in ((4, 10), (13, 20))]
    again = [replace(each, cpu_seconds=each.cpu_seconds + 2) for each in by_weeks]
    medians = draw_growth.medians([*by_weeks, *again], "weeks", "cpu_seconds")
    loads = [row for row in medians if row["step"] == LOAD]
    assert [(row["size"], row["cost"]) for row in loads] == [(4, 11), (13, 21)]
    proportional = draw_growth.proportional(loads)
    assert [(row["size"], row["cost"]) for row in proportional] == [(4, 11), (13, 35.75)]

    by_keys = [figure(step, cpu, keys=k) for step in STEPS for k, cpu in ((1000, 9), (5000, 50))]
    for name, run in (("keys", by_keys), ("weeks", by_weeks)):
        lines = (json.dumps(asdict(each)) + "\n" for each in run)
        (tmp_path / name).write_text("".join(lines), encoding="utf-8")
    picture = tmp_path / "growth.png"
    draw_growth.main(str(tmp_path / "keys"), str(tmp_path / "weeks"), str(picture))
    assert picture.read_bytes().startswith(b"\x89PNG")
