from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest

from keywatch.model import BlastRadius, Milestone, severity_of
from keywatch.review.story import (
    PAST_TENSE,
    Call,
    Client,
    Place,
    Scene,
    chronology,
    done,
    story,
    when_between,
)
from keywatch.vendors import catalogue_by_source
from tests.report.reviews import DOUBTED, EXPOSED, SCANNED, SECOND

SINCE, UNTIL = datetime(2026, 9, 28, 3, 4), datetime(2026, 9, 30, 21, 15)
STOCKHOLM = Place(
    suspicious=True, network="AS3301", country="SE", origin_class="isp",
    name="AS3301 Telia Company AB, SE", requests=431, first_seen=SINCE, last_seen=UNTIL,
)  # fmt: skip
PARIS = Place(
    suspicious=False, network="AS16276", country="FR", origin_class="hosting",
    name="AS16276 OVH SAS, FR", requests=9_000, first_seen=SINCE, last_seen=UNTIL,
)  # fmt: skip
READ = Call(
    "GET /v1/checks/{id}", requests=430, denied=0, accepted=430, objects=419, denied_at=None,
    accepted_at=SINCE, accepted_until=UNTIL, sensitivity="none", why=None,
)  # fmt: skip
EXPORTED = Call(
    "GET /v1/export", requests=1, denied=0, accepted=1, objects=0, denied_at=None,
    accepted_at=datetime(2026, 9, 29, 1, 2), accepted_until=datetime(2026, 9, 29, 1, 2),
    sensitivity="high", why="exported all data in one call",
)  # fmt: skip
THEFT = Scene(
    calls=[READ, EXPORTED],
    places=[PARIS, STOCKHOLM],
    clients=[Client("HTTPie", 431, is_new=True)],
    accessed=419,
    has_past=True,
    revoked_at=None,
    log_ends_at=datetime(2026, 10, 4, 23, 59),
)
REFUSED = Call(
    "POST /v1/keys", requests=7, denied=7, accepted=0, objects=0,
    denied_at=datetime(2026, 9, 28, 4), accepted_at=None, accepted_until=None,
    sensitivity="critical", why="created an API key",
)  # fmt: skip
DELETED = replace(
    EXPORTED, endpoint="DELETE /v1/checks/{id}", requests=12, accepted=12, objects=9,
    sensitivity="critical", why="deleted a check, which ends its monitoring",
)  # fmt: skip
CREATED = replace(
    EXPORTED, endpoint="POST /v1/keys", requests=3, accepted=3, why="created an API key"
)
ME = replace(READ, endpoint="GET /v1/me", requests=1, accepted=1, objects=0)
MOST_OF_IT = datetime(2026, 10, 1, 3)


