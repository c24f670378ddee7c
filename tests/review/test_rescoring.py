"""The feed's process scores the keys that new lines are about, beside what it knows of others."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from keywatch import pipeline, sample
from keywatch.content import content_path
from keywatch.detect import detectors, part
from keywatch.errors import LakeBusyError
from keywatch.lake import Lake
from keywatch.load.late import queued
from keywatch.model import Case, Review
from keywatch.review import making, rescoring
from keywatch.review.rescoring import LastScoring
from keywatch.review.watch import Watched
from keywatch.settings import ContentSettings, Settings
from tests.test_pipeline import (
    AWAY,
    HOME,
    NO_REPLAY,
    SETTINGS,
    WEEK,
    crowd,
    daily,
    key,
    lake_of,
    line,
    theft,
)

THURSDAY = date(2026, 10, 1)


def until_wednesday(folder: Path) -> Path:
    events = [each for each in daily(date(2026, 8, 1), 65) + crowd()
              if each["timestamp"] < f"{THURSDAY}"]  # fmt: skip
    return lake_of(folder, events, [key()])


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A lake until Wednesday, not watched yet."""
    return until_wednesday(tmp_path)


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, LastScoring]:
    """The lake after the first run of a process, which scores all keys, and what that leaves."""
    lake, last = until_wednesday(tmp_path_factory.mktemp("watched")), LastScoring()
    assert told(pipeline.watch(lake, NO_REPLAY, last=last)) == []
    return lake, last


@pytest.fixture
def watched(first_run: tuple[Path, LastScoring], tmp_path: Path) -> tuple[Path, LastScoring]:
    """A copy of the lake that was watched once, and of what that leaves."""
    lake, last = first_run
    return Path(shutil.copytree(lake, tmp_path / "lake")), copy(last)


def load(lake: Path, folder: Path, events: Iterable[dict[str, Any]]) -> None:
    file = folder / "new.jsonl"
    file.write_text("".join(json.dumps(each) + "\n" for each in events), encoding="utf-8")
    pipeline.ingest(lake, [str(file)], NO_REPLAY)


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[frozenset[str]]:
    """The keys of each part that was scored."""
    found: list[frozenset[str]] = []
    real = part.score_part

    def spied(*given: Any) -> Any:
        answer = real(*given)
        if answer is not None:
            found.append(given[2])
        return answer

    monkeypatch.setattr(rescoring, "score_part", spied)
    return found


def told(watched: Watched) -> list[tuple[str, tuple[str, ...], str, float]]:
    return [
        (each.what, each.alert.key_ids, each.alert.action, round(each.alert.bits, 1))
        for each in watched.changes
    ]


def test_a_theft_is_found_by_scoring_its_key_alone(
    watched: tuple[Path, LastScoring], tmp_path: Path, parts: list[frozenset[str]]
) -> None:
    lake, last = watched
    load(lake, tmp_path, theft())
    found = told(pipeline.watch(lake, NO_REPLAY, last=last))
    assert parts == [frozenset({"key_1"})]
    assert [each[:2] for each in found] == [("trigger", ("key_1",))]
    # The key stays alerted while lines of others come.
    load(lake, tmp_path, [line(f"{THURSDAY}T23:00:00", key_id="crowd_07", ip=AWAY)])
    pipeline.watch(lake, NO_REPLAY, last=last)
    assert parts[1:] == [frozenset({"key_1", "crowd_07"})]
    # A process that has just begun scores all keys, and says the same.
    load(lake, tmp_path, [line(f"{THURSDAY}T23:10:00", key_id="crowd_08")])
    assert told(pipeline.watch(lake, NO_REPLAY, last=LastScoring())) == []
    assert len(parts) == 2


def give_verdict(lake: Path) -> None:
    pipeline.give_verdict(
        lake, "crowd_03", "compromised", NO_REPLAY, by="ana", because="seen", window=WEEK,
        origins=[HOME],
    )  # fmt: skip


