"""What a verdict covers, until when, and thefts that no review named; on real lakes."""

from __future__ import annotations

import json
import shutil
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from keywatch import pipeline
from keywatch.detect import detectors
from keywatch.errors import UsageError
from keywatch.lake import Lake, utc_now
from keywatch.model import Case, Suppression, Window
from keywatch.report import render_review, render_verdict
from keywatch.review import alerts, verdicts
from keywatch.review.verdict_visits import named_origin
from keywatch.settings import ReviewSettings, ScoringSettings, Settings
from keywatch.settings.deliver import DeliverSettings
from keywatch.text.document import review_document
from tests.command import keywatch
from tests.detect.test_learning import FIRST, find, quarantined, visit, week
from tests.test_pipeline import AWAY, HOME, NO_REPLAY, crowd, daily, key, lake_of, line

pytestmark = pytest.mark.usefixtures("mid_october")

BERLIN, NEIGHBOUR = "92.72.10.5", "95.90.1.2"
"""Two customers of AS3209."""
OFFICE, OTHER_OFFICE, THEIRS = "92.72.10.0/24", "95.90.1.0/24", "45.153.78.0/24"
HOSTED, TOR = "5.9.1.2", "185.220.101.5"
DEAF = Settings(
    scoring=ScoringSettings(unfamiliar_place="none", family_caps_bits=dict.fromkeys(
        ("origin", "endpoints", "volume", "client", "policy", "all"), 0.0
    )),
    review=ReviewSettings(power_keys=0, replayed_windows=0),
    deliver=DeliverSettings.model_validate({"channels": {"log": {"kind": "stdout"}}}),
)  # fmt: skip
"""Names nothing but facts: whatever is stolen is missed."""
ANA: dict[str, Any] = {"by": "ana", "because": "it is so"}


def give(lake: Path, verdict: Any, key: str = "key_1", **more: Any) -> verdicts.VerdictReport:
    return pipeline.give_verdict(lake, key, verdict, DEAF, **ANA | more)


def families(case: Case) -> set[str]:
    return {item.family for item in case.evidence if item.bits > 0}


def opened(lake: Path) -> list[alerts.Alert]:
    with Lake.open(lake) as reading:
        return alerts.not_over(reading)


def rows(lake: Path, query: str) -> list[tuple[Any, ...]]:
    with Lake.open(lake) as reading:
        return reading.rows(query)


# ---------------------------------------------------------------------- what an expected one covers