def test_a_theft_is_told_by_what_was_done_where_when_and_with_what() -> None:
    assert story(THEFT) == (
        "This key exported all data in one call and read 419 objects from an ISP in Sweden "
        "(AS3301 Telia Company AB) between 28 and 30 September with HTTPie, a client new to this "
        "key, while its usual requests continued from France."
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"places": [STOCKHOLM]}, "There were no usual requests on those days."),
        ({"has_past": False}, "The key has too little history to tell its usual use."),
        ({"calls": [READ, REFUSED]}, "7 of 437 requests were denied."),
        (
            {"calls": [READ, replace(REFUSED, requests=1, denied=1)]},
            "1 of 431 requests was denied.",
        ),
        ({"calls": [replace(READ, requests=4000)]}, "from France. 3,570 of 4,000 requests failed."),
        (
            {"calls": [replace(READ, requests=4000), REFUSED]},
            "from France. 7 of 4,007 requests were denied, 3,570 failed.",
        ),
        ({"calls": [replace(READ, requests=440)]}, "continued from France."),
        (
            {"clients": [Client("Grafana", 431, is_new=False)]},
            "with Grafana, a client already seen with this key, while",
        ),
        ({"clients": [Client("(none)", 431, is_new=True)]}, "without a client name, while"),
        (
            {"clients": [Client("(none)", 430, is_new=True), Client("curl", 1, is_new=False)]},
            "with curl, a client already seen with this key, or without a client name, while",
        ),
        (
            {"clients": [Client("(none)", 430, is_new=True), Client("curl", 1, is_new=True)],
             "has_past": False},
            "with curl or without a client name.",
        ),
        (
            {"clients": [Client("browser Chrome", 400, is_new=True)]},
            "with the browser Chrome, a client new to this key, while",
        ),
        (
            {"clients": [Client("curl", 400, is_new=True), Client("Grafana", 31, is_new=False)]},
            "with curl and 1 other client, 1 of them new to this key, while",
        ),
        (
            {"clients": [Client("curl", 400, is_new=True), Client("Grafana", 31, is_new=True)]},
            "with curl and 1 other client, all new to this key, while",
        ),
        (
            {"clients": [Client("curl", 400, is_new=False), Client("k6", 31, is_new=False)]},
            "with curl and 1 other client, all already seen with this key, while",
        ),
        (
            {"revoked_at": datetime(2026, 9, 1, 8)},
            "It was revoked before, at 2026-09-01 08:00 UTC, and is still accepted.",
        ),
        (
            {"revoked_at": datetime(2026, 9, 29, 8)},
            "It was revoked at 2026-09-29 08:00 UTC, and requests were accepted after that.",
        ),
        (
            {"revoked_at": datetime(2026, 9, 29, 8), "calls": [EXPORTED, REFUSED]},
            "It was revoked at 2026-09-29 08:00 UTC, and no request was accepted after that.",
        ),
        (
            {"revoked_at": datetime(2026, 10, 2)},
            "It was revoked afterwards, at 2026-10-02 00:00 UTC.",
        ),
        (
            {"log_ends_at": MOST_OF_IT},
            "It may be going on: last seen at 21:15 UTC on 30 September, within a day of the last "
            "event reviewed.",
        ),
        (
            {"places": [STOCKHOLM, replace(STOCKHOLM, network="AS1", requests=2)]},
            "from 2 networks, mostly an ISP in Sweden (AS3301 Telia Company AB), between",
        ),
        (
            {"places": [STOCKHOLM, replace(STOCKHOLM, network="AS1", country="NO"),
                        replace(STOCKHOLM, network="AS2", country="NO")]},
            "from 3 networks in 2 countries, most often an ISP in Sweden (AS3301 Telia Company AB)",
        ),
        (
            {"places": [STOCKHOLM, replace(STOCKHOLM, country="NO")]},
            "from an ISP in Sweden (AS3301 Telia Company AB) and 1 other country between",
        ),
        (
            {"places": [replace(PARIS, suspicious=True), PARIS]},
            "from a hosting network in France (AS16276 OVH SAS), a network that its usual requests "
            "come from too, between",
        ),
        (
            {"places": [STOCKHOLM, PARIS, replace(PARIS, country="DE")]},
            "while its usual requests continued from France and Germany.",
        ),
        (
            {"places": [STOCKHOLM, PARIS,
                        *(replace(PARIS, country=country) for country in ("DE", "IT", "ES"))]},
            "while its usual requests continued from France, Germany and 2 more places.",
        ),
        (
            {"places": [STOCKHOLM, replace(PARIS, network="private", origin_class="private",
                                           country=None, name="private address")]},
            "while its usual requests continued from a private address.",
        ),
        (
            {"calls": [replace(EXPORTED, accepted=2)], "accessed": 0},
            "This key exported all data in one call twice from",
        ),
        (
            {"calls": [READ], "accessed": 0},
            "This key made 430 requests (GET /v1/checks/{id}) from",
        ),
        (
            {"calls": [READ, ME], "accessed": 0},
            "This key made 431 requests (mostly GET /v1/checks/{id}) from",
        ),
        (
            {"calls": [ME, replace(ME, endpoint="GET /v1/checks"), REFUSED], "accessed": 0},
            "This key made 9 requests (accepted: GET /v1/checks and GET /v1/me) from",
        ),
        (
            {"calls": [replace(READ, endpoint="POST /v1/checks/{id}/run")]},
            "This key accessed 419 objects from",
        ),
        (
            {"calls": [DELETED, ME], "accessed": 0},
            "This key deleted 9 checks from",
        ),
        (
            {"calls": [replace(DELETED, objects=1), CREATED, READ]},
            "This key deleted a check 12 times, created 3 API keys and read 419 objects from",
        ),
    ]
    + [
        (
            {"calls": [replace(DELETED, objects=2, why=why)], "accessed": 0},
            f"This key {deed} from",
        )
        for why, deed in (
            ("deleted a key of a member", "deleted a key of a member 12 times"),
            ("deleted a policy", "deleted a policy 12 times"),
            ("deleted an API key", "deleted 2 API keys"),
        )
    ],
)  # fmt: skip
def test_what_else_is_told(changes: dict[str, object], sentence: str) -> None:
    assert sentence in story(replace(THEFT, **changes))  # type: ignore[arg-type]


