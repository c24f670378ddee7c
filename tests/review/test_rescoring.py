"""The feed's process scores the keys that new lines are about, beside what it knows of others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from keywatch import pipeline
from keywatch.content import content_path
from keywatch.detect import part
from keywatch.errors import LakeBusyError
from keywatch.lake import Lake
from keywatch.load.late import queued
from keywatch.review import judging, rescoring
from keywatch.review.rescoring import LastScoring
from keywatch.review.watch import Watched
from keywatch.settings import ContentSettings
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


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A lake until Wednesday, not watched yet."""
    events = [each for each in daily(date(2026, 8, 1), 65) + crowd()
              if each["timestamp"] < f"{THURSDAY}"]  # fmt: skip
    return lake_of(tmp_path, events, [key()])


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
    lake: Path, tmp_path: Path, parts: list[frozenset[str]]
) -> None:
    last = LastScoring()
    assert told(pipeline.watch(lake, NO_REPLAY, last=last)) == []
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
    lake: Path, tmp_path: Path, parts: list[frozenset[str]], change: Callable[[Path], None]
) -> None:
    last = LastScoring()
    pipeline.watch(lake, NO_REPLAY, last=last)
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
    lake: Path, tmp_path: Path, parts: list[frozenset[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    last = LastScoring()
    pipeline.watch(lake, NO_REPLAY, last=last)
    load(lake, tmp_path, theft())

    def busy(*_: Any) -> None:
        raise LakeBusyError("another process writes")

    with monkeypatch.context() as patched:
        patched.setattr(judging, "keep_news", busy)
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


def test_a_detector_of_one_s_own_that_compares_with_peers_sees_all_keys(
    lake: Path, tmp_path: Path, parts: list[frozenset[str]]
) -> None:
    for history, expected in (("own", 1), ("peers", 1)):
        mine = tmp_path / history / "detectors" / f"{history}_days"
        shutil.copytree(content_path("detectors") / "dormant_wake", mine)
        toml = mine / "detector.toml"
        text = toml.read_text("utf-8").replace('history = "own"', f'history = "{history}"')
        toml.write_text(text, encoding="utf-8")
        content = ContentSettings(folders=(tmp_path / history,))
        settings = NO_REPLAY.model_copy(update={"content": content})
        last = LastScoring()
        for minute in range(2):
            moment = f"{THURSDAY}T{20 + len(history) % 4}:0{minute}:00"
            load(lake, tmp_path, [line(moment, key_id="crowd_07")])
            pipeline.watch(lake, settings, last=last)
        assert len(parts) == expected


def test_a_part_says_what_a_scoring_of_all_says_of_its_keys(
    lake: Path, tmp_path: Path, parts: list[frozenset[str]]
) -> None:
    """Owners with several keys, a rotated key, and lines of the week for some of them."""
    inventory = tmp_path / "owned.jsonl"
    owned = [key(f"crowd_{n:02}", owner=f"team-{n % 8}", name=f"job {n}", key=None)
             for n in range(40)]  # fmt: skip
    inventory.write_text("".join(json.dumps(each) + "\n" for each in owned), encoding="utf-8")
    pipeline.import_keys(lake, inventory, NO_REPLAY)
    last = LastScoring()
    pipeline.watch(lake, SETTINGS, last=last)
    load(lake, tmp_path, [
        line(f"{THURSDAY}T0{hour}:00:00", key_id=f"crowd_{n:02}", ip=AWAY, endpoint="/v1/export")
        for hour, n in enumerate((3, 11, 12))
    ])  # fmt: skip
    quick = SETTINGS.without_power()
    with Lake.open(lake) as opened, opened.reading():
        (window,) = {each.window for each in queued(opened, 4)}
        _, some = last.review(opened, window, quick)
        _, whole = LastScoring().review(opened, window, quick)
    own = {case.key_id for case in some.cases}
    assert {"crowd_03", "crowd_11", "crowd_12"} <= own
    assert len(parts) == 1

    def evidence(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
        return sorted(
            (each["key_id"], str(each["day"]), each["prefix"], each["detector"],
             round(each["bits"], 9), each["actual"])
            for each in rows if each["key_id"] in own and not each["hygiene"]
        )  # fmt: skip

    assert evidence(some.evidence.to_pylist()) == evidence(whole.evidence.to_pylist())
    assert [case for case in some.cases if case.bits] == [
        case for case in whole.cases if case.bits and case.key_id in own
    ]
