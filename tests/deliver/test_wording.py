"""Text for people: what reads as before, and what no program may take for more."""

from __future__ import annotations

from pathlib import Path

import pytest

from keywatch.deliver.wording import as_text, inert
from tests.deliver.alerts_of import messages_of, review_of
from tests.report.reviews import FULL, SCANNED, SECOND

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize(
    "text",
    [
        "45.153.78.122 (AS9009 M247 Europe S.A., RO): 412 requests",
        "2a02:8109:b6bf:9200:a5d1:7c1:12fe:77",
        "Grafana/10.4.3",
        "read:checks, admin:*",
        "GET /v1/checks/{id}/results",
        "5.2 MB of answers; 3.14 bits.",
        "arn:aws:iam::123456789012:user/terraform",
    ],
)
def test_what_is_no_address_stays_as_it_is(text: str) -> None:
    assert inert(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://evil.example/x", "https[:]//evil[.]example/x"),
        ("see www.evil.co.uk now", "see www.evil.co[.]uk now"),
        ("javascript:alert(1)", "javascript[:]alert(1)"),
        ("mailto:a@evil.example", "mailto[:]a@evil[.]example"),
        ("пример.рф", "пример[.]рф"),
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("-2+3", "'-2+3"),
    ],
)
def test_what_a_program_would_follow_is_broken(text: str, shown: str) -> None:
    assert inert(text) == shown


def test_an_alert_as_text_has_all_that_is_needed_to_decide() -> None:
    (message,) = messages_of(review_of(SCANNED))
    assert as_text(message) == (GOLDEN / "alert.txt").read_text(encoding="utf-8")


def test_a_campaign_as_text_names_its_keys() -> None:
    (message,) = messages_of(review_of(SCANNED, SECOND, groups=FULL.groups))
    lines = as_text(message).splitlines()
    assert lines[0] == (
        "REVOKE campaign: 2 keys used from 45.153.78.122 (M247 Europe SRL, RO)  [critical]"
    )
    keys = [line for line in lines if line.startswith("  - ")]
    assert [line.split()[1] for line in keys] == ["key_0700353", "key_0700411"]
    assert keys[0].endswith("owner team-observability): revoke")
    assert any(
        "Revoke now: ply_live_prod_4f8a2c…9e1d, ply_live_prod_77b0aa…01fc" in x for x in lines
    )