def test_of_a_key_that_was_refused_it_is_told_that_it_was_tried() -> None:
    tried = replace(THEFT, calls=[REFUSED], accessed=0, revoked_at=datetime(2026, 9, 20))
    assert story(tried) == (
        "This key was revoked on 20 September and then tried from an ISP in Sweden (AS3301 Telia "
        "Company AB) between 28 and 30 September with HTTPie, a client new to this key: 7 "
        "requests, all denied, while its usual requests continued from France."
    )
    long_ago = replace(tried, revoked_at=datetime(2025, 12, 31))
    assert "This key was revoked on 31 December 2025 and then tried" in story(long_ago)
    failed = replace(REFUSED, requests=9)
    assert done(replace(tried, calls=[failed])) == "9 requests, none of them accepted"
    for requests, denied, words in (
        (2, 2, "2 requests, both denied"),
        (1, 1, "1 request, denied"),
        (1, 0, "1 request, not accepted"),
    ):
        few = replace(REFUSED, requests=requests, denied=denied)
        assert done(replace(tried, calls=[few])) == words
    meanwhile = replace(tried, revoked_at=datetime(2026, 9, 29))
    assert story(meanwhile).startswith("This key was tried from")
    assert "revoked at 2026-09-29 00:00 UTC, and no request was accepted" in story(meanwhile)


def test_what_was_revoked_or_refused_at_last_does_not_go_on() -> None:
    """Requests that are denied, and use before a revocation, are over."""
    going_on = replace(THEFT, log_ends_at=MOST_OF_IT)
    assert going_on.goes_on
    assert not replace(going_on, calls=[EXPORTED, REFUSED]).goes_on
    assert not replace(going_on, revoked_at=MOST_OF_IT).goes_on
    assert replace(going_on, revoked_at=SINCE).goes_on


def test_other_sensitive_calls_are_counted_by_their_requests() -> None:
    calls = [
        replace(DELETED, endpoint=f"iam:Call{nth}", requests=9, accepted=9, why=None)
        for nth in range(5)
    ]
    assert done(replace(THEFT, calls=calls, accessed=0)) == (
        "called iam:Call0 9 times, called iam:Call1 9 times, called iam:Call2 9 times and made 18 "
        "other sensitive calls"
    )


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (replace(STOCKHOLM, origin_class="vpn", country="NL", name="AS9009 M247, NL"),
         "a VPN network in the Netherlands (AS9009 M247)"),
        (replace(STOCKHOLM, country=None, name="AS3301 Telia"), "an ISP (AS3301 Telia)"),
        (replace(STOCKHOLM, network="192.0.2.0/24", name="SE"), "an ISP in Sweden"),
        (replace(STOCKHOLM, network="private", origin_class="private", country=None,
                 name="private address"), "a private address"),
        (replace(STOCKHOLM, network="unknown", origin_class="unknown", country=None,
                 name="unknown address"), "an address that could not be located"),
    ],
)  # fmt: skip
def test_a_place_is_named_by_its_kind_country_and_operator(place: Place, words: str) -> None:
    assert str(place) == words


def test_the_chronology_has_the_first_of_each_kind_and_the_last_request() -> None:
    revoked = replace(THEFT, calls=[READ, EXPORTED, REFUSED], revoked_at=datetime(2026, 9, 30))
    assert chronology(revoked) == (
        Milestone(SINCE, "first request from AS3301 Telia Company AB, SE"),
        Milestone(datetime(2026, 9, 28, 4), "first denied request: POST /v1/keys"),
        Milestone(datetime(2026, 9, 29, 1, 2), "exported all data in one call (GET /v1/export)"),
        Milestone(datetime(2026, 9, 30), "the key was revoked"),
        Milestone(UNTIL, "last suspicious request"),
    )