def change_inventory(lake: Path) -> None:
    inventory = lake.parent / "others.jsonl"
    inventory.write_text(json.dumps(key(scopes=["read:alerts"])) + "\n", encoding="utf-8")
    pipeline.import_keys(lake, inventory, NO_REPLAY)


def load_late(lake: Path) -> None:
    load(lake, lake.parent, [line("2026-09-20T13:00:00", key_id="crowd_05")])


@pytest.mark.parametrize("change", [change_inventory, load_late, give_verdict])
def test_where_more_than_some_keys_has_changed_all_are_scored(
    watched: tuple[Path, LastScoring],
    tmp_path: Path,
    parts: list[frozenset[str]],
    change: Callable[[Path], None],
) -> None:
    lake, last = watched
    change(lake)
    load(lake, tmp_path, [line(f"{THURSDAY}T23:00:00", key_id="crowd_07")])
    assert pipeline.watch(lake, NO_REPLAY, last=last).windows
    assert parts == []


def test_a_full_key_in_a_line_is_told_of_its_owner_without_scoring_all(
    lake: Path, tmp_path: Path, parts: list[frozenset[str]]
) -> None:
    """Keys of the inventory and of the log alone, sent by another key now and on an earlier day."""
    full = {key_id: f"ply_live_prod_{nth}Ab{'7' * 28}" for nth, key_id in enumerate("abcd")}

    def sent(day: str, sender: str, *found: str) -> list[dict[str, Any]]:
        return [
            line(f"{day}T13:00:0{n}", key_id=sender, key=None, endpoint=f"/v1/checks?t={full[k]}")
            for n, k in enumerate(found)
        ]

    masked = {key_id: f"{text[:20]}…{text[-4:]}" for key_id, text in full.items()}
    load(lake, tmp_path, [
        *(line("2026-09-29T09:00:00", key_id=key_id, key=masked[key_id]) for key_id in "abc"),
        *sent("2026-09-30", "crowd_03", "a"),
    ])  # fmt: skip
    last = LastScoring()
    pipeline.watch(lake, NO_REPLAY, last=last)
    load(lake, tmp_path, [
        line(f"{THURSDAY}T12:30:00", key_id="crowd_03"), *sent(f"{THURSDAY}", "crowd_05", *"bd"),
    ])  # fmt: skip
    with Lake.open(lake) as opened, opened.reading():
        found = {}
        for which, scoring in (("part", last), ("all", LastScoring())):
            _, scored = scoring.review(opened, WEEK, NO_REPLAY.without_power())
            found[which] = {
                (each["key_id"], each["actual"])
                for each in scored.evidence.to_pylist()
                if each["detector"] == "exposed_key"
            }
    assert parts == [frozenset({"a", "b", "crowd_03", "crowd_05"})]
    assert found["part"] == found["all"]
    assert {key_id for key_id, _ in found["all"]} == {"a", "b", "crowd_05"}


def test_all_keys_are_scored_once_an_hour(
    lake: Path, tmp_path: Path, parts: list[frozenset[str]]
) -> None:
    now = 0.0
    last = LastScoring(lambda: now)
    pipeline.watch(lake, NO_REPLAY, last=last)
    for minute, expected in ((59, 1), (61, 1), (62, 2)):
        now = 60.0 * minute
        load(lake, tmp_path, [line(f"{THURSDAY}T22:{minute % 60:02}:00", key_id="crowd_07")])
        pipeline.watch(lake, NO_REPLAY, last=last)
        assert len(parts) == expected


