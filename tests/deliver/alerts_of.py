"""Alerts and messages as a review makes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from keywatch.deliver.message import Message, alert_message, upkeep_message, with_id
from keywatch.lake import Lake
from keywatch.model import Case, Group, Review
from keywatch.review import alerts
from keywatch.review.alerts import Change
from tests.report.reviews import DOUBTED, FULL, SCANNED

SOLO = replace(FULL, cases=(SCANNED, DOUBTED), groups=())
"""A key to revoke and one to look at, each by itself."""


def review_of(*cases: Case, groups: Sequence[Group] = (), run: str = "run_1") -> Review:
    return replace(FULL, cases=cases, groups=tuple(groups), run=replace(FULL.run, id=run))


def changes_of(review: Review) -> list[Change]:
    """What a new lake has to tell of `review`."""
    with Lake.in_memory() as lake:
        return alerts.update(lake, review, 10.0)


def upkeep_of(review: Review) -> Message:
    """The week's upkeep as one message."""
    message = upkeep_message(review.hygiene, review.window, "2026-10-05T06:00:00Z")
    return with_id(message, "msg_upkeep", "upkeep")


def messages_of(review: Review) -> list[Message]:
    return [
        with_id(alert_message(change), f"msg_{n}", "trigger")
        for n, change in enumerate(changes_of(review))
    ]
