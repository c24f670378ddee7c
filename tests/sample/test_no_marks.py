"""Nothing in a line but what was done says whether a thief did it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keywatch.sample import generate

Row = dict[str, Any]

CHANCE = 1.95
"""Kolmogorov and Smirnov's scaled statistic of two like samples is above it once in 1,000."""


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Row], list[Row]]:
    """Own and stolen lines of a review week, each with its place in the log as `number`."""
    made = generate(tmp_path_factory.mktemp("world"), keys=400, weeks=2, seed=6, thefts=60,
                    compress="none")  # fmt: skip
    truth = {t["key_id"]: t for t in _read(made.truth)}
    events = [event for path in made.logs[-7:] for event in _read(path)]
    own: list[Row] = []
    stolen: list[Row] = []
    for number, event in enumerate(events):
        told = truth[event["key_id"]]
        if told["theft"] == "insider":  # from the owner's office: the address proves nothing
            continue
        is_stolen = event["ip"] in told["theft_addresses"]
        (stolen if is_stolen else own).append({**event, "number": number})
    assert len(stolen) > 1000
    return own, stolen


def _read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _distance(lines: tuple[list[Row], list[Row]], value: Callable[[Row], float]) -> float:
    own, stolen = (np.sort([value(line) for line in part]) for part in lines)
    every = np.concatenate([own, stolen])
    gap = np.searchsorted(own, every, "right") / len(own)
    gap -= np.searchsorted(stolen, every, "right") / len(stolen)
    return float(np.abs(gap).max() * np.sqrt(len(own) * len(stolen) / len(every)))


def test_fields_are_the_same_in_the_same_order(lines: tuple[list[Row], list[Row]]) -> None:
    own, stolen = ({tuple(line) for line in part} for part in lines)
    assert own == stolen
    assert len(own) == 1


@pytest.mark.parametrize(
    "value",
    [
        lambda line: int(line["request_id"][4:8], 16),
        lambda line: int(line["request_id"][-4:], 16),
        lambda line: int(line["timestamp"][20:23]),
    ],
    ids=["id, first digits", "id, last digits", "milliseconds"],
)
def test_ids_and_clocks(lines: tuple[list[Row], list[Row]], value: Callable[[Row], float]) -> None:
    assert _distance(lines, value) < CHANCE


@pytest.mark.parametrize("field", ["response_bytes", "duration_ms"])
@pytest.mark.parametrize("path", ["/v1/checks", "/v1/export", "/v1/me", "/v1/alerts"])
def test_answers_of_the_same_call(
    lines: tuple[list[Row], list[Row]], path: str, field: str
) -> None:
    own, stolen = (
        [e for e in part if e["status"] == 200 and e["endpoint"].partition("?")[0] == path]
        for part in lines
    )
    assert len(stolen) > 20
    assert _distance((own, stolen), lambda line: float(line[field])) < CHANCE


def test_visits_do_not_come_back_to_the_millisecond(lines: tuple[list[Row], list[Row]]) -> None:
    for part in lines:
        at: dict[str, set[datetime]] = {}
        for line in part:
            at.setdefault(line["key_id"], set()).add(datetime.fromisoformat(line["timestamp"]))
        again = sum(time + timedelta(days=1) in times for times in at.values() for time in times)
        assert again < 0.001 * len(part)


def test_late_lines_and_order(lines: tuple[list[Row], list[Row]]) -> None:
    late = []
    for part in lines:
        numbers, times = [line["number"] for line in part], [line["timestamp"] for line in part]
        assert numbers == sorted(numbers)
        late.append(np.mean([b < a for a, b in pairwise(times)]))
    assert max(late) < 0.05