@pytest.fixture(scope="module")
def berlin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new office on Wednesday; a week later a thief who is another customer of its provider."""
    events = daily(FIRST, 72) + crowd()
    events += daily(date(2026, 10, 5), 7, key_id="crowd_00", user_agent=None)
    events += visit(date(2026, 9, 30), ip=BERLIN) + visit(date(2026, 10, 8), ip=NEIGHBOUR)
    made = lake_of(tmp_path_factory.mktemp("berlin"), events, [key()])
    assert find(pipeline.review(made, week(), NO_REPLAY)).action != "none"
    return made


@pytest.fixture
def office(berlin: Path, tmp_path: Path) -> Path:
    shutil.copytree(berlin, tmp_path / "lake")
    return tmp_path / "lake"


def test_a_new_office_excuses_no_other_customer_of_its_provider(office: Path) -> None:
    before = find(pipeline.review(office, week(1), NO_REPLAY, keep=False))
    report = give(office, "expected", because="new office in Berlin")
    (expected,) = report.suppressions
    assert (expected.origin, expected.families) == (OFFICE, ("origin", "client"))
    assert (expected.starts_on, expected.ends_on) == (date(2026, 9, 30), date(2027, 1, 10))
    assert quarantined(office, week(1)) == set()

    after = find(pipeline.review(office, week(1), NO_REPLAY))
    assert {"origin", "client"} <= families(before)
    assert families(after) - {"origin", "client"}
    assert after.origins[0].ip == NEIGHBOUR
    assert after.action != "none"
    # What was learnt of the office (its calls, its client) is familiar; the stranger's place isn't.
    assert any(item.detector == "unfamiliar_origin" for item in after.evidence)


def test_an_expected_place_says_nothing_of_what_is_called_there(office: Path) -> None:
    before = find(pipeline.review(office, week(), NO_REPLAY, keep=False))
    give(office, "expected")
    answer = pipeline.review(office, week(), NO_REPLAY)
    assert families(find(answer)) == families(before) - {"origin", "client"}
    told = " ".join(render_review(answer).split())
    assert f"{OFFICE} for key_1 until 2027-01-10 (origin, client), confirmed by ana" in told
    (shown,) = review_document(answer)["coverage"]["suppressions"]
    assert shown["families"] == ["origin", "client"]


def test_a_network_is_expected_only_if_it_is_named(office: Path) -> None:
    give(office, "expected", origins=["as3209"], families=["client", "origin", "endpoints"])
    answer = pipeline.review(office, week(1), NO_REPLAY)
    assert families(find(answer)) <= {"volume", "policy", "all"}
    (found,) = answer.coverage.suppressions
    assert (found.origin, found.families) == ("AS3209", ("origin", "endpoints", "client"))


def test_what_a_verdict_is_not_about_stays_out_and_the_alert_open(tmp_path: Path) -> None:
    events = daily(FIRST, 65) + crowd()
    events += visit(date(2026, 9, 30), ip=BERLIN) + visit(date(2026, 10, 1))
    lake = lake_of(tmp_path, events, [key()])
    pipeline.review(lake, week(), NO_REPLAY)
    (alert,) = opened(lake)
    report = give(lake, "expected", origins=[BERLIN])
    assert (report.flagged, report.left) == (
        ((date(2026, 9, 30), OFFICE),), ((date(2026, 10, 1), THEIRS),),
    )  # fmt: skip
    assert f"Without a verdict: 1 flagged visit from {THEIRS}. The alert stays" in render_verdict(
        report
    )
    assert opened(lake) == [alert]
    with Lake.open(lake) as reading:
        detectors.prepare(reading, week(1), 90, [])
        assert reading.rows("SELECT address FROM quarantine") == [(AWAY,)]
    assert give(lake, "benign").left == ()
    assert opened(lake) == []


@pytest.fixture
def memory(blank: Lake) -> Lake:
    """A key that was used, and reviewed, in a week."""
    used(blank, HOME, date(2026, 9, 29))
    blank.execute(
        "INSERT INTO lake.runs BY NAME SELECT 'run' AS run_id, $start AS window_start, "
        "$end AS window_end, $end AS made_at",
        start=week().start, end=week().end,
    )  # fmt: skip
    return blank


def used(lake: Lake, address: str, day: date, origin_class: str = "isp") -> None:
    lake.execute(
        "INSERT INTO lake.origins BY NAME SELECT $address AS address, $address AS ip, "
        "$prefix AS prefix, 64496 AS asn, 'Example' AS organization, $class AS class, 1 AS load_id",
        address=address, prefix=named_origin(address), **{"class": origin_class},
    )  # fmt: skip
    lake.execute(
        "INSERT INTO lake.activity BY NAME SELECT 'key_1' AS key_id, $day AS day, "
        "$address AS address, 3 AS events, 1 AS load_id",
        address=address, day=day,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("strange", "expected"),
    [
        ({"origin": 9, "endpoints": 5, "policy": 3}, ("origin", "client")),
        ({"endpoints": 5, "policy": 3, "client": 0}, ("endpoints",)),
        ({"volume": 5, "client": 2, "all": 1}, ("volume", "client", "all")),
    ],
)
def test_what_is_expected_where_no_family_is_named(
    memory: Lake, strange: dict[str, float], expected: tuple[str, ...]
) -> None:
    recommend(memory, strange)
    report = verdicts.give(memory, "key_1", "expected", origins=[HOME], **ANA)
    assert [each.families for each in report.suppressions] == [expected]
    assert verdicts.in_force(memory, week()) == report.suppressions


def recommend(lake: Lake, strange: dict[str, float]) -> None:
    items = [{"family": family, "bits": bits} for family, bits in strange.items()]
    lake.execute(
        "INSERT INTO lake.recommendations VALUES ('run', 'key_1', 'revoke', $document)",
        document=json.dumps({"evidence": items}),
    )


def test_policy_is_expected_only_if_it_is_named(memory: Lake) -> None:
    recommend(memory, {"policy": 7})
    with pytest.raises(UsageError, match="--family policy"):
        verdicts.give(memory, "key_1", "expected", origins=[HOME], **ANA)
    report = verdicts.give(memory, "key_1", "expected", origins=[HOME], families=["policy"], **ANA)
    assert report.suppressions[0].families == ("policy",)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (" 203.0.113.77 ", "203.0.113.0/24"), ("203.0.113.9/32", "203.0.113.0/24"),
        ("203.0.113.0/24", "203.0.113.0/24"), ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("2001:DB8:1::/64", "2001:db8:1::/48"), ("::ffff:203.0.113.77", "203.0.113.0/24"),
        ("as64496", "AS64496"), ("AS00064496", "AS64496"), ("(none)", "(none)"),
    ],
)  # fmt: skip
def test_an_origin_is_named_by_address_prefix_or_network(given: str, named: str) -> None:
    assert named_origin(given) == named


@pytest.mark.parametrize(("wide", "length"), [("203.0.113.0/23", 24), ("2001:db8::/32", 48)])
def test_an_origin_wider_than_a_visit_s_is_refused(wide: str, length: int) -> None:
    with pytest.raises(UsageError, match=f"{wide} is wider than a /{length}: list each /{length}"):
        named_origin(wide)


@pytest.mark.parametrize("rented", ["hosting", "vpn", "proxy", "tor", "relay"])
def test_a_network_that_anybody_can_rent_is_not_expected_whole(memory: Lake, rented: str) -> None:
    memory.execute("UPDATE lake.origins SET class = $rented", rented=rented)
    with pytest.raises(UsageError) as raised:
        verdicts.give(memory, "key_1", "expected", origins=["AS64496"], **ANA)
    assert str(raised.value) == (
        "--origin AS64496 (Example) is a hosting or VPN network open to anyone: list the "
        "prefixes instead: 84.151.10.0/24 (AS64496 Example, 3 requests)"
    )
    assert memory.rows("FROM lake.verdicts") == []


def test_an_origin_can_be_expected_before_it_is_used(memory: Lake) -> None:
    report = verdicts.give(memory, "key_1", "expected", origins=[BERLIN, HOME], **ANA)
    assert [each.origin for each in report.suppressions] == ["84.151.10.0/24", OFFICE]
    assert report.unused == (OFFICE,)
    assert f"The key was not used from {OFFICE} in that window." in render_verdict(report)


# ---------------------------------------------------------------------------------------- its end


@pytest.mark.parametrize(
    ("until", "said"),
    [
        (date(2026, 10, 12), "--until 2026-10-12 is past: it must be after today and no later than "
                             "2027-04-10, 180 days from now"),
        (date(2027, 4, 11), "--until 2027-04-11 is too far: it must be after today and no later "
                            "than 2027-04-10, 180 days from now"),
        (date(2026, 10, 13), None),
        (date(2027, 4, 10), None),
    ],
)  # fmt: skip
def test_an_end_is_after_today_and_not_too_far(memory: Lake, until: date, said: str | None) -> None:
    if said is None:
        report = verdicts.give(memory, "key_1", "expected", origins=[HOME], until=until, **ANA)
        assert [each.ends_on for each in report.suppressions] == [until]
        return
    with pytest.raises(UsageError) as raised:
        verdicts.give(memory, "key_1", "expected", origins=[HOME], until=until, **ANA)
    assert str(raised.value) == said


@pytest.mark.parametrize(
    ("verdict", "more", "said"),
    [
        ("benign", {"until": date(2026, 12, 1)}, "--until can be used with expected only"),
        ("compromised", {"families": ["origin"]}, "--family can be used with expected only"),
        ("expected", {"families": ["places"]}, "unknown family 'places'; available: origin"),
        ("benign", {"origins": [BERLIN]}, "was not used from 92.72.10.0/24 in that window, but fr"),
        ("benign", {"window": week(5)}, "key_1 was not used from 2026-11-02 00:00 to 2026-11-09"),
        ("compromised", {}, "key_1 has no flagged visit and no visit from a n"),
        ("expected", {}, r"give the origin with --origin; it was used from 84.151.10.0/24"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_verdict_is_said(
    memory: Lake, verdict: Any, more: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        verdicts.give(memory, "key_1", verdict, **ANA | more)
    assert memory.rows("FROM lake.verdicts") == []


def test_a_name_of_several_keys_is_not_guessed(memory: Lake) -> None:
    for key_id in ("key_1", "key_2"):
        memory.execute(
            "INSERT INTO lake.keys BY NAME SELECT $key AS key_id, 'board' AS name, 1 AS import_id",
            key=key_id,
        )
    assert verdicts.give(memory, "board", "benign", **ANA).key_id == "key_1"  # the one in use
    memory.execute("INSERT INTO lake.activity SELECT * REPLACE ('key_2' AS key_id) "
                   "FROM lake.activity")  # fmt: skip
    with pytest.raises(UsageError, match="'board' matches several keys: key_1, key_2"):
        verdicts.give(memory, "board", "benign", **ANA)
    with pytest.raises(UsageError, match="no key 'nobody' in the lake"):
        verdicts.give(memory, "nobody", "benign", **ANA)


def two_boards(lake: Lake) -> None:
    """key_2 has the name and the use of key_1, and key_1 alone an alert."""
    for key_id in ("key_1", "key_2"):
        lake.execute(
            "INSERT INTO lake.keys BY NAME SELECT $key AS key_id, 'board' AS name, 1 AS import_id",
            key=key_id,
        )
    lake.execute("INSERT INTO lake.activity SELECT * REPLACE ('key_2' AS key_id) "
                 "FROM lake.activity")  # fmt: skip
    lake.execute(
        "INSERT INTO lake.runs BY NAME SELECT 'run' AS run_id, $start AS window_start, "
        "$end AS window_end, $end AS made_at", start=week().start, end=week().end,
    )  # fmt: skip
    lake.execute("INSERT INTO lake.recommendations BY NAME SELECT 'run' AS run_id, "
                 "'key_1' AS key_id, '{}' AS document")  # fmt: skip


@pytest.mark.parametrize("window", [None, week()])
def test_a_name_is_not_guessed_by_who_has_an_alert(memory: Lake, window: Window | None) -> None:
    two_boards(memory)
    with pytest.raises(UsageError, match="'board' matches several keys: key_1, key_2; use the"):
        verdicts.give(memory, "board", "benign", window=window, **ANA)
    assert verdicts.give(memory, "key_1", "benign", window=window, **ANA).key_id == "key_1"
    assert verdicts.undo(memory, "board", **ANA).key_id == "key_1"  # the one with a verdict
    for key_id in ("key_1", "key_2"):
        assert verdicts.give(memory, key_id, "benign", window=week(), **ANA).key_id == key_id
    with pytest.raises(UsageError, match="'board' matches several keys: key_1, key_2; use the"):
        verdicts.undo(memory, "board", **ANA)


def test_a_name_is_not_guessed_by_who_is_in_use_now(memory: Lake) -> None:
    two_boards(memory)
    memory.execute("UPDATE lake.activity SET day = day - 60 WHERE key_id = 'key_2'")
    with pytest.raises(UsageError, match="'board' matches several keys: key_1, key_2; use the"):
        verdicts.give(memory, "board", "benign", window=week(), **ANA)


def test_an_id_comes_before_a_name(memory: Lake) -> None:
    two_boards(memory)
    memory.execute("UPDATE lake.keys SET name = 'key_2' WHERE key_id = 'key_1'")
    assert verdicts.give(memory, "key_2", "benign", window=week(), **ANA).key_id == "key_2"


def test_undo_restores_what_was_covered(memory: Lake) -> None:
    first = verdicts.give(
        memory, "key_1", "expected", origins=[HOME, "AS64500"], families=["volume"],
        until=date(2026, 11, 1), **ANA,
    )  # fmt: skip
    verdicts.give(memory, "key_1", "expected", origins=[BERLIN], **ANA)
    restored = verdicts.undo(memory, "key_1", by="bo", because="not there")
    assert restored.suppressions == first.suppressions == verdicts.in_force(memory, week())
    assert (restored.verdict, restored.restored and restored.restored.families) == (
        "undo", ("volume",),
    )  # fmt: skip
    last = verdicts.undo(memory, "key_1", by="bo", because="not at all")
    assert (last.restored, verdicts.in_force(memory, week())) == (None, ())


def test_a_verdict_of_an_older_keywatch_is_restored_as_it_was_but_ends(memory: Lake) -> None:
    memory.execute(
        "INSERT INTO lake.verdicts VALUES ('old', 'key_1', $start, $end, 'expected', 'ana', "
        "'moved', $end, DATE '2099-01-01', NULL, NULL, NULL, NULL)",
        start=week().start, end=week().end,
    )  # fmt: skip
    memory.execute(
        "INSERT INTO lake.flagged_visits VALUES ('run', $start, $end, 'key_1', $day, $prefix)",
        start=week().start, end=week().end, day=date(2026, 9, 29), prefix="84.151.10.0/24",
    )  # fmt: skip
    verdicts.give(memory, "key_1", "benign", **ANA)
    report = verdicts.undo(memory, "key_1", **ANA)
    assert report.suppressions == (
        Suppression("key_1", "84.151.10.0/24", "ana", "moved", date(2026, 9, 29),
                    date(2027, 4, 10), ("origin", "endpoints", "client", "all")),
    )  # fmt: skip


# -------------------------------------------------------------------------- thefts that were missed


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A theft on Thursday that the review of its week did not name; it is so the week after."""
    events = daily(FIRST, 72) + crowd()
    events += daily(date(2026, 10, 5), 7, key_id="crowd_00", user_agent=None)
    events += visit(date(2026, 10, 1)) + visit(date(2026, 10, 6))
    events += [
        line(f"2026-10-02T0{hour}:00:00", key_id="crowd_07", ip=AWAY, endpoint="/v1/checks/7",
             method=method)
        for hour, method in enumerate(("GET", "GET", "DELETE"))
    ]  # fmt: skip
    made = lake_of(
        tmp_path_factory.mktemp("missed"),
        events,
        # Within what the key may do: a call beyond its scopes would be a fact.
        [key(scopes=["admin:*"]), key("key_2", replaces="key_1")],
    )
    answer = pipeline.review(made, week(), DEAF)
    assert answer.alerted() == ()
    return made


