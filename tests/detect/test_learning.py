"""What a review learns from and what it must not: quarantine, verdicts, rotation, groups, power."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keywatch import pipeline
from keywatch.content import content_path
from keywatch.detect import detectors
from keywatch.detect.calibration import alike, bits_of
from keywatch.detect.power import THEFTS, KeyPower
from keywatch.detect.replay import Replay, Replays
from keywatch.detect.replay import _stored as stored
from keywatch.detect.scoring import WindowEvidence
from keywatch.errors import DetectorError, UsageError
from keywatch.lake import Lake
from keywatch.load.ingest import load_files
from keywatch.load.origins import OriginReader
from keywatch.model import Case, Review, Verdict, Window
from keywatch.report import (
    power_sentences,
    render_power,
    render_rehearsal,
    render_review,
    render_verdict,
)
from keywatch.settings import IngestSettings, ReviewSettings, Settings
from keywatch.text.document import rehearsal_document
from keywatch.vendors import catalogue_by_source, find_files
from tests.detect.evidence import visits_of
from tests.long import long_form
from tests.test_pipeline import (
    AWAY,
    HOME,
    NO_REPLAY,
    SETTINGS,
    TWO_REPLAYS,
    crowd,
    daily,
    key,
    lake_of,
    line,
)

FIRST = date(2026, 8, 1)
MONDAY = datetime(2026, 9, 28)
KNOWN = "a" * 16 + "b" * 16
"""What is known of a replayed window: by the inventory, and by the analysts."""


def week(number: int = 0) -> Window:
    start = MONDAY + timedelta(weeks=number)
    return Window(start, start + timedelta(weeks=1))


def visit(day: date, key_id: str = "key_1", ip: str = AWAY, **fields: Any) -> list[dict[str, Any]]:
    """Ten calls in the night by another client."""
    paths = ["/v1/alerts", "/v1/export", "/v1/members", "/v1/keys", "/v1/billing"] * 2
    return [
        line(f"{day}T03:{n:02}:00", key_id=key_id, ip=ip, endpoint=path,
             **({"user_agent": "curl/8.4.0", "status": 403 if n % 2 else 200} | fields))
        for n, path in enumerate(paths)
    ]  # fmt: skip


def find(answer: Review, key_id: str = "key_1") -> Case:
    return next(case for case in answer.cases if case.key_id == key_id)


def two_weeks_under(folder: Path) -> Path:
    """A theft on Thursday that goes on in the week after, within what the key may do."""
    events = daily(FIRST, 72) + crowd()
    events += daily(date(2026, 10, 5), 7, key_id="crowd_00", user_agent=None)
    for day in (date(2026, 10, 1), date(2026, 10, 6), date(2026, 10, 8)):
        events += visit(day)
    return lake_of(folder, events, [key(scopes=["admin:*"])])


@pytest.fixture
def two_weeks(tmp_path: Path) -> Path:
    """The theft of `two_weeks_under`, and no review yet."""
    return two_weeks_under(tmp_path)


@pytest.fixture(scope="module")
def first_review(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Review]:
    """The theft's lake after the review of its first week, and that review."""
    lake = two_weeks_under(tmp_path_factory.mktemp("two-weeks"))
    return lake, pipeline.review(lake, week(), NO_REPLAY)


@pytest.fixture
def reviewed(first_review: tuple[Path, Review], tmp_path: Path) -> Path:
    """A copy of the reviewed lake."""
    return Path(shutil.copytree(first_review[0], tmp_path / "lake"))


@pytest.fixture
def first(first_review: tuple[Path, Review]) -> Review:
    """The review that the lake of `reviewed` has."""
    return first_review[1]


@pytest.fixture(scope="module")
def two_replays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The theft's lake after the review of its first week, for which two weeks were replayed."""
    lake = two_weeks_under(tmp_path_factory.mktemp("two-replays"))
    pipeline.review(lake, week(), TWO_REPLAYS)
    return lake


@pytest.fixture
def replayed(two_replays: Path, tmp_path: Path) -> Path:
    """A copy of the lake that keeps two replays and the reviewed week."""
    return Path(shutil.copytree(two_replays, tmp_path / "lake"))


def origin_bits(case: Case) -> float:
    return sum(each.bits for each in case.evidence if each.detector == "unfamiliar_origin")


