"""Keys that are used alike expect each other's endpoints."""

from __future__ import annotations

import pyarrow as pa
import pytest

from keywatch.detect.kinds.peers import expected_endpoints


def used(*pairs: tuple[str, str]) -> pa.Table:
    keys, endpoints = zip(*pairs, strict=True)
    return pa.table({"key_id": list(keys), "endpoint": list(endpoints)})


def two_ways_of_use() -> list[tuple[str, str]]:
    dashboards = [(f"d{i}", e) for i in range(30) for e in ("checks", "metrics", "alerts")]
    deploys = [(f"t{i}", e) for i in range(30) for e in ("create", "delete", "apply")]
    return dashboards + deploys


def test_what_keys_used_alike_call_is_expected_and_nothing_else() -> None:
    pairs = [pair for pair in two_ways_of_use() if pair != ("d0", "metrics")]
    rows = expected_endpoints(used(*pairs)).to_pylist()
    share = {(row["key_id"], row["endpoint"]): row["share"] for row in rows}
    assert share["d0", "metrics"] > 0.5
    assert share.get(("d0", "delete"), 0.0) < 0.05
    assert share.get(("t0", "metrics"), 0.0) < 0.05
    assert all(0 < value <= 1 for value in share.values())


def test_the_same_use_gives_the_same_expectation() -> None:
    table = used(*two_ways_of_use())
    assert expected_endpoints(table) == expected_endpoints(table)


def test_few_keys_have_no_peers() -> None:
    assert expected_endpoints(used(("a", "x"), ("b", "y"))).num_rows == 0


def test_many_keys_and_endpoints_are_never_in_memory_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = used(*two_ways_of_use())
    whole = expected_endpoints(table)
    # Of 60 keys and 6 endpoints, seven keys at a time.
    monkeypatch.setattr("keywatch.detect.kinds.peers._MOST_CELLS", 42)
    parts = expected_endpoints(table)
    assert parts.drop_columns("share") == whole.drop_columns("share")
    assert parts["share"].to_pylist() == pytest.approx(whole["share"].to_pylist())
