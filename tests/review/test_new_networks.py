"""Networks that a key came from for the first time, alerted or not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

import keywatch
from keywatch import pipeline
from keywatch.model import NewNetwork, Review, Window
from keywatch.report import render_new_networks, render_review
from keywatch.text.document import review_document
from tests.test_pipeline import AWAY, NO_REPLAY, WEEK, crowd, daily, key, lake_of, line, theft

FIRST, MONDAY = date(2026, 8, 1), date(2026, 9, 28)
NEXT_WEEK = Window(WEEK.end, WEEK.end + timedelta(days=7))
HETZNER, CONTABO, TELEKOM, SRL = "88.198.1.1", "217.216.65.194", "84.152.1.9", "91.234.56.78"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    events = [
        *crowd(),
        *daily(FIRST, 72),
        *theft(),
        line("2026-10-07T03:00:00", ip=AWAY, endpoint="/v1/keys", user_agent="curl/8.4.0"),
        # And from where another key of its owner always is.
        line("2026-10-03T12:30:00", ip=SRL),
        *daily(FIRST, 65, key_id="helper", ip=SRL),
        # Leaves its old place on Wednesday.
        *daily(FIRST, 60, key_id="mover"),
        *daily(date(2026, 9, 30), 12, key_id="mover", ip=HETZNER),
        # Goes where another key of its owner has been for weeks.
        *daily(date(2026, 8, 10), 60, key_id="twin", ip=CONTABO),
        *daily(FIRST, 65, key_id="trier"),
        line("2026-10-02T09:00:00", key_id="trier", ip=CONTABO),
        # A new key of the place that the key before it had; and one of which nothing is known.
        *daily(FIRST, 58, key_id="old", ip=HETZNER),
        *daily(MONDAY, 7, key_id="successor", ip=HETZNER),
        *daily(MONDAY, 7, key_id="young", ip=HETZNER),
        # Another prefix of the network that it always comes from.
        *daily(FIRST, 65, key_id="roamer"),
        line("2026-10-02T09:00:00", key_id="roamer", ip=TELEKOM),
    ]
    owners = {"mover": "m", "roamer": "r", "twin": "b", "trier": "b", "old": "o",
              "helper": "team-a"}  # fmt: skip
    keys = [key(), key("successor", name="next", owner="o", replaces="old")]
    keys += [key(key_id, name=key_id, owner=owner) for key_id, owner in owners.items()]
    return lake_of(tmp_path_factory.mktemp("networks"), events, keys)


@pytest.fixture(scope="module")
def answer(folder: Path) -> Review:
    return pipeline.review(folder, WEEK, NO_REPLAY)


@pytest.fixture
def undone(folder: Path) -> Iterator[None]:
    """The verdict that the test gives is withdrawn after it."""
    yield
    pipeline.undo_verdict(folder, "key_1", NO_REPLAY, by="ana", because="a test", window=WEEK)


def of(answer: Review, key_id: str) -> NewNetwork:
    """The first network of a key."""
    return next(one for one in answer.new_networks if one.key_id == key_id)


def test_who_came_from_somewhere_new_and_what_was_made_of_it(answer: Review) -> None:
    case = next(case for case in answer.cases if case.key_id == "key_1")
    thief = answer.new_networks[0]

    assert thief == NewNetwork(
        key_id="key_1", key="ply_live_prod_4f8a2c…9e1d", name="status board", owner="team-a",
        network="AS396982", organization="Google LLC", countries=("DK",), origin_class="hosting",
        prefixes=("45.153.78.0/24",), addresses=1, requests=10,
        first_seen=datetime(2026, 10, 1, 3), last_seen=datetime(2026, 10, 1, 3, 9),
        old_place_in_use=True, owner_keys=0, owner_since=None, open_since=None,
        action=case.action, bits=case.bits, outcome=f"to {case.action}",
    )  # fmt: skip
    assert [one.network for one in answer.new_networks if one.key_id == "key_1"] == [
        "AS396982",
        "AS49074",
    ]
    assert {one.key_id for one in answer.new_networks} == {"key_1", "mover", "trier"}


def test_a_move_is_told_from_a_visit(answer: Review) -> None:
    mover, trier = of(answer, "mover"), of(answer, "trier")

    assert (mover.network, mover.requests, mover.old_place_in_use) == ("AS24940", 5, False)
    assert (trier.network, trier.requests, trier.old_place_in_use) == ("AS40021", 1, True)
    assert (trier.owner_keys, trier.owner_since) == (1, date(2026, 8, 10))
    assert (mover.owner_keys, mover.owner_since) == (0, None)


def test_a_key_without_a_past_is_counted_and_not_listed(answer: Review) -> None:
    assert answer.coverage.keys_without_past == 1
    assert "1 key with no history" in render_new_networks(answer)


def test_what_was_flagged_is_still_open_a_week_later(folder: Path, answer: Review) -> None:
    again = of(pipeline.review(folder, NEXT_WEEK, NO_REPLAY, keep=False), "key_1")

    assert (again.requests, again.open_since) == (1, date(2026, 10, 1))
    assert again.outcome.endswith("flagged since 2026-10-01, still open")


def test_a_verdict_is_told(folder: Path, answer: Review, undone: None) -> None:
    pipeline.give_verdict(
        folder, "key_1", "expected", NO_REPLAY, by="ana", because="ours", until=date(2026, 12, 1),
        window=WEEK,
    )  # fmt: skip
    expected = of(pipeline.review(folder, WEEK, NO_REPLAY, keep=False), "key_1")
    assert "expected by ana until 2026-12-01" in expected.outcome
    # It is the owner's from now on, so next week it is no news.
    later = pipeline.review(folder, NEXT_WEEK, NO_REPLAY, keep=False)
    assert "AS396982" not in {one.network for one in later.new_networks}


def test_a_theft_with_a_verdict_stays_on_the_list(
    folder: Path, answer: Review, undone: None
) -> None:
    pipeline.give_verdict(
        folder, "key_1", "compromised", NO_REPLAY, by="ana", because="leaked", window=WEEK
    )
    again = of(pipeline.review(folder, NEXT_WEEK, NO_REPLAY, keep=False), "key_1")
    assert again.outcome.endswith("flagged since 2026-10-01, verdict compromised")


def test_the_list_can_be_read_back_in_its_order(folder: Path, answer: Review) -> None:
    table = keywatch.open(folder, frames="arrow").new_networks("2026-W40")
    assert isinstance(table, pa.Table)
    rows = table.to_pylist()

    told = review_document(answer)["new_networks"]
    assert [(row["key_id"], row["network"], row["outcome"]) for row in rows] == [
        (one["key_id"], one["network"], one["outcome"]) for one in told
    ]
    assert list(rows[0]) == list(told[0])


def test_alerted_networks_come_first_then_the_strangest(answer: Review) -> None:
    order = [(one.action == "none", -one.bits, -one.requests) for one in answer.new_networks]
    assert order == sorted(order)
    # What is no part of a case is not alerted, though its key is.
    first, other = (one for one in answer.new_networks if one.key_id == "key_1")
    assert (answer.new_networks[0], other.action) == (first, "none")
    assert answer.new_networks[1] != other


def test_the_text_shows_the_first_and_tells_how_to_see_the_rest(answer: Review) -> None:
    many = replace(answer, new_networks=answer.new_networks * 8)
    text = render_review(many)
    assert "New networks: 32" in text
    assert "and 12 more: keywatch review --week 2026-W40 --networks\n" in text
    assert render_new_networks(many).count("AS396982 Google LLC, DK, hosting") == 8


def test_a_quiet_week_says_so(folder: Path) -> None:
    before = Window(WEEK.start - timedelta(days=7), WEEK.start)
    answer = pipeline.review(folder, before, NO_REPLAY, keep=False)

    assert answer.new_networks == ()
    assert "No key was used from a network that is new to it." in render_new_networks(answer)
