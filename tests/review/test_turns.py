"""Machines that review one lake at once: a window is scored once, others side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from keywatch import pipeline
from keywatch.errors import LakeBusyError
from keywatch.lake import Lake
from keywatch.model import Window
from keywatch.settings import LakeSettings
from tests import postgres
from tests.conftest import as_json_lines, event
from tests.forked import Forked
from tests.lake.loader import review_week, settings_of, watch_once

PATIENCE_SECONDS = 300.0
FIRST, SECOND = (
    Window(datetime(2026, 9, day), datetime(2026, 9, day) + timedelta(days=7)) for day in (14, 21)
)
PLACES = [
    "folder",
    pytest.param(
        "postgres",
        marks=pytest.mark.skipif(postgres.programs() is None, reason="no PostgreSQL programs here"),
    ),
]


NUMBERS = count()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres.server() as found:
        yield found


@pytest.fixture(params=PLACES)
def machines(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, LakeSettings]:
    """The folder of a machine and the place of a lake with three weeks."""
    log = tmp_path / "log.jsonl"
    start = datetime(2026, 9, 7)
    log.write_bytes(
        as_json_lines(
            event(
                timestamp=f"{start + timedelta(hours=nth):%Y-%m-%dT%H:%M:%SZ}",
                request_id=f"r{nth}",
                key_id=f"key_{nth % 5}",
            )
            for nth in range(21 * 24)
        )
    )

    def loaded(storage: LakeSettings) -> tuple[Path, LakeSettings]:
        pipeline.ingest(tmp_path / "lake", [str(log)], settings_of(storage))
        return tmp_path / "lake", storage

    if request.param == "folder":
        return loaded(LakeSettings(wait_seconds=PATIENCE_SECONDS))
    catalog = postgres.database(request.getfixturevalue("server"), f"lake_{next(NUMBERS)}")
    return loaded(
        LakeSettings(
            catalog=catalog, data_path=str(tmp_path / "data"), wait_seconds=PATIENCE_SECONDS
        )
    )


def until(happens: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_machines_that_review_a_week_at_once_score_it_once(
    machines: tuple[Path, LakeSettings],
) -> None:
    each = [Forked.calling(review_week, *machines, SECOND) for _ in range(3)]
    for one in each:
        assert one.ends(PATIENCE_SECONDS)
        assert one.exit_code == 0, one.said
    said = [line for one in each for line in one.said.splitlines()]
    assert said.count("scores") == 1
    assert len({line for line in said if line.startswith("run ")}) == 1
    with Lake.open(*machines) as lake:
        assert lake.value("SELECT count(*) FROM lake.runs") == 1


def test_a_week_waits_for_its_turn_and_another_does_not(
    machines: tuple[Path, LakeSettings],
) -> None:
    folder, storage = machines
    locks = {*folder.glob("*.lock")}
    settings = settings_of(storage)
    hasty = storage.model_copy(update={"wait_seconds": 0.1})
    with Lake.open(*machines) as lake:
        with lake.turn(f"review {SECOND.start} {SECOND.end}", "reviewing"):
            waits = Forked.calling(review_week, folder, storage, SECOND)
            until(lambda: "another process is reviewing 2026-W39; waiting for it" in waits.said)
            assert pipeline.review(folder, FIRST, settings).window == FIRST
            with pytest.raises(LakeBusyError, match=r"still reviewing 2026-W39 after 0\.1 s"):
                pipeline.review(
                    folder, SECOND, settings.model_copy(update={"storage": hasty}), whole=False
                )
            assert "scores" not in waits.said
            # What is not kept takes nobody's turn; who holds one writes as before.
            assert pipeline.review(folder, SECOND, settings, keep=False).window == SECOND
            with lake.writing():
                pass
        assert waits.ends(PATIENCE_SECONDS)
        assert waits.exit_code == 0, waits.said
        assert "scores" in waits.said
    assert {*folder.glob("*.lock")} == locks


def test_feeds_that_run_at_once_score_new_lines_once(
    machines: tuple[Path, LakeSettings],
) -> None:
    folder, storage = machines
    with Lake.open(folder, storage) as lake, lake.turn("watch", "scoring new events"):
        each = [Forked.calling(watch_once, folder, storage) for _ in range(2)]
        until(lambda: all("is scoring new events; waiting for it" in one.said for one in each))
    for one in each:
        assert one.ends(PATIENCE_SECONDS)
        assert one.exit_code == 0, one.said
    said = [line for one in each for line in one.said.splitlines() if "process" not in line]
    assert sorted(said) == ["new 0 in 0", "new 168 in 1", "scores"]


def test_a_turn_ends_with_its_process(machines: tuple[Path, LakeSettings]) -> None:
    with Lake.open(*machines) as lake:
        dies = Forked.calling(take_a_turn, *machines)
        until(lambda: "taken" in dies.said)
        dies.kill()
        with lake.turn("anything", "waiting"):
            pass


def take_a_turn(folder: Path, storage: LakeSettings) -> None:
    with Lake.open(folder, storage) as lake, lake.turn("anything", "waiting"):
        print("taken", flush=True)
        time.sleep(PATIENCE_SECONDS)