@pytest.fixture
def missed(unseen: Path, tmp_path: Path) -> Path:
    shutil.copytree(unseen, tmp_path / "lake")
    return tmp_path / "lake"


def test_a_missed_theft_is_flagged_told_and_kept_out(missed: Path) -> None:
    assert quarantined(missed, week(1)) == set()
    report = give(missed, "compromised", "status board")
    assert (report.key_id, report.window) == ("key_1", week())
    assert report.flagged == ((date(2026, 10, 1), THEIRS),)
    assert [(each.key_id, each.ip) for each in report.also] == [("crowd_07", AWAY)]
    assert render_verdict(report).splitlines()[1:] == [
        "1 flagged visit permanently excluded from the baseline of this key.",
        f"Prefixes: {THEIRS}.",
        "Other keys were used from the same addresses:",
        f"  crowd_07: 3 requests from {AWAY}, last on 2026-10-02 02:00 UTC",
        "An alert to revoke the key was opened: keywatch deliver notifies the channels.",
    ]
    assert quarantined(missed, week(1)) == {"key_1"}
    # A review of that week again takes no flag away that a person has put there.
    pipeline.review(missed, week(), NO_REPLAY)
    pipeline.review(missed, week(), DEAF)
    assert quarantined(missed, week(1)) == {"key_1"}


