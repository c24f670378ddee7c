"""`unfamiliar_place` and what an analyst said before: the rule stays awake."""

from __future__ import annotations

from datetime import timedelta

import pytest

from keywatch.content import content_path
from keywatch.detect import detectors
from keywatch.lake import Lake
from tests.detect.test_prepare import (
    OWN,
    START,
    STRANGER,
    WINDOW,
    YESTERDAY,
    flag,
    origin,
    places,
    prepare,
    reviewed,
    use,
    verdict,
)

OTHER = "198.51.100.9"
BEFORE = ((STRANGER, "203.0.113.0/24"), ("203.0.115.9", "203.0.115.0/24"))


def named(lake: Lake) -> list[str]:
    prepare(lake)
    rule = detectors.load_detector(content_path("detectors") / "unfamiliar_place")
    detectors.run(lake, rule, WINDOW)
    return [prefix for (prefix,) in lake.rows("SELECT DISTINCT prefix FROM evidence ORDER BY ALL")]


@pytest.mark.parametrize(
    ("what", "before", "is_named"),
    [
        (None, 1, True),  # one odd visit does not silence the rule
        (None, 2, False),
        ("compromised", 2, True),
        ("benign", 2, True),
        ("expected", 2, True),
    ],
)
def test_what_the_key_did_before_leaves_it_steady_or_not(
    what: str | None, before: int, is_named: bool
) -> None:
    with Lake.in_memory() as lake:
        places(lake)
        origin(lake, OTHER, prefix="198.51.100.0/24", asn=7, country="US", **{"class": "hosting"})
        origin(lake, "203.0.115.9", prefix="203.0.115.0/24", asn=8, country="RO")
        reviewed(lake)
        for n in range(-6, 60):
            use(lake, START - timedelta(days=n), address=OWN)
        for address, prefix in (*BEFORE,)[:before]:
            use(lake, YESTERDAY, address=address)
            if what:
                flag(lake, YESTERDAY, prefix)
        use(lake, START, address=OTHER)
        if what:
            verdict(lake, what)
        assert named(lake) == ["198.51.100.0/24"] * is_named
