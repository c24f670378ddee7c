"""Reviews to render: a full one, one without findings, and one with hostile values."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import date, datetime
from typing import Any

from keywatch.model import (
    About,
    BlastRadius,
    Case,
    Consumer,
    Coverage,
    Evidence,
    GivenVerdict,
    Group,
    HealthFinding,
    HygieneFinding,
    Impact,
    Milestone,
    NewNetwork,
    Origin,
    Review,
    Run,
    Technique,
    Window,
)
from keywatch.vendors import runbook

WEEK = Window(datetime(2026, 9, 28), datetime(2026, 10, 5))
RUN = Run("3f9ab2c41d07", 42, "9c1e77d0a4b2f318", "0.1.0")

OFFICE = Origin(
    "84.151.10.20", "84.151.10.0/24", 3320, "Deutsche Telekom AG", "DE", "isp",
    datetime(2026, 9, 28, 0, 0, 4), datetime(2026, 10, 4, 23, 59, 1), 10_080,
)  # fmt: skip
M247 = Origin(
    "45.153.78.122", "45.153.78.0/24", 9009, "M247 Europe SRL", "RO", "hosting",
    datetime(2026, 10, 1, 2, 11, 40), datetime(2026, 10, 1, 3, 4, 9), 412, 412,
)  # fmt: skip
HOME_V6 = Origin(
    "2a02:8109:b6bf:9200:a5d1:7c1:12fe:77", "2a02:8109:b6bf::/48", 3209, "Vodafone GmbH", "DE",
    "isp", datetime(2026, 10, 3, 9, 30), datetime(2026, 10, 4, 9, 45), 3,
)  # fmt: skip
SERVICE = Origin(
    "cloudtrail.amazonaws.com", None, None, None, None, "service",
    datetime(2026, 9, 29, 5, 0), datetime(2026, 9, 29, 5, 0), 1,
)  # fmt: skip

NEW_COUNTRY = Evidence(
    "unfamiliar_origin", "origin", 10.62,
    "3 addresses in 1 network over 64 days, mostly Deutsche Telekom AG, DE",
    "45.153.78.122 (M247 Europe SRL, RO)",
    "network and country never used by this key before",
    about=About(
        "Key used from an address it has never used before",
        Technique("T1078.004", "Valid Accounts", "Cloud Accounts", (("TA0001", "Initial Access"),)),
        "A first business trip, a new office or a cloud migration in the reviewed week.",
        "A thief inside a prefix that the key already uses is familiar.",
    ),
)  # fmt: skip
HOSTING = Evidence(
    "anonymous_network", "origin", 6.31, "0 of 64 days from a hosting network",
    "45.153.78.0/24 (M247 Europe SRL, RO)", "first use from a hosting network",
)  # fmt: skip
NEW_CALLS = Evidence(
    "unfamiliar_endpoint", "endpoints", 9.84, "3 endpoints over 64 days, mostly GET /v1/metrics",
    "5 new: GET /v1/keys, GET /v1/members, GET /v1/billing, …",
    "endpoints new to this key and rare among its peers",
)  # fmt: skip
PROBED = Evidence(
    "denied_probe", "policy", 8.2, "0.0 denied requests a day, at most 1",
    "61 requests denied, at 9 endpoints never denied before, mostly at GET /v1/members",
    "requests beyond the permissions of this key (401 or 403)",
)  # fmt: skip
WALKED = Evidence(
    "object_enumeration", "volume", 5.5, "12 objects a day, at most 15", "380 objects",
    "more distinct objects than on any previous day",
)  # fmt: skip
CURL = Evidence(
    "unfamiliar_agent", "client", 3.14, "1 client over 64 days, mostly Grafana/10",
    "python-requests/2", "client never used by this key before",
)  # fmt: skip
OVERDUE = Evidence(
    "rotation_overdue", "policy", 0.7, "rotated every 90 days", "created 146 days ago",
    "rotation overdue by 56 days, since 2026-08-10",
)  # fmt: skip

RADIUS = BlastRadius(
    scopes_granted=("read:metrics", "read:checks"),
    scopes_used=("read:checks", "read:metrics"),
    sensitive_endpoints_used=("GET /v1/keys", "GET /v1/members"),
    requests_suspicious=412,
    objects_suspicious=380,
    response_bytes_suspicious=1_240_000,
    requests_accepted=351,
    requests_denied=61,
    sensitive_endpoints_suspicious=("GET /v1/keys", "GET /v1/members"),
)
IMPACT = Impact(
    legitimate_requests_per_day=1440.0,
    consumers=(
        Consumer("Grafana/10", "Deutsche Telekom AG, DE", 1439.5),
        Consumer("curl/8", "Vodafone GmbH, DE", 0.5),
    ),
    consumers_total=2,
    scopes_needed=("read:metrics",),
)

SCANNED = Case(
    key_id="key_0700353",
    key="ply_live_prod_4f8a2c…9e1d",
    name="Grafana dashboards",
    owner="team-observability",
    environment="prod",
    standing="assessed",
    action="revoke",
    bits=40.68,
    p_value=None,
    q_value=None,
    summary=f"{NEW_COUNTRY.explanation}; {NEW_CALLS.explanation}; {PROBED.explanation}",
    story="This key listed API keys, listed members and read 380 objects from a hosting network in "
    "Romania (AS9009 M247 Europe SRL) on 1 October between 02:11 and 03:04 UTC with "
    "python-requests, a client new to this key, while its usual requests continued from Germany. "
    "61 of 412 requests were denied.",
    done="listed API keys, listed members and read 380 objects",
    chronology=(
        Milestone(
            datetime(2026, 10, 1, 2, 11, 40), "first request from AS9009 M247 Europe SRL, RO"
        ),
        Milestone(datetime(2026, 10, 1, 2, 12, 3), "first denied request: GET /v1/billing"),
        Milestone(datetime(2026, 10, 1, 2, 20), "listed API keys (GET /v1/keys)"),
        Milestone(datetime(2026, 10, 1, 3, 4, 9), "last suspicious request"),
    ),
    origins=(M247, OFFICE, HOME_V6),
    evidence=(NEW_COUNTRY, NEW_CALLS, PROBED, HOSTING, WALKED, CURL, OVERDUE),
    blast_radius=RADIUS,
    impact=IMPACT,
    steps=(
        "Revoke ply_live_prod_4f8a2c…9e1d now (Settings, API keys)",
        "Create a replacement in the Pulsely dashboard (Settings, API keys) with read:metrics",
        "Switch the consumers to the replacement: Grafana/10 at Deutsche Telekom AG, DE; curl/8 at "
        "Vodafone GmbH, DE",
        "Verify that use has stopped: run keywatch review for the days after",
        "Investigate the activity from 45.153.78.0/24: 412 requests",
    ),
    events_query=(
        "SELECT ts, address, method, path, status, user_agent FROM lake.events "
        "WHERE key_id = 'key_0700353' AND day = DATE '2026-10-01' "
        "AND address IN ('45.153.78.122') ORDER BY ts"
    ),
)
ACKNOWLEDGED = GivenVerdict(
    "compromised", "ana", "in a public repository", datetime(2026, 10, 5, 9)
)
SECOND = replace(
    SCANNED,
    key_id="key_0700411",
    key="ply_live_prod_77b0aa…01fc",
    name="CI smoke tests",
    owner="team-delivery",
    action="revoke",
    bits=20.07,
    verdict=ACKNOWLEDGED,
    p_value=0.00041,
    q_value=0.0123,
    summary="the key was revoked on 2026-09-20 and is tried again from the campaign's address",
    story="This key was revoked on 20 September and then tried from a hosting network in Romania "
    "(AS9009 M247 Europe SRL) on 1 October between 02:11 and 03:04 UTC with curl: 412 requests, "
    "all denied. There were no usual requests on that day.",
    done="412 requests, all denied",
    chronology=(
        Milestone(
            datetime(2026, 10, 1, 2, 11, 40), "first request from AS9009 M247 Europe SRL, RO"
        ),
        Milestone(datetime(2026, 10, 1, 2, 11, 40), "first denied request: GET /v1/me"),
        Milestone(datetime(2026, 10, 1, 3, 4, 9), "last suspicious request"),
    ),
    blast_radius=replace(
        RADIUS, requests_accepted=0, requests_denied=412, sensitive_endpoints_suspicious=()
    ),
    origins=(M247,),
    evidence=(NEW_COUNTRY, HOSTING, CURL),
    impact=Impact(successor_key_id="key_0700502"),
    steps=("The key is already revoked: revoke it again if it is still accepted",),
    events_query=SCANNED.events_query.replace("key_0700353", "key_0700411"),
)
DOUBTED = Case(
    key_id="AKIAIOSFODNN7EXAMPLE",
    key=None,
    name=None,
    owner="arn:aws:iam::123456789012:user/terraform",
    environment=None,
    standing="warming_up",
    action="investigate",
    bits=17.3,
    p_value=None,
    q_value=None,
    summary="client never used by this key before; endpoints rarely called by keys like this one",
    origins=(HOME_V6, SERVICE),
    evidence=(
        CURL,
        replace(NEW_CALLS, explanation="endpoints rarely called by keys like this one", bits=14.16),
    ),
    story="This key made 3 requests (mostly s3:GetObject) from an ISP in Germany (AS3209 Vodafone "
    "GmbH) on 3 and 4 October with curl. The key has too little history to tell its usual use.",
    done="made 3 requests (mostly s3:GetObject)",
    chronology=(
        Milestone(datetime(2026, 10, 3, 9, 30), "first request from AS3209 Vodafone GmbH, DE"),
        Milestone(datetime(2026, 10, 4, 9, 45), "last suspicious request"),
    ),
    blast_radius=BlastRadius(requests_suspicious=3, objects_suspicious=1, requests_accepted=3),
    impact=Impact(),
    steps=(
        "Ask arn:aws:iam::123456789012:user/terraform to confirm the use from 2a02:8109:b6bf::/48",
        "Investigate the activity from 2a02:8109:b6bf::/48: 3 requests",
        "If the use is not confirmed, treat the key as stolen and revoke it",
    ),
    events_query=SCANNED.events_query.replace("key_0700353", "AKIAIOSFODNN7EXAMPLE"),
)


CLEARED = replace(
    SCANNED,
    key_id="key_0700430",
    name="Nightly backup",
    owner="team-storage",
    action="none",
    scored_action="revoke",
    verdict=GivenVerdict("benign", "ana", "our new region", datetime(2026, 10, 5, 9)),
    bits=31.2,
    steps=(),
    events_query=SCANNED.events_query.replace("key_0700353", "key_0700430"),
)


EXPOSED = Case(
    key_id="key_0700620",
    key="ply_live_prod_a1b2c3…77aa",
    name="Mobile app",
    owner="team-mobile",
    environment="prod",
    standing="assessed",
    action="rotate",
    bits=20.0,
    p_value=None,
    q_value=None,
    summary="the full key stood in a path, a query or an agent, where others read it",
    origins=(OFFICE,),
    evidence=(
        Evidence(
            "exposed_key", "policy", 20.0, "the key in a header alone",
            "12 requests with the full key, on 2026-10-01",
            "the full key stood in a path, a query or an agent, where others read it",
        ),
    ),
    blast_radius=BlastRadius(scopes_granted=("read:metrics",), scopes_used=("read:metrics",)),
    impact=IMPACT,
    steps=runbook.steps(
        "rotate",
        runbook.KeyAtHand(
            "key_0700620", "the origins above", 0, "ply_live_prod_a1b2c3…77aa", "team-mobile",
            "prod", scopes_needed=("read:metrics",),
            consumers=tuple(asdict(one) for one in IMPACT.consumers),
        ),
    ),
    events_query=SCANNED.events_query.replace("key_0700353", "key_0700620"),
)  # fmt: skip


CAUGHT = NewNetwork(
    "key_0700353", "ply_live_prod_4f8a2c…9e1d", "Grafana dashboards", "team-observability",
    "AS9009", "M247 Europe SRL", ("RO", "US"), "hosting", ("45.153.78.0/24", "45.153.80.0/24"), 3,
    412, datetime(2026, 10, 1, 2, 11), datetime(2026, 10, 2, 3, 4), True, 0, None,
    date(2026, 9, 24), "revoke", 40.68, "to revoke; flagged since 2026-09-24, still open",
)  # fmt: skip
MOVED = NewNetwork(
    "key_0700500", None, None, None, "AS24940", "Hetzner Online GmbH", ("DE",), "hosting",
    ("88.198.1.0/24",), 1, 1_440, datetime(2026, 9, 30), datetime(2026, 10, 4, 23, 59), False, 2,
    date(2026, 7, 1), None, "none", 0.0, "migration of 3 keys, to be confirmed",
)  # fmt: skip
INSIDE = replace(
    MOVED, key_id="key_0700501", name="Intern's laptop", network="private", organization=None,
    countries=(), origin_class="private", prefixes=("10.1.2.0/24",), requests=1, owner_keys=0,
    owner_since=None, last_seen=MOVED.first_seen, bits=2.25, outcome="too little to act on",
)  # fmt: skip


def watched(number: int) -> Case:
    """A case without an action, the less strange the higher its number."""
    return replace(
        SCANNED,
        key_id=f"key_07009{number:02}",
        name=f"Status page {number}",
        owner=None,
        action="none",
        story="",
        done="",
        chronology=(),
        bits=16.0 / (number + 1),
        summary="new address in a prefix this key uses",
        evidence=(replace(CURL, bits=16.0 / (number + 1)),),
        blast_radius=BlastRadius(),
        steps=(),
        events_query=SCANNED.events_query.replace("key_0700353", f"key_07009{number:02}"),
    )


UPKEEP_ONLY = replace(watched(90), key_id="key_0700077", bits=0.0, evidence=(OVERDUE,))

LATE = HygieneFinding(
    "key_0700353", "rotation_overdue", "rotation overdue by 56 days, since 2026-08-10",
    "ply_live_prod_4f8a2c…9e1d", "Grafana dashboards", "team-observability", "prod", "rotate",
    date(2026, 8, 10), 56,
)  # fmt: skip
REMINDED = replace(
    LATE, key_id="key_0700500", detector="rotation_due", name="Billing export",
    owner="team-billing", explanation="rotate by 2026-10-12", due_on=date(2026, 10, 12), days=-7,
)  # fmt: skip

FULL = Review(
    WEEK,
    RUN,
    Coverage(
        keys=202, assessed=171, warming_up=11, not_assessable=6, silent=14, events=1_204_331,
        unlocated_addresses=7, keyless_events=12, rejected_lines=1, history_days=83.9,
        notes=("The last event is from 2026-10-03 21:14 UTC: the window is incomplete.",),
        keys_without_past=3,
    ),
    (SCANNED, CLEARED, SECOND, DOUBTED, *(watched(number) for number in range(12)), UPKEEP_ONLY),
    (
        Group("campaign", ("key_0700353", "key_0700411"), "45.153.78.122 (M247 Europe SRL, RO)",
              "one address that no key had used before is new on both within an hour"),
    ),
    (
        REMINDED,
        LATE,
        *(replace(LATE, key_id=f"key_07000{number}", name=f"Status page {number}", owner=None,
                  explanation="rotation overdue by 9 days, since 2026-09-26",
                  due_on=date(2026, 9, 26), days=9)
          for number in range(70, 81)),
        HygieneFinding(
            "key_0700071", "wildcard_scope", "whoever holds this key can do everything",
            name="Status page 71", action="none",
        ),
    ),
    (CAUGHT, INSIDE, MOVED),
)  # fmt: skip

TO_ROTATE = replace(FULL, cases=(EXPOSED, DOUBTED, UPKEEP_ONLY), groups=())
"""An exposed key, one to look at, and one that is only overdue."""

QUIET = Review(
    WEEK,
    RUN,
    Coverage(keys=40, assessed=37, warming_up=2, not_assessable=1, silent=0, events=81_220,
             unlocated_addresses=0, history_days=61.0),
    (watched(3),),
)  # fmt: skip

AILING = replace(
    QUIET,
    health=(
        HealthFinding(
            "log_ended", "",
            "the log has ended: its last event was at 2026-10-04 23:58 UTC, 53 days ago",
        ),
        *(
            HealthFinding(
                "key_silent", f"key_{nth}",
                f"key key_{nth} (no owner) was used nearly every day, but not since 2026-09-0{nth}",
            )
            for nth in range(1, 8)
        ),
        HealthFinding("ip_data_old", "bundled", "the bundled databases are old", is_note=True),
    ),
)  # fmt: skip
"""A quiet week of a log that ended, of seven keys that stopped, and old databases."""

UNASSESSED = Review(
    Window(datetime(2023, 7, 10), datetime(2023, 7, 17)),
    RUN,
    Coverage(
        keys=9,
        assessed=0,
        warming_up=9,
        not_assessable=0,
        silent=0,
        events=2_641,
        unlocated_addresses=0,
        keyless_events=259,
        history_days=55 / 1440,
        notes=("The lake has only 55 minutes of history.",),
    ),
    (DOUBTED,),
)

EMPTY = Review(
    Window(datetime(2026, 9, 30, 6, 0), datetime(2026, 9, 30, 6, 15)),
    RUN,
    Coverage(keys=0, assessed=0, warming_up=0, not_assessable=0, silent=0, events=0,
             unlocated_addresses=0, notes=("The lake has no events of any key before the end "
                                           "of the window.",)),
    (),
)  # fmt: skip


def filled_with(text: str) -> Review:
    """The full review with `text` wherever a log or an inventory could put it."""

    def with_text(stakes: Any) -> Any:
        """`stakes`, twenty times as many, and `text` in place of each name."""
        names = {
            name: (text,) * (20 * len(value))
            for name, value in vars(stakes).items()
            if isinstance(value, tuple)
        }
        return replace(stakes, **names)

    def in_case(case: Case) -> Case:
        return replace(
            case, key_id=text, key=text, name=text, owner=text, environment=text, summary=text,
            origins=tuple(
                replace(origin, ip=text, prefix=text, organization=text, country=text)
                for origin in case.origins * 20
            ),
            evidence=tuple(
                replace(item, typical=text, actual=text, explanation=text)
                for item in case.evidence
            ),
            blast_radius=case.blast_radius and with_text(case.blast_radius),
            impact=case.impact and replace(
                with_text(case.impact),
                consumers=tuple(
                    replace(one, agent=text, origin=text) for one in case.impact.consumers * 20
                ),
            ),
            steps=(text,) * len(case.steps), events_query=text,
            verdict=case.verdict and replace(case.verdict, by=text, because=text),
        )  # fmt: skip

    return replace(
        FULL,
        cases=tuple(in_case(case) for case in FULL.cases * 4),
        groups=(Group("migration", (text,) * 30, text, text),),
        hygiene=tuple(
            replace(
                finding,
                key_id=text,
                key=text,
                name=text,
                owner=text,
                environment=text,
                explanation=text,
            )
            for finding in FULL.hygiene
        ),
        new_networks=tuple(
            replace(
                one,
                key_id=text,
                key=text,
                name=text,
                owner=text,
                network=text,
                organization=text,
                countries=(text,) * 9,
                prefixes=(text,) * 5,
                outcome=text,
            )
            for one in FULL.new_networks * 10
        ),
        coverage=replace(FULL.coverage, notes=(text,)),
        health=tuple(HealthFinding("key_silent", text, text) for _ in range(8)),
    )


HOSTILE_TEXT = (
    "\x1b[2J\x1b[31mok\x1b[0m\r\n\nREVOKE  key_1  99.0 bits\u2028\u202e\u200b\ud800\x9b"
    "[bold red]x[/] :smile: $(reboot) ' \t日本語"
)
HOSTILE = filled_with(HOSTILE_TEXT)
