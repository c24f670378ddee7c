"""The review from the inside: windows, standings, recommendations; on a lake in a folder."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from keywatch import pipeline
from keywatch.errors import UsageError
from keywatch.lake import Lake
from keywatch.lake.weeks import last_full_week
from keywatch.model import Review, Window
from keywatch.settings import ReviewSettings, ScoringSettings, Settings

SETTINGS = Settings(
    scoring=ScoringSettings(false_revoke_rate=0.5),
    review=ReviewSettings(power_keys=0, replayed_windows=1),
)
"""Few keys on few weeks: at the usual rate nothing could be claimed. One window is replayed: each
takes as long as the review itself."""
NO_REPLAY, TWO_REPLAYS = (
    SETTINGS.model_copy(
        update={"review": SETTINGS.review.model_copy(update={"replayed_windows": windows})}
    )
    for windows in (0, 2)
)
"""Without one, where calibration is not the subject."""
WEEK = Window(datetime(2026, 9, 28), datetime(2026, 10, 5))
HOME, AWAY = "84.151.10.20", "45.153.78.122"


def line(moment: str, **fields: Any) -> dict[str, Any]:
    """One event; the id is the moment and the key."""
    event = {
        "timestamp": f"{moment}Z", "key_id": "key_1", "key": "ply_live_prod_4f8a2c…9e1d",
        "ip": HOME, "method": "GET", "endpoint": "/v1/checks/8812", "status": 200,
        "user_agent": "Grafana/10.4.3",
    } | fields  # fmt: skip
    return event | {"request_id": f"{moment}-{event['key_id']}-{event['endpoint']}"}


def daily(first: date, days: int, **fields: Any) -> list[dict[str, Any]]:
    """One event at noon of each day."""
    return [line(f"{first + timedelta(days=n)}T12:00:00", **fields) for n in range(days)]


def theft(key_id: str = "key_1", **fields: Any) -> list[dict[str, Any]]:
    """Ten refused and accepted calls from elsewhere by another client."""
    paths = ["/v1/members", "/v1/keys", "/v1/billing", "/v1/export", "/v1/alerts"]
    return [
        line(f"2026-10-01T03:{n:02}:00", key_id=key_id, ip=AWAY, endpoint=path,
             user_agent="curl/8.4.0", status=403 if n % 2 else 200, **fields)
        for n, path in enumerate(paths * 2)
    ]  # fmt: skip


def crowd(count: int = 40) -> list[dict[str, Any]]:
    """Quiet keys: what ordinary weeks are made of."""
    return [
        event
        for n in range(count)
        for event in daily(date(2026, 8, 1), 65, key_id=f"crowd_{n:02}", user_agent=None)
    ]


_MADE = TemporaryDirectory(prefix="keywatch-tests-")


def _made(content: str, make: Callable[[Path], None]) -> Path:
    """A folder as `make` fills it, in this process once for the same content."""
    made = Path(_MADE.name) / hashlib.sha256(content.encode()).hexdigest()
    if not made.exists():
        half = made.with_suffix(".half")
        half.mkdir()
        make(half)
        half.rename(made)
    return made


def lake_of(folder: Path, events: Iterable[dict[str, Any]], keys: list[dict[str, Any]]) -> Path:
    """A lake of its own under `folder`; what was made before is copied, also under other keys."""
    log = "".join(json.dumps(event) + "\n" for event in events)
    inventory = "".join(json.dumps(key) + "\n" for key in keys)

    def empty(place: Path) -> None:
        Lake.open(place / "lake", create=True).close()

    def loaded(place: Path) -> None:
        shutil.copytree(_made("empty", empty), place, dirs_exist_ok=True)
        (place / "log.jsonl").write_text(log, encoding="utf-8")
        pipeline.ingest(place / "lake", [str(place / "log.jsonl")], SETTINGS)

    def with_keys(place: Path) -> None:
        shutil.copytree(_made(log, loaded), place, dirs_exist_ok=True)
        (place / "keys.jsonl").write_text(inventory, encoding="utf-8")
        pipeline.import_keys(place / "lake", place / "keys.jsonl", SETTINGS)

    made = _made(f"{log}\0{inventory}", with_keys) if keys else _made(log, loaded)
    shutil.copytree(made, folder, dirs_exist_ok=True)
    return folder / "lake"


def key(key_id: str = "key_1", **fields: Any) -> dict[str, Any]:
    """One line of the inventory."""
    return {
        "key_id": key_id, "key": "ply_live_prod_4f8a2c…9e1d", "name": "status board",
        "environment": "prod", "scopes": ["read:checks"], "owner": "team-a",
        "created_at": "2026-07-30T00:00:00Z",
    } | fields  # fmt: skip


@pytest.fixture(scope="module")
def stolen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    events = daily(date(2026, 8, 1), 65) + theft() + crowd()
    keys = [key(), key("key_2", name="unused"), key("key_3", replaces="key_1", name="next")]
    return lake_of(tmp_path_factory.mktemp("stolen"), events, keys)


@pytest.fixture(scope="module")
def answer(stolen: Path) -> Review:
    return pipeline.review(stolen, WEEK, SETTINGS)


def test_a_stolen_key_is_to_be_revoked_with_reasons_that_add_up(answer: Review) -> None:
    case = answer.cases[0]

    assert (case.key_id, case.action, case.standing) == ("key_1", "revoke", "assessed")
    assert {item.family for item in case.evidence} >= {"origin", "endpoints", "client", "policy"}
    assert sum(item.bits for item in case.evidence) == pytest.approx(case.bits)
    caps = SETTINGS.scoring.family_caps_bits
    for family, cap in caps.items():
        assert all(e.bits <= cap + 1e-5 for e in case.evidence if e.family == family)
    assert case.p_value is not None
    assert case.q_value is not None
    assert answer.coverage.calibration is not None
    # Beyond all replayed cases the tail extrapolates.
    assert 0 < case.p_value < 1 / (answer.coverage.calibration.cases + 1)
    assert case.origins[0].ip == AWAY
    assert case.origins[0].country is not None


def test_what_is_at_stake_and_what_would_break(answer: Review) -> None:
    case = answer.cases[0]

    assert case.blast_radius is not None
    assert case.impact is not None
    assert case.blast_radius.requests_suspicious == 10
    assert case.blast_radius.scopes_granted == ("read:checks",)
    assert "GET /v1/export" in case.blast_radius.sensitive_endpoints_used
    assert case.impact.scopes_needed == ("read:checks",)
    assert [c.agent for c in case.impact.consumers] == ["Grafana/10"]
    assert case.impact.successor_key_id == "key_3"
    assert case.steps[0].startswith("Revoke ply_live_prod_4f8a2c…9e1d now")
    assert any("key_3" in step for step in case.steps)


@pytest.mark.parametrize("budget", [10.0, 0.0])
def test_in_brief_the_cases_without_an_action_say_less(tmp_path: Path, budget: float) -> None:
    # Without an inventory there are no scopes, and no fact that asks to look at calls beyond them.
    stolen = lake_of(tmp_path, daily(date(2026, 8, 1), 65) + theft() + crowd(), [])
    scoring = ScoringSettings(
        investigate_per_1000_keys=budget, revoke_bits=1000, unfamiliar_place="none"
    )
    settings = Settings(scoring=scoring, review=SETTINGS.review)
    case = pipeline.review(stolen, WEEK, settings, keep=False).cases[0]
    brief = pipeline.review(stolen, WEEK, settings, keep=False, whole=False).cases[0]
    assert case.action == ("investigate" if budget else "none")
    if case.action == "none":
        case = replace(case, origins=(), blast_radius=None, impact=None, events_query="")
    assert brief == case


def test_a_review_waits_for_no_library_that_it_does_not_need(stolen: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from keywatch import cli; "
        "cli.review(common=cli.Common(Path(sys.argv[1]))); "
        "print({'geoip2', 'maxminddb', 'keywatch.load.ingest'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(stolen)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "set()"


_SLOW_TO_IMPORT = {
    "altair", "geoip2", "httpx", "jsonschema", "maxminddb", "pandas", "plotext", "prefect",
    "pyarrow.compute", "pyarrow.fs", "pyarrow.parquet", "scipy", "sklearn",
}  # fmt: skip


@pytest.mark.parametrize(
    ("command", "needless"),
    [
        (["--help"], _SLOW_TO_IMPORT | {"duckdb", "numpy", "pyarrow", "pydantic"}),
        (["keys", "list"], _SLOW_TO_IMPORT),
        (["case", "key_1", "--week", "2026-W40"], _SLOW_TO_IMPORT),
    ],
    ids=["help", "keys list", "case"],
)
def test_a_command_that_reads_waits_for_no_library_that_it_does_not_need(
    stolen: Path, command: list[str], needless: set[str]
) -> None:
    pipeline.review(stolen, WEEK, Settings())  # what a case is read from
    said, imported = ran_alone(stolen, *command)
    assert "key_1" in said or command == ["--help"]
    assert needless & imported == set()


def test_a_load_and_a_review_do_without_pandas(stolen: Path, tmp_path: Path) -> None:
    lake = shutil.copytree(stolen, tmp_path / "lake")
    log = tmp_path / "more.jsonl"
    log.write_text(json.dumps(line("2026-10-01T10:10:10")) + "\n", encoding="utf-8")
    said, imported = ran_alone(lake, "ingest", str(log))
    assert ("1 event" in said, "pandas" in imported) == (True, False)
    said, imported = ran_alone(lake, "review", "--week", "2026-W40")
    assert ("key_1" in said, "pandas" in imported) == (True, False)


def ran_alone(lake: Path, *command: str) -> tuple[str, set[str]]:
    """What a command in a process of its own says, and the modules that it has then."""
    code = (
        "import sys; from keywatch import cli\n"
        "try: cli.main()\n"
        "finally: print(sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command], capture_output=True, text=True, check=False,
        env=os.environ | {"KEYWATCH_LAKE": str(lake)}, cwd=lake.parent,
    )  # fmt: skip
    imported = set(ast.literal_eval(done.stderr.splitlines()[-1]))
    assert "keywatch.cli" in imported
    return done.stdout, imported


def test_the_events_query_shows_the_stranger_and_nobody_else(stolen: Path, answer: Review) -> None:
    with Lake.open(stolen) as lake:
        rows = lake.records(answer.cases[0].events_query)

    assert len(rows) == 10
    assert {row["address"] for row in rows} == {AWAY}


def test_a_hostile_key_id_stays_a_value_in_the_query(tmp_path: Path) -> None:
    name = "x' OR 1=1; DROP TABLE lake.events; --\x1b[2J"
    events = daily(date(2026, 8, 1), 65, key_id=name) + theft(name) + crowd()
    folder = lake_of(tmp_path, events, [])

    case = pipeline.review(folder, WEEK, NO_REPLAY).cases[0]

    with Lake.open(folder) as lake:
        assert len(lake.records(case.events_query)) == 10
        assert lake.value("SELECT count(*) FROM lake.events") == 75 + len(crowd())


def test_every_key_stands_in_one_of_four_ways(answer: Review) -> None:
    coverage = answer.coverage

    assert (coverage.keys, coverage.assessed, coverage.silent) == (43, 41, 2)
    assert coverage.keys == (
        coverage.assessed + coverage.warming_up + coverage.not_assessable + coverage.silent
    )
    assert coverage.events == 41 * 7 + 10


def test_a_young_key_is_warming_up_and_still_judged_by_what_it_calls(tmp_path: Path) -> None:
    events = daily(date(2026, 9, 27), 2) + theft() + daily(date(2026, 8, 1), 65, key_id="key_9")
    answer = pipeline.review(lake_of(tmp_path, events, []), WEEK, NO_REPLAY)

    case = next(case for case in answer.cases if case.key_id == "key_1")
    assert case.standing == "warming_up"
    assert {item.detector for item in case.evidence} >= {"sensitive_call", "denied_probe"}
    assert any("1 key was in use on fewer" in note for note in answer.coverage.notes)


def test_the_next_week_remembers_no_theft_as_habit_of_the_week_before(stolen: Path) -> None:
    quiet = pipeline.review(stolen, Window(datetime(2026, 9, 14), datetime(2026, 9, 21)), NO_REPLAY)

    assert [case for case in quiet.cases if case.action != "none"] == []


def test_upkeep_is_shown_and_never_adds_to_the_suspicion(tmp_path: Path) -> None:
    events = daily(date(2026, 8, 1), 65)
    old = key(scopes=["admin:*"], created_at="2025-01-01T00:00:00Z")
    answer = pipeline.review(lake_of(tmp_path, events, [old]), WEEK, TWO_REPLAYS)

    assert {finding.detector for finding in answer.hygiene} == {
        "rotation_overdue",
        "wildcard_scope",
    }
    assert answer.coverage.calibration is not None
    assert answer.coverage.calibration.cases == 2
    assert any("extrapolated from 2 replayed cases" in note for note in answer.coverage.notes)
    assert [(case.action, case.bits) for case in answer.cases] == [("none", 0)]


def test_aws_keys_get_commands_and_temporary_ones_their_session_revoked(tmp_path: Path) -> None:
    long_lived, temporary = "AKIAIOSFODNN7EXAMPLE", "ASIAIOSFODNN7EXAMPLE"
    events = [
        event
        for key_id in (long_lived, temporary)
        for event in daily(date(2026, 8, 1), 65, key_id=key_id, key=key_id)
        + theft(key_id, key=key_id)
    ] + crowd()
    answer = pipeline.review(lake_of(tmp_path, events, []), WEEK, NO_REPLAY)
    steps = {case.key_id: " ".join(case.steps) for case in answer.cases}

    assert f"aws iam update-access-key --access-key-id {long_lived}" in steps[long_lived]
    assert "AWSRevokeOlderSessions" in steps[temporary]


@pytest.mark.parametrize(
    ("first", "days", "start"),
    [
        (date(2026, 9, 1), 34, date(2026, 9, 28)),  # ends on Sunday 4 October
        (date(2026, 9, 1), 35, date(2026, 9, 28)),  # ends on Monday 5 October
        (date(2026, 9, 1), 33, date(2026, 9, 21)),  # ends on Saturday 3 October
        (date(2026, 9, 29), 1, date(2026, 9, 28)),  # one day is all there is
    ],
)
def test_the_last_full_week_as_of_the_log_s_own_end(
    tmp_path: Path, first: date, days: int, start: date
) -> None:
    with Lake.open(lake_of(tmp_path, daily(first, days), [])) as lake:
        window = last_full_week(lake)

    assert window.start.date() == start
    assert window.end - window.start == timedelta(days=7)


def test_a_review_is_stored_once_and_a_case_can_be_read_back(stolen: Path, answer: Review) -> None:
    again = pipeline.review(stolen, WEEK, SETTINGS)

    assert again == answer
    with Lake.open(stolen) as lake:
        runs = lake.rows("SELECT run_id FROM lake.runs WHERE run_id = $id", id=answer.run.id)
        assert len(runs) == 1
        kept = lake.value(
            "SELECT document FROM lake.recommendations WHERE run_id = $id", id=answer.run.id
        )
    assert json.loads(kept)["key_id"] == "key_1"


def test_a_key_that_nobody_knows_is_refused_before_a_window_is_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = lake_of(tmp_path, daily(WEEK.start.date(), 3), [])
    # Known by the log alone, by its masked form.
    told = pipeline.explain_absence(lake, "ply_live_prod_4f8a2c…9e1d", WEEK, NO_REPLAY)
    assert told.startswith("key_1: 3 requests")
    with Lake.open(lake) as opened, opened.writing():
        opened.execute("UPDATE lake.events SET key_id = 'ASIA_1', principal = 'key_1'")
    # A key of a principal's: what is told is the principal's.
    assert pipeline.explain_absence(lake, "ASIA_1", WEEK, NO_REPLAY) == told
    monkeypatch.setattr("keywatch.review.making.make_review", pytest.fail)
    with pytest.raises(UsageError, match="no key 'nobody' in the lake"):
        pipeline.case_in_detail(lake, "nobody", WEEK, NO_REPLAY)


def test_a_name_of_several_keys_is_not_guessed(
    tmp_path: Path, stolen: Path, answer: Review
) -> None:
    lake = tmp_path / "lake"
    shutil.copytree(stolen, lake)
    with Lake.open(lake) as opened, opened.writing():
        opened.execute("UPDATE lake.keys SET name = 'status board' WHERE key_id = 'key_2'")
    said = "'status board' matches several keys: key_1, key_2; use the key_id"
    asked: list[Callable[[], object]] = [
        lambda: pipeline.case_in_detail(lake, "status board", WEEK, SETTINGS),
        lambda: pipeline.explain_absence(lake, "status board", WEEK, SETTINGS),
        lambda: pipeline.decide_revocation(
            lake, "status board", SETTINGS, approved=True, by="ana", because="seen"
        ),
    ]
    pipeline.review(lake, WEEK, SETTINGS)
    for ask in asked:
        with pytest.raises(UsageError, match=said):
            ask()
    _, case, _ = pipeline.case_in_detail(lake, "key_1", WEEK, SETTINGS)
    assert case is not None
    assert case.key_id == "key_1"
    done = pipeline.decide_revocation(
        lake, "key_1", SETTINGS, approved=True, by="ana", because="seen"
    )
    assert "approved by ana" in done[0]


def test_a_masked_form_of_several_keys_is_not_guessed(tmp_path: Path) -> None:
    events = [
        event
        for key_id in ("key_1", "key_2")
        for event in daily(WEEK.start.date(), 3, key_id=key_id)
    ]
    lake = lake_of(tmp_path, events, [])
    with pytest.raises(UsageError, match="9e1d' matches several keys: key_1, key_2"):
        pipeline.explain_absence(lake, "ply_live_prod_4f8a2c…9e1d", WEEK, NO_REPLAY)
    assert pipeline.explain_absence(lake, "key_2", WEEK, NO_REPLAY).startswith("key_2: 3 requ")
    with Lake.open(lake) as opened, opened.writing():  # only one of them is in the inventory
        opened.execute(
            "INSERT INTO lake.keys BY NAME SELECT 'key_1' AS key_id, $key AS \"key\", "
            "1 AS import_id", key="ply_live_prod_4f8a2c…9e1d",
        )  # fmt: skip
    with pytest.raises(UsageError, match="9e1d' matches several keys: key_1, key_2"):
        pipeline.explain_absence(lake, "ply_live_prod_4f8a2c…9e1d", WEEK, NO_REPLAY)
