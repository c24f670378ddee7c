"""What is drawn of a key, and that the charts are ones that Vega takes."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import Any

import pytest
import vl_convert

from keywatch.report import charts, drawn, vega
from tests.conftest import ROOT
from tests.report.pages import details_of
from tests.report.reviews import FULL, WEEK
from tools.vega import files as made_vega

DETAILS = details_of(FULL)
CASE = FULL.cases[0].key_id


def rows_of(table: Any) -> list[dict[str, Any]]:
    return [row for row in table.to_pylist() if row["key_id"] == CASE]


def day(number: int, origin: str, requests: int = 1, **fields: Any) -> dict[str, Any]:
    on = date(2026, 9, 1) + timedelta(days=number)
    return {"day": on, "origin": origin, "requests": requests, "refused": 0, "known": True,
            "flagged": False, **fields}  # fmt: skip


def test_a_timeline_s_lines_stand_by_how_much_they_matter() -> None:
    timeline = [
        day(0, "big", 100), day(1, "small", 2), day(29, "fresh", 1, known=False),
        day(30, "thief", 5, known=False, flagged=True, refused=4), day(30, "big", 90),
    ]  # fmt: skip

    rows = drawn.timeline_rows(timeline)
    assert [(row["day"][5:10], row["origin"], row["requests"], row["kind"]) for row in rows] == [
        ("09-02", "small", 2, "usual"), ("09-01", "big", 100, "usual"),
        ("10-01", "big", 90, "usual"),
        ("09-30", "fresh", 1, "new"), ("10-01", "thief", 5, "suspicious"),
    ]  # fmt: skip
    assert rows[-1] == {"day": "2026-10-01T12:00:00", "origin": "thief", "requests": 5,
                        "refused": 4, "kind": "suspicious"}  # fmt: skip


def test_networks_that_matter_least_share_a_line_that_keeps_their_requests_and_worst_kind() -> None:
    timeline = [day(0, f"net {n:02}", 100 - n) for n in range(20)]
    timeline.append(day(0, "net 19", 1, refused=1))
    rows = drawn.timeline_rows(timeline)

    assert len({row["origin"] for row in rows}) == 9
    assert sum(row["requests"] for row in rows) == sum(row["requests"] for row in timeline)
    (others,) = [row for row in rows if row["origin"] == "other networks"]
    assert others["refused"] == 1
    assert "net 00" in {row["origin"] for row in rows}


def test_a_suspicious_network_has_its_own_line_however_little_it_did() -> None:
    timeline = [day(0, f"net {n:02}", 100) for n in range(20)]
    timeline.append(day(30, "thief", 1, known=False, flagged=True))

    assert {"thief"} < {row["origin"] for row in drawn.timeline_rows(timeline)}


def test_a_map_has_a_point_a_place_and_kind_with_the_worst_on_top() -> None:
    origins = rows_of(DETAILS.origins)
    twin = origins[0] | {"origin": "AS3209 Vodafone GmbH, DE", "requests_now": 20}
    points = drawn.map_rows([origins[1], origins[0], twin, origins[2]])

    assert [(point["kind"], point["latitude"], point["requests_now"]) for point in points] == [
        ("usual", 51.0, 10_100), ("suspicious", 45.9, 412),
    ]  # fmt: skip
    assert points[0]["origins"] == "AS3320 Deutsche Telekom AG, DE, AS3209 Vodafone GmbH, DE"


def test_endpoints_that_are_new_stand_first() -> None:
    rows = drawn.endpoint_rows(rows_of(DETAILS.endpoints))

    assert [(row["endpoint"], row["kind"], row["refused"]) for row in rows] == [
        ("GET /v1/members", "suspicious", 61), ("GET /v1/metrics/{id}", "usual", 0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("new", "usual", "shown"),
    [(30, 30, (11, 5)), (2, 30, (2, 14)), (30, 2, (14, 2)), (0, 3, (0, 3))],
)
def test_usual_endpoints_keep_room_beside_new_ones(
    new: int, usual: int, shown: tuple[int, int]
) -> None:
    known, fresh = rows_of(DETAILS.endpoints)
    kinds = [row["kind"] for row in drawn.endpoint_rows([known] * usual + [fresh] * new)]

    assert (kinds.count("suspicious"), kinds.count("usual")) == shown


def test_text_of_a_log_is_printable_in_every_row() -> None:
    details = details_of(FULL, "a\u202e\x1b[31m" + "b" * 500)
    rows = [
        *drawn.timeline_rows(rows_of(details.timeline)),
        *drawn.map_rows(rows_of(details.origins)),
        *drawn.endpoint_rows(rows_of(details.endpoints)),
    ]
    texts = [value for row in rows for value in row.values() if isinstance(value, str)]

    assert any(text.startswith("a\\u202e\\x1b[31mb") for text in texts)
    assert all(text.isprintable() and len(text) <= 250 for text in texts)


def test_what_pages_draw_with_is_what_the_tool_makes() -> None:
    """After a change of the charts, or of a library: python tools/vega.py."""
    for name, text in made_vega().items():
        kept = (ROOT / "src/keywatch/report/vega" / name).read_text(encoding="utf-8")
        assert kept == text, f"{name}: run python tools/vega.py"


@pytest.mark.parametrize("theme", charts.THEMES)
def test_each_chart_is_drawn_by_vega(theme: str) -> None:
    shown = {
        "timeline": drawn.timeline_rows(rows_of(DETAILS.timeline)),
        "map": drawn.map_rows(rows_of(DETAILS.origins)),
        "endpoints": drawn.endpoint_rows(rows_of(DETAILS.endpoints)),
    }
    specifications = vega.specifications()[theme]
    assert set(specifications) == set(shown)
    for name, specification in specifications.items():
        filled = json.loads(json.dumps(specification))
        values: dict[str, Any] = {
            "rows": shown[name], "week": [drawn.week_row(WEEK)], "world": vega.world(),
        }  # fmt: skip
        for source in filled["data"]:
            if source["name"] in values:
                source["values"] = values[source["name"]]
        image = vl_convert.vega_to_svg(filled)
        assert charts.THEMES[theme]["axis"]["labelColor"] in image
        assert "#d1343f" in image, "what is suspicious is there"


def test_a_map_by_itself_has_the_countries_in_it() -> None:
    points = charts.inline(drawn.map_rows(rows_of(DETAILS.origins)))
    image = vl_convert.vegalite_to_svg(charts.map_chart(points, width=300).to_json())
    assert image.count("<path") > len(vega.world()["objects"]["countries"]["geometries"]) > 150