def test_what_is_flagged_is_not_learnt_until_it_has_a_verdict(
    reviewed: Path, first: Review
) -> None:
    assert find(first).action in ("revoke", "investigate")
    second = find(pipeline.review(reviewed, week(1), NO_REPLAY))
    assert origin_bits(second) == pytest.approx(origin_bits(find(first)), abs=1.5)
    assert second.action in ("revoke", "investigate")

    report = pipeline.give_verdict(
        reviewed, "key_1", "benign", NO_REPLAY, by="ana", because="ours", window=week()
    )
    assert report.flagged == ((date(2026, 10, 1), "45.153.78.0/24"),)
    third = pipeline.review(reviewed, week(1), NO_REPLAY)
    assert origin_bits(find(third)) < origin_bits(second) / 2
    assert third.run.id != second.summary


def test_compromised_keeps_it_out_and_asks_who_else_came_from_there(tmp_path: Path) -> None:
    events = daily(FIRST, 72) + crowd() + visit(date(2026, 10, 1))
    events += [line("2026-10-02T01:00:00", key_id="crowd_07", ip=AWAY)]
    lake = lake_of(tmp_path, events, [])
    pipeline.review(lake, week(), NO_REPLAY)
    report = pipeline.give_verdict(
        lake, "key_1", "compromised", NO_REPLAY, by="ana", because="leaked", window=week()
    )
    assert [(each.key_id, each.ip, each.requests) for each in report.also] == [
        ("crowd_07", AWAY, 1)
    ]
    assert "crowd_07" in render_verdict(report)
    with Lake.open(lake) as opened:
        detectors.prepare(opened, week(1), 90, [])
        assert ("key_1", AWAY) in opened.rows("SELECT key_id, address FROM quarantine")