def test_who_has_to_act_hears_of_a_missed_theft(missed: Path) -> None:
    give(missed, "compromised")
    (alert,) = opened(missed)
    assert (alert.state, alert.action, alert.why) == (
        "acknowledged", "revoke", "compromised, says ana: it is so",
    )  # fmt: skip
    (text,) = pipeline.preview_deliveries(missed, DEAF)["log"]
    assert "REVOKE key_1 (status board)" in text
    assert "Compromised, says ana: it is so." in text
    case = alert.document
    assert [origin["ip"] for origin in case["origins"]] == [AWAY]
    assert case["blast_radius"] == {
        "scopes_granted": ["admin:*"],
        "scopes_used": ["admin:*", "read:alerts", "read:checks"],
        "sensitive_endpoints_used": case["blast_radius"]["sensitive_endpoints_used"],
        "requests_suspicious": 10,
        "objects_suspicious": 0,
        "response_bytes_suspicious": 0,
        "lines_unread": 0,
        "requests_accepted": 5,
        "requests_denied": 5,
        "sensitive_endpoints_suspicious": case["blast_radius"]["sensitive_endpoints_used"],
    }
    assert case["story"].startswith("This key ")
    assert case["chronology"][-1]["text"] == "last suspicious request"
    assert case["impact"] == {
        "legitimate_requests_per_day": 1.0,
        "consumers": [
            {"agent": "Grafana/10", "origin": "AS3320 Deutsche Telekom AG, DE",
             "requests_per_day": 1.0}
        ],
        "consumers_total": 1,
        "successor_key_id": "key_2",
        "scopes_needed": ["read:checks"],
    }  # fmt: skip
    assert case["steps"][0].startswith("Revoke ply_live_prod_4f8a2c…9e1d now")
    assert {item["detector"] for item in case["evidence"]} >= {"unfamiliar_origin"}
    assert len(rows(missed, case["events_query"])) == 10


