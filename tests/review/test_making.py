"""A review and the scored window that it is made of, whatever the connection scores next."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from keywatch import deliver, pipeline
from keywatch.errors import UsageError
from keywatch.lake import Lake
from keywatch.lake.weeks import week_window
from keywatch.report import render_review
from keywatch.review import making, recommend
from keywatch.settings import ReviewSettings
from keywatch.text.document import review_document
from tests.test_pipeline import SETTINGS, daily, lake_of, theft

WEEKS = week_window("2026-W38"), week_window("2026-W39")
TOR_EXIT = "185.220.101.1"


def test_a_log_of_a_proxys_addresses_promises_nothing(tmp_path: Path) -> None:
    proxies = ("10.0.0.7", "10.0.0.8")
    events = [
        each
        for n, ip in enumerate(proxies)
        for each in daily(date(2026, 8, 1), 58, key_id=f"key_{n}", ip=ip)
    ]
    settings = SETTINGS.model_copy(update={"review": ReviewSettings(replayed_windows=1)})
    folder = lake_of(tmp_path, events, [])
    with Lake.open(folder) as lake, lake.reading():
        answer, _ = making.make_review(lake, WEEKS[1], settings)
    coverage = review_document(answer)["coverage"]
    assert coverage["proxy_addresses"] == list(proxies)
    assert coverage["power"] == []
    assert coverage["notes"][0].startswith(
        "Places cannot be assessed: nearly all requests come from 10.0.0.7 and 10.0.0.8, private "
    )
    assert coverage["calibration"] is not None
    assert coverage["notes"][0][:60] in " ".join(render_review(answer).split())
    with pytest.raises(UsageError, match="places cannot be assessed"):
        pipeline.power_of_keys(folder, WEEKS[1], settings)


def stolen_on(day: str, key_id: str) -> list[dict[str, Any]]:
    """A theft that the rule names where nothing is calibrated."""
    return [
        each | {"timestamp": each["timestamp"].replace("2026-10-01", day), "ip": TOR_EXIT}
        for each in theft(key_id)
    ]


def test_evidence_of_equal_weight_is_always_in_the_same_order(tmp_path: Path) -> None:
    events = daily(date(2026, 8, 1), 60) + stolen_on("2026-09-17", "key_1")
    with Lake.open(lake_of(tmp_path, events, [])) as lake, lake.reading():
        answer, scored = making.make_review(lake, WEEKS[0], SETTINGS)
        said = scored.evidence.to_pylist()
        (one,) = (row for row in said if row["detector"] == "unfamiliar_agent" and row["bits"] > 0)
        alike = [one | {"explanation": f"reason {n}"} for n in range(20)]
        explanations = []
        for rows in (alike, alike[::-1]):
            evidence = pa.Table.from_pylist([*said, *rows], scored.evidence.schema)
            (case,) = recommend.build_cases(
                lake, replace(scored, evidence=evidence), dict(answer.standings), whole=True
            )
            explanations.append([each.explanation for each in case.evidence])
    assert sum(each.startswith("reason ") for each in explanations[0]) == len(alike)
    assert explanations[0] == explanations[1]


def test_a_scored_window_keeps_no_evidence_of_keys_that_only_are_as_usual(tmp_path: Path) -> None:
    events = [
        each for key_id in ("key_1", "key_2") for each in daily(date(2026, 8, 1), 60, key_id=key_id)
    ]
    events += stolen_on("2026-09-17", "key_1")
    usual = "SELECT count(*) FROM evidence WHERE bits < 0 AND key_id = $key_id"
    with Lake.open(lake_of(tmp_path, events, [])) as lake, lake.reading():
        _, scored = making.make_review(lake, WEEKS[0], SETTINGS)
        assert all(lake.value(usual, key_id=key_id) for key_id in ("key_1", "key_2"))
        against = lake.rows("SELECT DISTINCT key_id, detector FROM evidence WHERE bits > 0")
        kept = {(row["key_id"], row["detector"]) for row in scored.evidence.to_pylist()}
    assert kept == {*against}
    assert any(row["bits"] < 0 for row in scored.evidence.to_pylist())


def test_of_two_reviews_on_one_connection_each_keeps_its_own_findings(tmp_path: Path) -> None:
    keys = ("key_1", "key_2")
    events = [each for key_id in keys for each in daily(date(2026, 8, 1), 60, key_id=key_id)]
    events += stolen_on("2026-09-17", "key_1") + stolen_on("2026-09-24", "key_2")
    outbox = deliver.Outbox(SETTINGS.deliver)
    with Lake.open(lake_of(tmp_path, events, [])) as lake:
        with lake.reading():
            first, second = (making.make_review(lake, week, SETTINGS) for week in WEEKS)
        making.keep(lake, *second, SETTINGS, outbox)
        making.keep(lake, *first, SETTINGS, outbox)
        run_ids = [answer.run.id for answer, _ in (first, second)]
        for table in ("flagged_visits", "evidence", "recommendations"):
            kept = lake.rows(f"SELECT DISTINCT run_id, key_id FROM lake.{table}")
            assert set(kept) == set(zip(run_ids, keys, strict=True))
        acted = "SELECT run_id, key_id FROM lake.cases WHERE action <> 'none'"
        assert set(lake.rows(acted)) == set(zip(run_ids, keys, strict=True))
        assert first[1].suspicious_visits(lake) == [
            ("key_1", date(2026, 9, 17), "185.220.101.0/24")
        ]
