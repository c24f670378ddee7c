"""What a scenario cannot say: a log that names its calls."""

from __future__ import annotations

from datetime import datetime

import pytest

from keywatch.lake import Lake
from tests.conftest import ROOT

SQL = (ROOT / "detectors" / "unknown_scope" / "detect.sql").read_text(encoding="utf-8")


@pytest.mark.parametrize(("scope", "found"), [("secrets:read", ["key_1"]), (None, [])])
def test_without_scopes_in_the_catalogue_none_is_unknown(
    scope: str | None, found: list[str]
) -> None:
    with Lake.in_memory() as lake:
        lake.execute(
            "CREATE TEMP TABLE source_catalogue AS "
            "SELECT 'log' AS source, 'get:secrets' AS endpoint, $scope AS scope",
            scope=scope,
        )
        lake.execute(
            "CREATE TEMP TABLE visit_endpoints AS "
            "SELECT 'key_1' AS key_id, 'get:secrets' AS endpoint"
        )
        lake.execute(
            "CREATE TEMP TABLE keys AS "
            "SELECT 'key_1' AS key_id, 'log' AS source, ['repo'] AS scopes, "
            "NULL::TIMESTAMP AS revoked_at, NULL::TIMESTAMP AS expires_at"
        )
        rows = lake.rows(SQL, end=datetime(2026, 10, 5), unknown_bits=1.0)
    assert [row[0] for row in rows] == found