def test_of_a_missed_theft_each_object_is_counted_once(missed: Path) -> None:
    give(missed, "compromised", "crowd_07")
    (alert,) = opened(missed)
    assert alert.document["done"] == "deleted a check and read 1 object"


def test_undo_takes_a_missed_theft_back(missed: Path) -> None:
    give(missed, "compromised")
    report = pipeline.undo_verdict(missed, "key_1", DEAF, **ANA)
    assert (report.flagged, report.alert) == ((), "resolve")
    assert "None of its visits is flagged." in render_verdict(report)
    assert (opened(missed), quarantined(missed, week(1))) == ([], set())
    again = give(missed, "compromised")
    assert (again.alert, len(opened(missed)), len(again.flagged)) == ("trigger", 1, 1)
    # What was taken for the owner's and is a theft after all is told again.
    assert give(missed, "benign").alert == "resolve"
    assert give(missed, "compromised").alert == "trigger"
    assert quarantined(missed, week(1)) == {"key_1"}


def test_a_missed_theft_from_where_it_came_before_has_to_be_named(missed: Path) -> None:
    with pytest.raises(UsageError, match=f"from a new network in that window: give.*{THEIRS}"):
        give(missed, "compromised", window=week(1))
    report = give(missed, "compromised", window=week(1), origins=[AWAY])
    assert report.flagged == ((date(2026, 10, 6), THEIRS),)
    assert report.earlier_days == 1
    assert "Earlier use from there on 1 day" in render_verdict(report)
    # Flagged there, it is no past in which the network would be known.
    assert give(missed, "compromised").flagged == ((date(2026, 10, 1), THEIRS),)