def test_the_chronology_begins_with_the_first_place_however_few_requests_came_from_it() -> None:
    busy = [
        replace(STOCKHOLM, network=f"AS{nth}", first_seen=UNTIL, requests=500) for nth in range(3)
    ]
    first = replace(STOCKHOLM, network="private", origin_class="private", country=None,
                    name="private address", requests=1)  # fmt: skip
    steps = chronology(replace(THEFT, places=[*busy, first]))
    assert steps[0] == Milestone(SINCE, "first request from a private address")


def test_days_are_named_as_far_as_they_differ() -> None:
    assert when_between(SINCE, SINCE) == "on 28 September at 03:04 UTC"
    assert when_between(SINCE, SINCE.replace(hour=5)) == (
        "on 28 September between 03:04 and 05:04 UTC"
    )
    assert when_between(SINCE, datetime(2026, 10, 2)) == "between 28 September and 2 October"
    assert when_between(SINCE, SINCE.replace(day=29)) == "on 28 and 29 September"


def test_a_call_without_words_for_what_it_did_is_named() -> None:
    called = replace(EXPORTED, endpoint="CALL iam:CreateUser", why="a new account")
    assert called.deed == "called CALL iam:CreateUser"
    assert replace(EXPORTED, why=None).deed == "called GET /v1/export"


def test_words_for_what_a_call_did_are_in_the_past_tense() -> None:
    """A vendor's `why` begins with one of these verbs, or says what a call is for."""
    whys = {(source, one.why) for source, one in catalogue_by_source() if one.why}
    pulsely = {why for source, why in whys if source.startswith("pulsely")}
    assert pulsely
    assert all(why.partition(" ")[0] in PAST_TENSE for why in pulsely)
    listed_elsewhere = {
        why for source, why in whys
        if not source.startswith("pulsely") and why.partition(" ")[0] in PAST_TENSE - {"read"}
    }  # fmt: skip
    assert listed_elsewhere == set()


@pytest.mark.parametrize(
    ("action", "radius", "is_shared", "severity"),
    [
        ("none", SCANNED.blast_radius, False, "low"),
        ("revoke", SCANNED.blast_radius, False, "critical"),
        ("revoke", SECOND.blast_radius, False, "medium"),
        ("revoke", SECOND.blast_radius, True, "medium"),
        ("revoke", None, False, "high"),
        ("revoke", BlastRadius(requests_suspicious=1, requests_accepted=1), False, "high"),
        ("revoke", BlastRadius(requests_suspicious=1, requests_accepted=1), True, "critical"),
        ("revoke", BlastRadius(("admin:*",), requests_suspicious=1, requests_accepted=1), False,
         "critical"),
        ("investigate", SCANNED.blast_radius, False, "high"),
        ("investigate", DOUBTED.blast_radius, False, "medium"),
        ("investigate", DOUBTED.blast_radius, True, "high"),
        ("investigate", BlastRadius(("admin:*",), requests_suspicious=1, requests_accepted=1),
         False, "medium"),
        ("rotate", EXPOSED.blast_radius, False, "medium"),
    ],
)  # fmt: skip
def test_severity_is_by_what_was_done(
    action: str, radius: BlastRadius | None, is_shared: bool, severity: str
) -> None:
    assert severity_of(action, radius, is_shared=is_shared) == severity  # type: ignore[arg-type]


def test_a_case_comes_by_action_then_severity_then_what_was_refused_then_bits() -> None:
    investigated = replace(SCANNED, action="investigate", bits=99.0)
    weak = replace(SCANNED, bits=1.0, key_id="weak")
    exposed = replace(EXPOSED, bits=99.0)
    ordered = [SCANNED, weak, SECOND, exposed, investigated, DOUBTED]
    shuffled = [DOUBTED, exposed, weak, investigated, SECOND, SCANNED]
    assert sorted(shuffled, key=lambda case: case.urgency) == ordered


def test_confidence_is_by_facts_or_by_the_expected_share_of_innocent_cases() -> None:
    doubted = replace(DOUBTED, p_value=0.002, q_value=0.2)
    assert [
        case.confidence
        for case in (
            SCANNED, EXPOSED, doubted, replace(doubted, q_value=0.51), DOUBTED,
            replace(DOUBTED, bits=9.9),
        )
    ] == ["high", "high", "medium", "low", "medium", "low"]  # fmt: skip