@pytest.mark.usefixtures("mid_october")
def test_an_expected_change_is_familiar_until_its_end(reviewed: Path, first: Review) -> None:
    assert find(first).action != "none"
    report = pipeline.give_verdict(
        reviewed, "key_1", "expected", NO_REPLAY, by="ana", because="moved",
        until=date(2026, 10, 17), window=week(),
    )  # fmt: skip
    (expected,) = report.suppressions
    assert (expected.starts_on, expected.ends_on) == (date(2026, 10, 1), date(2026, 10, 17))
    again = pipeline.review(reviewed, week(), NO_REPLAY)
    assert origin_bits(find(again)) == 0
    assert again.coverage.suppressions == report.suppressions
    text = render_review(again)
    assert "Expected:" in text
    assert "ana" in text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"by": " ", "because": "x"}, "--by NAME"),
        ({"by": "ana", "because": ""}, "--because REASON"),
        ({"by": "ana", "because": "x", "until": date(2026, 12, 1)}, "--until"),
    ],
)
def test_a_verdict_says_who_and_why(two_weeks: Path, given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        pipeline.give_verdict(two_weeks, "key_1", "benign", NO_REPLAY, **given)


def test_a_verdict_needs_an_alert(two_weeks: Path) -> None:
    with pytest.raises(UsageError, match="no week has been reviewed yet"):
        pipeline.give_verdict(two_weeks, "key_1", "benign", NO_REPLAY, by="ana", because="x")


def test_the_realised_rate_comes_from_verdicts(reviewed: Path, first: Review) -> None:
    assert find(first).action == "revoke"
    pipeline.give_verdict(reviewed, "key_1", "benign", NO_REPLAY, by="ana", because="ours")
    calibration = pipeline.review(reviewed, week(1), SETTINGS).coverage.calibration
    assert calibration is not None
    assert (calibration.judged, calibration.judged_benign) == (1, 1)


def test_replays_are_kept_and_scored_anew_where_a_load_adds_to_them(replayed: Path) -> None:
    kept = "SELECT window_start, load_id FROM lake.replays ORDER BY ALL"
    with Lake.open(replayed) as lake:
        before = lake.rows(kept)
    assert len(before) == 3
    late = replayed.parent / "late.jsonl"
    late.write_text(json.dumps(line("2026-09-22T12:34:56", key_id="crowd_01")) + "\n", "utf-8")
    pipeline.ingest(replayed, [str(late)], NO_REPLAY)
    pipeline.review(replayed, week(), TWO_REPLAYS)
    with Lake.open(replayed) as lake:
        after = lake.rows(kept)
    # Only the windows from that of the late line on.
    assert [new == old for new, old in zip(after, before, strict=True)] == [True, False, False]


def scored_for(
    monkeypatch: pytest.MonkeyPatch, lake: Path, window: Window
) -> tuple[Review, list[Window]]:
    """A review, and the windows that were scored for it, itself the last."""
    asked: list[Window] = []
    real = detectors.prepare_window

    def spied(lake: Lake, window: Window, *rest: Any) -> None:
        asked.append(window)
        real(lake, window, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(detectors, "prepare_window", spied)
        return pipeline.review(lake, window, TWO_REPLAYS), asked


def test_a_reviewed_week_is_the_next_week_s_replay(
    replayed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    anew = Path(shutil.copytree(replayed, replayed.parent / "anew"))
    with Lake.open(anew) as lake, lake.writing():
        lake.execute("DELETE FROM lake.replays")
    answer, asked = scored_for(monkeypatch, replayed, week(1))
    assert asked == [week(1)]
    same, asked = scored_for(monkeypatch, anew, week(1))
    assert asked == [week(0), week(-1), week(1)]
    assert replace(answer, run=same.run) == same


@pytest.mark.usefixtures("mid_october")
@pytest.mark.parametrize(
    ("given", "scored"), [("benign", [week(1)]), ("expected", [week(0), week(1)])]
)
def test_a_week_is_replayed_anew_where_a_verdict_changes_what_counts_in_it(
    replayed: Path, monkeypatch: pytest.MonkeyPatch, given: Verdict, scored: list[Window]
) -> None:
    until = date(2026, 10, 31) if given == "expected" else None
    pipeline.give_verdict(
        replayed, "key_1", given, NO_REPLAY, by="ana", because="ours", until=until, window=week()
    )
    assert scored_for(monkeypatch, replayed, week(1))[1] == scored


def test_replays_are_scored_anew_where_the_inventory_says_something_else_of_their_weeks(
    replayed: Path,
) -> None:
    def kept_after(*keys: dict[str, Any]) -> list[tuple[datetime, str]]:
        if keys:
            file = replayed.parent / "keys.jsonl"
            file.write_text("".join(json.dumps(each) + "\n" for each in keys), "utf-8")
            pipeline.import_keys(replayed, file, NO_REPLAY)
        pipeline.review(replayed, week(), TWO_REPLAYS)
        with Lake.open(replayed) as lake:
            return lake.rows(  # less the import that it was made by
                "SELECT window_start, regexp_extract(method, '^\\w+-\\w+') FROM lake.replays "
                "ORDER BY ALL"
            )

    known = key(scopes=["admin:*"])
    first = kept_after()
    assert len(first) == 3
    # What is about later weeks changes nothing: a revocation, and a key that was not there yet.
    revoked = known | {"revoked_at": "2026-10-12T00:00:00Z"}
    assert kept_after(revoked, key("key_9", created_at="2026-10-12T00:00:00Z")) == first
    renewed = kept_after(known, key("crowd_01", owner="team-b"))
    assert [start for start, _ in renewed] == [start for start, _ in first]
    assert all(new[1] != old[1] for new, old in zip(renewed, first, strict=True))


def test_a_successor_starts_with_its_predecessor_s_past(tmp_path: Path) -> None:
    events = daily(FIRST, 50) + daily(date(2026, 9, 18), 17, key_id="key_2") + crowd()
    keys = [key(), key("key_2", replaces="key_1", created_at="2026-09-17T00:00:00Z")]
    with Lake.open(lake_of(tmp_path, events, keys)) as lake:
        detectors.prepare(lake, week(), 90, [])
        days: dict[str, int] = dict(lake.rows("SELECT key_id, active_days FROM key_history"))
    assert days["key_2"] == 58
    assert "key_1" not in days  # not in use in the window any more


@pytest.mark.parametrize(
    ("change", "is_guessed"),
    [
        ({}, True),
        ({"name": "status board-v2"}, True),
        ({"name": "other"}, False),
        ({"owner": "team-b"}, False),
        ({"scopes": ["read:alerts"]}, False),
    ],
)
def test_a_rotation_that_the_inventory_does_not_know_is_guessed_where_it_is_clear(
    tmp_path: Path, change: dict[str, Any], is_guessed: bool
) -> None:
    events = daily(FIRST, 50) + daily(date(2026, 9, 18), 17, key_id="key_2")
    keys = [key(), key("key_2", **({"created_at": "2026-09-17T00:00:00Z"} | change))]
    with Lake.open(lake_of(tmp_path, events, keys)) as lake:
        detectors.prepare(lake, week(), 90, [])
        found = lake.rows("SELECT key_id, replaces, is_guess FROM successors")
    assert found == ([("key_2", "key_1", True)] if is_guessed else [])


def test_one_new_address_on_many_keys_is_one_campaign_that_raises_them_all(tmp_path: Path) -> None:
    events = daily(FIRST, 65) + crowd()
    for n in range(6):
        events.append(line(f"2026-10-0{1 + n % 3}T02:00:00", key_id=f"crowd_{n:02}", ip=AWAY))
    answer = pipeline.review(lake_of(tmp_path, events, []), week(), NO_REPLAY)
    (group,) = answer.groups
    assert (group.kind, group.key_ids) == ("campaign", tuple(f"crowd_{n:02}" for n in range(6)))
    assert AWAY in group.origin
    actions = {case.key_id: case.action for case in answer.cases}
    assert all(actions[key_id] != "none" for key_id in group.key_ids)
    assert {(one.key_id, one.outcome) for one in answer.new_networks} == {
        (key_id, f"to {actions[key_id]}; campaign of 6 keys") for key_id in group.key_ids
    }


def test_keys_that_move_together_and_behave_as_ever_are_one_migration(tmp_path: Path) -> None:
    events = crowd()
    moved = [f"crowd_{n:02}" for n in range(8)]
    events = [
        event | ({"ip": "35.246.1.9"} if event["key_id"] in moved
                 and event["timestamp"] >= "2026-09-30" else {})
        for event in events
    ]  # fmt: skip
    keys = [key(key_id, name=key_id, owner="team-a") for key_id in moved]
    answer = pipeline.review(lake_of(tmp_path, events, keys), week(), NO_REPLAY)
    (group,) = answer.groups
    assert (group.kind, group.key_ids) == ("migration", tuple(moved))
    assert [case.key_id for case in answer.alerted() if case.key_id in moved] == []
    assert {(one.key_id, one.old_place_in_use, one.outcome) for one in answer.new_networks} == {
        (key_id, False, "migration of 8 keys, to be confirmed") for key_id in moved
    }


def test_a_new_database_alone_raises_nothing(tmp_path: Path) -> None:
    """Another database calls the networks by other numbers; old and new addresses agree again."""

    class Renamed:
        """The bundled databases, but every network has another number."""

        def __init__(self, reader: OriginReader) -> None:
            self._reader = reader

        def locate(self, addresses: Sequence[str]) -> pa.Table:
            table = self._reader.locate(addresses)
            for name, values in (
                ("asn", [asn and asn + 1_000_000 for asn in table["asn"].to_pylist()]),
                ("asked", ["a newer build"] * len(table)),
            ):
                at = table.schema.get_field_index(name)
                field = table.schema.field(name)
                table = table.set_column(at, field, pa.array(values, field.type))
            return table

    old, new = tmp_path / "old.jsonl", tmp_path / "new.jsonl"
    other = HOME.rsplit(".", 1)[0] + ".77"
    for file, events in (
        (old, daily(FIRST, 58)),
        (new, [*daily(date(2026, 9, 28), 7), line("2026-09-30T10:00:00", ip=other)]),
    ):
        file.write_text("".join(json.dumps(event) + "\n" for event in events), "utf-8")
    bits = {}
    for renamed in (False, True):
        folder = tmp_path / f"lake-{renamed}"
        with OriginReader() as reader, Lake.open(folder, create=True) as lake:
            load_files(lake, find_files([str(old)]), IngestSettings(), reader)
            locator = Renamed(reader) if renamed else reader
            load_files(lake, find_files([str(new)]), IngestSettings(), locator)
        answer = pipeline.review(folder, week(), NO_REPLAY)
        assert answer.new_networks == ()
        bits[renamed] = origin_bits(find(answer))
        with Lake.open(folder) as lake:
            kept = lake.value("SELECT count(*) FROM lake.origins WHERE address = $a", a=HOME)
            assert kept == 1 + renamed
    assert bits[True] == pytest.approx(bits[False])


def one_visit(cases: list[int]) -> WindowEvidence:
    """Evidence of one detector and one visit, in a window with so many `cases`."""
    no = np.zeros(1, bool)
    return WindowEvidence(
        detectors=("a",),
        visits=visits_of([("key_1", week().start.date(), "192.0.2.0/24", "AS1")]),
        goes_on=no,
        bits=bits_of(np.ones((1, 1))),
        facts=np.zeros(1),
        ruled=no,
        moved=no,
        cases=np.array(cases),
    )


@pytest.mark.parametrize("has_facts", [False, True])
def test_a_replayed_window_is_kept_whole(has_facts: bool) -> None:
    detectors_ = ("a", "b")
    evidence = WindowEvidence(
        detectors=detectors_,
        visits=visits_of(
            (f"key_{n}", FIRST, "192.0.2.0/24", network)
            for n, network in enumerate(("AS1", "", "AS2", "AS3"))
        ),
        goes_on=np.array([True, False, False, False]),
        bits=bits_of(np.arange(8.0).reshape(4, 2)),
        facts=np.array([0.0, 0.0, 0.0, 24.0 * has_facts]),
        ruled=np.array([False, True, False, False]),
        moved=np.array([False, False, True, False]),
        cases=np.array([20, 30]),
    ).without_facts()
    with Lake.in_memory() as lake:
        lake.execute(
            "INSERT INTO lake.ingested_files (load_id, first_ts) VALUES (1, $first)",
            first=MONDAY - timedelta(weeks=20),
        )
        for method in ("m", "another"):
            Replays(method, 1, 1, (Replay(week(), evidence, is_new=True, known=KNOWN),)).keep(lake)
        found = stored(lake, "m", {week(): KNOWN}, detectors_).get(week())
        assert found is not None
        assert not found.is_new
        assert alike(evidence, found.evidence)
        assert stored(lake, "m", {week(1): KNOWN}, detectors_) == {}
        analysts = KNOWN[:16] + "c" * 16
        assert stored(lake, "m", {week(): analysts}, detectors_) == {}


@pytest.mark.parametrize("lost", ["none", "replays"])
def test_a_replay_that_is_stored_again_takes_the_place_of_the_one_before(lost: str) -> None:
    evidence = one_visit(cases=[1, 1])
    with Lake.in_memory() as lake:
        for known in (KNOWN, KNOWN[:16] + "c" * 16):
            for window in (week(), week(1)):
                replay = Replay(window, evidence, is_new=True, known=known)
                Replays("m", 1, 1, (replay,)).keep(lake)
            if lost != "none":
                lake.execute(f"DELETE FROM lake.{lost}")
        again = Replay(week(), evidence, is_new=True, known=KNOWN)
        Replays("m", 1, 1, (again,)).keep(lake)
        kept = "SELECT method, window_start FROM lake.{} ORDER BY window_start"
        new, other = f"m-{KNOWN}-1", f"m-{KNOWN[:16]}{'c' * 16}-1"
        both = [(new, week().start), (other, week(1).start)]
        assert lake.rows(kept.format("replayed_visits")) == both
        assert lake.rows(kept.format("replays")) == (both if lost == "none" else both[:1])


USUAL = Settings(review=ReviewSettings(power_keys=0, replayed_windows=2))


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Steady keys, and what their week's review keeps of the weeks before."""
    lake = lake_of(tmp_path_factory.mktemp("quiet"), daily(FIRST, 65) + crowd(), [key()])
    pipeline.review(lake, week(), USUAL)
    return lake


@pytest.fixture(scope="module")
def promised(quiet: Path) -> KeyPower:
    """What is promised of one key; the tests load its thief."""
    (power,) = pipeline.power_of_keys(quiet, week(), USUAL, "status board")
    return power


def test_power_says_what_would_be_caught_and_after_how_much(
    quiet: Path, promised: KeyPower
) -> None:
    powers = pipeline.power_of_keys(quiet, week(), USUAL)
    assert len(powers) == 41
    assert promised in powers
    assert set(promised.requests) == set(THEFTS)
    scan, reader = promised.requests["scan"], promised.requests["same_provider"]
    assert scan is not None
    assert reader is None or scan <= reader
    assert "a scan from a new hosting network would be caught after about" in render_power(
        [promised]
    )
    assert "crowd_07" in render_power(powers)
    with pytest.raises(UsageError, match="nobody"):
        pipeline.power_of_keys(quiet, week(), USUAL, "nobody")


KINDS = {
    "scan": "45.153.78.122",  # a hosting network abroad
    "bulk_read": "45.153.78.122",
    "home_reader": "37.4.9.8",  # another provider in Germany
    "same_provider": "87.128.1.1",  # the key's own provider
}


def theft_of(kind: str, requests: int) -> list[dict[str, Any]]:
    """As `detect/inject.sql` makes it: so many requests of the kind on the window's last day."""
    paths = ["/v1/checks/{id}"] * requests
    if kind == "scan":
        names = [each.name for source, each in catalogue_by_source() if source == "pulsely"]
        paths = random.Random(1).sample([n[4:] for n in names if n.startswith("GET ")], requests)
    return [
        line(
            f"2026-10-04T12:{n:02}:30", ip=KINDS[kind],
            endpoint=path.replace("{id}", f"{9000 + n}"),
            status=200 if path.startswith("/v1/checks") else 403,
            **({} if kind in ("home_reader", "same_provider") else {"user_agent": "curl/8.4.0"}),
        )
        for n, path in enumerate(paths)
    ]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_power_promises_what_the_review_names(
    quiet: Path, promised: KeyPower, tmp_path: Path, kind: str
) -> None:
    least = promised.requests[kind]
    for requests in long_form((1, 10), (1,)):
        lake = tmp_path / f"lake-{requests}"
        shutil.copytree(quiet, lake)
        log = tmp_path / f"{requests}.jsonl"
        text = "".join(json.dumps(event) + "\n" for event in theft_of(kind, requests))
        log.write_text(text, "utf-8")
        pipeline.ingest(lake, [str(log)], USUAL)
        case = find(pipeline.review(lake, week(), USUAL, keep=False))
        is_promised = least is not None and least <= requests
        assert (case.action != "none") == is_promised, (requests, least, case.bits)


def test_a_review_sums_the_power_up_and_is_no_other_for_it(tmp_path: Path) -> None:
    lake = lake_of(tmp_path, daily(FIRST, 65) + crowd() + visit(date(2026, 10, 1)), [])
    some = SETTINGS.model_copy(
        update={"review": SETTINGS.review.model_copy(update={"power_keys": 10})}
    )
    answer = pipeline.review(lake, week(), some)
    without = pipeline.review(lake, week(), SETTINGS, keep=False)
    assert answer.cases == without.cases
    assert [power.keys for power in answer.coverage.power] == [10] * len(THEFTS)
    told = power_sentences(answer.coverage.power)
    assert all(sentence in " ".join(render_review(answer).split()) for sentence in told)
    with Lake.open(lake) as opened:
        stored = opened.value(
            "SELECT count(*) FROM lake.evidence WHERE run_id = $id AND prefix LIKE '%:%'",
            id=answer.run.id,
        )
    assert stored == 0


# -------------------------------------------------------------------------------------- rehearsals


def test_a_rehearsal_says_what_the_reviews_would_have_and_stores_nothing(
    two_weeks: Path, first: Review
) -> None:
    span = Window(week().start, week(1).end)
    found = pipeline.rehearse(two_weeks, span, NO_REPLAY)
    assert found.windows == (week(), week(1))
    second = pipeline.review(two_weeks, week(1), NO_REPLAY, keep=False)
    for window, answer in zip(found.windows, (first, second), strict=True):
        told = {alert.key_id: alert.action for alert in found.alerts if alert.window == window}
        assert told == {case.key_id: case.action for case in answer.alerted()}
    assert ("key_1", week()) in {(alert.key_id, alert.window) for alert in found.alerts}
    with Lake.open(two_weeks) as lake:
        assert lake.value("SELECT count(*) FROM lake.runs") == 0
        assert lake.value("SELECT count(*) FROM lake.replays") == 0


def test_a_rehearsal_tells_what_other_settings_would_change(two_weeks: Path) -> None:
    same = pipeline.rehearse(two_weeks, week(), SETTINGS, SETTINGS)
    assert same.changes() == ()
    assert rehearsal_document(same)["changes"] == []
    nothing = SETTINGS.model_copy(
        update={
            "scoring": SETTINGS.scoring.model_copy(
                update={
                    "investigate_per_1000_keys": 0.0,
                    "second_family_bits": 1000.0,
                    "unfamiliar_place": "none",
                }
            )
        }
    )
    found = pipeline.rehearse(two_weeks, week(), SETTINGS, nothing)
    assert found.against == ()
    assert [(one, other) for one, other in found.changes()] == [
        (alert, None) for alert in sorted(found.alerts, key=lambda alert: alert.key_id)
    ]
    change = rehearsal_document(found)["changes"][0]
    assert (change["key_id"], change["against"]) == (found.alerts[0].key_id, "none")
    told = render_rehearsal(found, width=100)
    assert f"{found.alerts[0].action} → none" in told
    assert "With the other settings: no alerts." in told


@pytest.mark.parametrize(("replayed", "scored_more"), [(0, 0), (1, 0), (2, 1)])
def test_other_settings_are_compared_by_what_the_detectors_said(
    two_weeks: Path, monkeypatch: pytest.MonkeyPatch, replayed: int, scored_more: int
) -> None:
    scored: list[Window] = []
    real = detectors.prepare_window

    def spied(lake: Lake, window: Window, *rest: Any) -> None:
        scored.append(window)
        real(lake, window, *rest)

    monkeypatch.setattr(detectors, "prepare_window", spied)
    quick = SETTINGS.review.model_copy(update={"power_keys": 0})

    def with_replays(windows: int, **others: Any) -> Settings:
        review = quick.model_copy(update={"replayed_windows": windows})
        scoring = SETTINGS.scoring.model_copy(update=others)
        return SETTINGS.model_copy(update={"review": review, "scoring": scoring})

    this, other = with_replays(1), with_replays(replayed, family_caps_bits={"origin": 1.0})
    alone = pipeline.rehearse(two_weeks, week(), other).alerts
    scored.clear()
    once = pipeline.rehearse(two_weeks, week(), this).alerts
    needed = len(scored)
    scored.clear()
    found = pipeline.rehearse(two_weeks, week(), this, other)
    assert (found.alerts, found.against) == (once, alone)
    assert alone != once
    assert (len(scored) > needed) is bool(scored_more)


def test_a_rehearsal_tells_what_other_detectors_would_change(
    two_weeks: Path, tmp_path: Path
) -> None:
    """One of the folder is new and a draft, which counts here; one takes a bundled one's place."""
    bundled, others = content_path("detectors"), tmp_path / "mine" / "detectors"
    shutil.copytree(bundled / "honey_key", others / "honey_key")
    shutil.copytree(bundled / "honey_key", others / "busy_key")
    toml = (others / "busy_key" / "detector.toml").read_text("utf-8")
    (others / "busy_key" / "detector.toml").write_text(
        toml.replace('"stable"', '"draft"').replace('"revoke"', '"investigate"'), "utf-8"
    )
    sql = (others / "busy_key" / "detect.sql").read_text("utf-8")
    (others / "busy_key" / "detect.sql").write_text(
        sql.replace("WHERE k.honey", "WHERE v.key_id = 'crowd_00'"), "utf-8"
    )
    tried = detectors.detectors_under(tmp_path / "mine")
    assert tried == detectors.detectors_under(others)
    assert detectors.detectors_under(others / "busy_key") == tried[:1]
    found = pipeline.rehearse(two_weeks, week(1), NO_REPLAY, others=tried)
    document = rehearsal_document(found)
    assert document["detectors"] == {"added": ["busy_key"], "replaced": ["honey_key"]}
    assert [(one["key_id"], one["action"], one["against"]) for one in document["changes"]] == [
        ("crowd_00", "none", "investigate")
    ]
    told = render_rehearsal(found, width=100)
    assert "none → investigate" in told
    assert "Added: busy_key.\nReplaced: honey_key.\n" in told
    assert "1 alert would differ (current detectors → other detectors)." in told


def test_a_folder_without_a_detector_is_named(tmp_path: Path) -> None:
    with pytest.raises(DetectorError, match=re.escape(f"{tmp_path}: no detector there; name")):
        detectors.detectors_under(tmp_path)


def test_a_rehearsal_is_of_whole_weeks(two_weeks: Path) -> None:
    with pytest.raises(UsageError, match="whole weeks"):
        pipeline.rehearse(
            two_weeks, Window(week().start, week().end - timedelta(days=1)), NO_REPLAY
        )


def statements(lake: Path) -> list[tuple[str, str]]:
    with Lake.open(lake) as opened:
        return opened.rows("SELECT verdict, because FROM lake.verdicts ORDER BY given_at")


def quarantined(lake: Path, window: Window) -> set[str]:
    with Lake.open(lake) as opened:
        detectors.prepare(opened, window, 90, [])
        return {key_id for (key_id,) in opened.rows("SELECT key_id FROM quarantine")}


@pytest.mark.usefixtures("mid_october")
def test_an_undone_verdict_is_as_if_never_said_and_stays_in_the_history(
    reviewed: Path, first: Review
) -> None:
    given: dict[str, Any] = {"by": "ana", "window": week()}
    pipeline.give_verdict(reviewed, "key_1", "benign", NO_REPLAY, because="ours", **given)
    assert quarantined(reviewed, week(1)) == set()
    moved = pipeline.give_verdict(
        reviewed, "key_1", "expected", NO_REPLAY, because="moved", until=date(2026, 12, 1), **given
    )
    pipeline.give_verdict(reviewed, "key_1", "compromised", NO_REPLAY, because="stolen", **given)

    restored = pipeline.undo_verdict(reviewed, "key_1", NO_REPLAY, because="not stolen", **given)
    assert restored.withdrawn is not None
    assert (restored.withdrawn.verdict, restored.withdrawn.because) == ("compromised", "stolen")
    assert restored.suppressions == moved.suppressions
    again = pipeline.review(reviewed, week(), NO_REPLAY)
    assert again.coverage.suppressions == moved.suppressions
    assert quarantined(reviewed, week(1)) == set()

    pipeline.undo_verdict(reviewed, "key_1", NO_REPLAY, because="not moved", by="bo")
    last = pipeline.undo_verdict(reviewed, "key_1", NO_REPLAY, because="not ours", by="bo")
    assert (last.restored, last.window) == (None, week())
    text = render_verdict(last)
    assert "benign by ana (ours), is withdrawn" in text
    assert "1 flagged visit excluded from the baseline of this key until there is" in text
    assert quarantined(reviewed, week(1)) == {"key_1"}
    after = pipeline.review(reviewed, week(), NO_REPLAY)
    assert after.coverage.suppressions == ()
    assert find(after).bits == find(first).bits
    assert statements(reviewed) == [
        ("benign", "ours"), ("expected", "moved"), ("compromised", "stolen"),
        ("undo", "not stolen"), ("undo", "not moved"), ("undo", "not ours"),
    ]  # fmt: skip
    with pytest.raises(UsageError, match="no verdict on key_1 is in force"):
        pipeline.undo_verdict(reviewed, "key_1", NO_REPLAY, because="again", by="bo")
    with pytest.raises(UsageError, match="--because REASON"):
        pipeline.undo_verdict(reviewed, "key_1", NO_REPLAY, because=" ", by="bo")


@given(st.lists(st.booleans(), max_size=12))
@settings(max_examples=40, deadline=None)
def test_the_verdict_in_force_is_the_top_of_those_not_undone(
    kept_lake: Lake, gives: list[bool]
) -> None:
    stack: list[int] = []
    lake = kept_lake
    with lake.undone():
        for n, give in enumerate(gives):
            if give:
                stack.append(n)
            elif stack:
                stack.pop()
            else:
                continue
            lake.execute(
                "INSERT INTO lake.verdicts VALUES ($id, 'key_1', $start, $end, $verdict, 'ana', "
                "'x', $at, NULL, NULL, NULL, NULL, NULL)",
                id=f"{n:02}", start=week().start, end=week().end,
                verdict="benign" if give else "undo", at=MONDAY + timedelta(seconds=n),
            )  # fmt: skip
        found = lake.rows("SELECT verdict_id FROM verdicts_in_force()")
    assert found == [(f"{n:02}",) for n in stack[-1:]]


@pytest.mark.parametrize(
    ("late", "renamed", "is_kept"),
    [
        ([], [], True),  # duplicates only
        ([(-1, "key_1"), (-1, "key_1"), (0, "key_1"), (6, "key_1")], [], True),  # 1 key of 120
        ([(0, "key_1"), (-56, "key_2")], [], False),  # its baseline is the replay's too
        ([(0, "key_1"), (-400, "key_2")], [], False),  # first seen then, before any baseline
        ([(0, "key_1"), (7, "key_3")], [], True),  # of after the window
        ([], ["key_1"], True),
        ([], ["key_1", "key_2"], False),
        ([(0, "key_1")], ["key_2"], False),
        ([], ["key_1", "future"], True),  # a key of a later time
    ],
)
def test_late_lines_or_other_rows_of_few_keys_leave_a_replay_as_it_is(
    late: list[tuple[int, str]], renamed: list[str], is_kept: bool
) -> None:
    evidence = one_visit(cases=[60, 60])
    with Lake.in_memory() as lake:
        Replays("m", 1, 1, (Replay(week(), evidence, is_new=True, known=KNOWN),)).keep(lake)
        lake.execute(
            "INSERT INTO lake.ingested_files (load_id, first_ts) VALUES (1, $first), (2, $first)",
            first=MONDAY - timedelta(weeks=20),
        )
        # Of the first load and import: none of it is late or new.
        lake.execute(
            "INSERT INTO lake.activity (key_id, day, load_id) "
            "SELECT 'key_' || n, $day, 1 FROM range(120) AS keys (n)",
            day=week().start.date(),
        )
        lake.execute(
            "INSERT INTO lake.keys (import_id, key_id, owner) "
            "SELECT 1, 'key_' || n, 'a' FROM range(120) AS keys (n)"
        )
        for nth, key_id in late:
            day = week().start.date() + timedelta(days=nth)
            lake.execute(
                "INSERT INTO lake.activity (key_id, day, load_id) VALUES ($key_id, $day, 2)",
                key_id=key_id,
                day=day,
            )
        for key_id in renamed:
            lake.execute(
                "INSERT INTO lake.keys (import_id, key_id, owner, created_at) "
                "VALUES (2, $key_id, 'b', $created_at)",
                key_id=key_id,
                created_at=week().end if key_id == "future" else None,
            )
        now = "d" * 16 + KNOWN[16:] if renamed else KNOWN
        assert ([*stored(lake, "m", {week(): now}, ("a",))] == [week()]) is is_kept