def test_a_theft_by_the_owner_s_own_network_can_be_named(missed: Path) -> None:
    report = give(missed, "compromised", origins=["AS3320"])
    assert {prefix for _, prefix in report.flagged} == {"84.151.10.0/24"}
    assert len(report.flagged) == 7
    (given,) = rows(missed, "SELECT origins FROM lake.verdicts")
    assert given == (["84.151.10.0/24"],)


def test_benign_on_what_nobody_flagged_makes_nothing_familiar_and_is_kept(missed: Path) -> None:
    report = give(missed, "benign")
    assert render_verdict(report).splitlines()[1] == (
        "None of its visits is flagged: the verdict is stored, and the baseline is unchanged."
    )
    assert rows(missed, "SELECT verdict, origins FROM lake.verdicts") == [("benign", [])]
    # Had it covered all of the case, what a later review flags would be familiar unseen.
    pipeline.review(missed, week(), NO_REPLAY)
    assert "key_1" in quarantined(missed, week(1))


def test_a_use_that_nobody_flagged_can_be_expected(missed: Path) -> None:
    (expected,) = give(missed, "expected").suppressions
    assert (expected.origin, expected.families) == (THEIRS, ("origin", "client"))


# ------------------------------------------------------------------------------ on the command line


def test_doctor_lists_what_ends_and_what_has_ended(missed: Path) -> None:
    today = utc_now().date()
    for days, name in ((-15, "long"), (-14, "ended"), (14, "ends"), (15, "later")):
        with Lake.open(missed) as lake, lake.writing():
            lake.execute(
                "INSERT INTO lake.suppressions VALUES ($name, 'v', $name, 'AS64496', 'ana', "
                "'moved' || chr(27) || '[2J', DATE '2026-01-01', $ends, ['origin', 'client'])",
                name=name, ends=today + timedelta(days=days),
            )  # fmt: skip
    ran = keywatch("doctor", "--lake", missed)
    assert ran.code == 0, ran.out
    told = [text for text in ran.out.splitlines() if "expected of" in text]
    assert told == [
        f"note AS64496 was expected of ended until {today - timedelta(days=14)} (origin, client), "
        "confirmed by ana: moved\\x1b[2J",
        f"note AS64496 is expected of ends until {today + timedelta(days=14)} (origin, client), "
        "confirmed by ana: moved\\x1b[2J",
    ]
    found = json.loads(keywatch("doctor", "--format", "json", "--lake", missed).out)
    assert set(found) == {"keywatch", "python", "platform", "found"}
    assert {one["status"] for one in found["found"]} <= {"ok", "note", "warn"}
    ending = [one["suppression"] for one in found["found"] if "suppression" in one]
    assert [(one["key_id"], one["families"]) for one in ending] == [
        ("ended", ["origin", "client"]), ("ends", ["origin", "client"]),
    ]  # fmt: skip


def test_the_command_says_what_is_meant(missed: Path) -> None:
    said = ("verdict", "key_1", "expected", "--by", "ana", "--because", "moved", "--lake", missed)
    ran = keywatch(*said, "--origin", AWAY, "--origin", BERLIN, "--family", "origin",
                   "--family", "volume", "--week", "2026-W40")  # fmt: skip
    assert ran.code == 0, ran.err
    assert f"Expected from {THEIRS} from 2026-10-01 to " in ran.out
    assert "evidence of origin and volume does not count there." in ran.out
    assert f"The key was not used from {OFFICE} in that window." in ran.out
    assert keywatch(*said, "--family", "places").code == 2
    refused = keywatch("verdict", "key_1", "undo", "--by", "ana", "--because", "x", "--origin",
                       AWAY, "--lake", missed)  # fmt: skip
    assert (refused.code, refused.err) == (
        2, "keywatch: --origin can't be used with undo, which withdraws the whole latest verdict\n",
    )  # fmt: skip