def test_what_could_not_be_stored_is_scored_again(
    watched: tuple[Path, LastScoring],
    tmp_path: Path,
    parts: list[frozenset[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lake, last = watched
    load(lake, tmp_path, theft())

    def busy(*_: Any) -> None:
        raise LakeBusyError("another process writes")

    with monkeypatch.context() as patched:
        patched.setattr(making, "keep_news", busy)
        with pytest.raises(LakeBusyError):
            pipeline.watch(lake, NO_REPLAY, last=last)
    found = told(pipeline.watch(lake, NO_REPLAY, last=last))
    assert [each[1] for each in found] == [("key_1",)]
    assert parts == [frozenset({"key_1"})] * 2


def test_what_is_new_to_the_other_keys_is_still_told(
    lake: Path, tmp_path: Path, parts: list[frozenset[str]]
) -> None:
    last = LastScoring()
    load(lake, tmp_path, [line(f"{THURSDAY}T01:00:00", key_id="crowd_09", ip="85.214.132.117")])
    pipeline.watch(lake, NO_REPLAY, last=last)
    load(lake, tmp_path, theft())
    assert pipeline.watch(lake, NO_REPLAY, last=last).changes
    assert len(parts) == 1
    with Lake.open(lake) as opened:
        kept = opened.rows("SELECT DISTINCT key_id FROM lake.new_networks ORDER BY key_id")
    assert kept == [("crowd_09",), ("key_1",)]


def with_a_detector(folder: Path, history: str) -> Settings:
    """Settings with a detector outside the project, which reads such a history."""
    mine = folder / "detectors" / f"{history}_days"
    shutil.copytree(content_path("detectors") / "dormant_wake", mine)
    toml = mine / "detector.toml"
    text = toml.read_text("utf-8").replace('history = "own"', f'history = "{history}"')
    toml.write_text(text, encoding="utf-8")
    return NO_REPLAY.model_copy(update={"content": ContentSettings(folders=(folder,))})


def give_to_one_owner(lake: Path, count: int) -> list[str]:
    """So many keys of the crowd are one owner's, as `key_1` is; returns their ids."""
    inventory = lake.parent / "owned.jsonl"
    owned = [key(f"crowd_{n:02}", name=f"job {n}", key=None) for n in range(count)]
    inventory.write_text("".join(json.dumps(each) + "\n" for each in owned), encoding="utf-8")
    pipeline.import_keys(lake, inventory, NO_REPLAY)
    return [each["key_id"] for each in owned]


def test_a_detector_of_one_s_own_that_compares_with_peers_sees_all_keys(
    lake: Path, tmp_path: Path, parts: list[frozenset[str]]
) -> None:
    for history, expected in (("own", 1), ("peers", 1)):
        settings = with_a_detector(tmp_path / history, history)
        last = LastScoring()
        for minute in range(2):
            moment = f"{THURSDAY}T{20 + len(history) % 4}:0{minute}:00"
            load(lake, tmp_path, [line(moment, key_id="crowd_07")])
            pipeline.watch(lake, settings, last=last)
        assert len(parts) == expected


def test_a_detector_of_one_s_own_that_reads_owners_sees_all_their_keys(
    lake: Path, tmp_path: Path
) -> None:
    owned = give_to_one_owner(lake, 9)
    own = with_a_detector(tmp_path / "own", "owner")
    of_owner = {"key_1", *owned}
    for settings, expected in ((NO_REPLAY, {"crowd_03"}), (own, of_owner)):
        last = LastScoring()
        pipeline.watch(lake, settings, last=last)
        load(lake, tmp_path, [line(f"{THURSDAY}T21:{len(expected):02}:00", key_id="crowd_03")])
        with Lake.open(lake) as opened, opened.reading():
            last.review(opened, WEEK, settings.without_power())
            assert {key_id for (key_id,) in opened.rows("FROM window_keys")} == expected


def test_a_key_that_moves_after_another_of_its_owner_is_scored_with_it(
    lake: Path, tmp_path: Path, parts: list[frozenset[str]]
) -> None:
    give_to_one_owner(lake, 9)
    last = LastScoring()
    pipeline.watch(lake, NO_REPLAY, last=last)
    before, then = [f"crowd_{n:02}" for n in range(5)], "crowd_05"
    for key_ids in (before, [then]):
        load(lake, tmp_path, [
            line(f"{THURSDAY}T09:00:00", key_id=each, ip="85.214.132.117", user_agent=None)
            for each in key_ids
        ])  # fmt: skip
        with Lake.open(lake) as opened, opened.reading():
            _, scored = last.review(opened, WEEK, NO_REPLAY.without_power())
            moved = opened.rows("SELECT key_id FROM evidence WHERE detector = 'fleet_move'")
        last.keep()
    assert parts == [frozenset(before), frozenset({then})]
    assert {key_id for (key_id,) in moved} == {*before, then}
    assert {case.key_id for case in scored.cases} == {*before, then}


def evidence_of(lake: Lake, own: set[str]) -> list[tuple[Any, ...]]:
    """What the scoring before said of these keys, for their owners too."""
    return lake.rows(
        "SELECT key_id, day, prefix, detector, round(bits, 9), actual FROM evidence "
        "WHERE list_contains($own::VARCHAR[], key_id) AND NOT hygiene ORDER BY ALL",
        own=sorted(own),
    )


def known_of(last: LastScoring) -> list[Any]:
    """What a scoring leaves for the next part, in an order of its own."""
    assert last._next is not None
    known = last._next.known
    rows = {
        name: Counter(repr(row) for row in table.to_pylist())
        for name, table in known.rows.items()
        if name not in ("key_forms", "expected_endpoints")  # twice in a part; fitted once
    }
    return [known.key_ids, known.arrived, known.heirs, rows]


def told_of(review: Review, own: set[str]) -> list[Case]:
    """The cases of these keys less upkeep, which no part says anything of."""
    upkeep = {each.id for each in detectors.load_detectors() if each.hygiene}
    return [
        replace(case, evidence=tuple(e for e in case.evidence if e.detector not in upkeep))
        for case in review.cases
        if case.bits and case.key_id in own
    ]


def test_a_part_says_what_a_scoring_of_all_says_of_its_keys(tmp_path: Path) -> None:
    """A world with fleets that move, owners of several environments, rotated keys and thefts.

    Of the other keys of the owners of those that are scored, only where they were is read.
    """
    world = sample.generate(tmp_path / "world", keys=100, weeks=7, seed=4, compress="none")
    *before, last_day = world.logs
    lake = tmp_path / "lake"
    pipeline.ingest(lake, [str(log) for log in before], SETTINGS)
    pipeline.import_keys(lake, world.inventory, SETTINGS)
    last = LastScoring()
    pipeline.watch(lake, SETTINGS, last=last)
    lines = last_day.read_text("utf-8").splitlines(keepends=True)
    quick = SETTINGS.without_power()
    not_scored = 0
    for nth in range(2):
        batch = tmp_path / f"{nth}.jsonl"
        batch.write_text("".join(lines[nth * 12 : nth * 12 + 12]), encoding="utf-8")
        pipeline.ingest(lake, [str(batch)], SETTINGS)
        with Lake.open(lake) as opened, opened.reading():
            window = queued(opened, 4)[-1].window
            some, _ = last.review(opened, window, quick)
            own = {case.key_id for case in some.cases}
            said = evidence_of(opened, own)
            others = sorted({*detectors.kin(opened, sorted(own))} - own)
            not_scored += len(others)
            kept_objects = "FROM baseline_objects WHERE list_contains($keys::VARCHAR[], key_id)"
            objects = opened.rows(f"{kept_objects} ORDER BY ALL", keys=others)
            of_all_keys = LastScoring()
            whole, of_all = of_all_keys.review(opened, window, quick)
            assert said == evidence_of(opened, own)
            assert min(bits for *_, bits, _ in said) < 0
            assert objects
            assert objects == opened.rows(f"{kept_objects} ORDER BY ALL", keys=others)
        assert known_of(last) == known_of(of_all_keys)
        assert len(own) < len(of_all.cases)
        assert told_of(some, own) == told_of(whole, own)
        pipeline.watch(lake, SETTINGS, last=last)
    assert not_scored
