"""What a comment says of a table's grain: the columns that it names are unique there."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from keywatch import pipeline, sample
from keywatch.detect import detectors
from keywatch.lake import Lake, sql_text
from keywatch.lake.weeks import last_full_week
from keywatch.review import history, making
from keywatch.settings import Settings
from keywatch.vendors import catalogue_by_source

SCRIPTS = {
    "keywatch.lake": ("schema", "schema_alerts", "schema_questions", "in_force", "verdicts"),
    "keywatch.detect": ("roll_ups", "span", "prepare"),
    "keywatch.review": ("history",),
}
GRAIN = re.compile(
    r"^-- grain: (?P<columns>[a-z_]+(?:, [a-z_]+)*)(?P<in_parts>, in parts that add up)?[;:.\n]"
    r"(?:(?!-- grain: |CREATE ).*\n)*?"
    r"CREATE (?:OR REPLACE )?(?:TEMP )?(?P<kind>TABLE|VIEW|MACRO) (?P<name>[a-z_.]+)"
    r"(?:\((?P<of>\w+)\))?",
    re.MULTILINE,
)
OF = {"known": "'keys'", "until": "DATE '2027-01-01'"}
"""What stands for the parameter of a macro."""
AT_A_TABLE = re.compile(r"^-- grain: .*\n(?:(?:--|SET ).*\n)*CREATE ", re.MULTILINE)
FOUND = [
    pytest.param(
        match["name"] + (f"({OF.get(match['of'], '')})" if match["kind"] == "MACRO" else ""),
        match["columns"],
        bool(match["in_parts"]),
        id=match["name"],
    )
    for package, names in SCRIPTS.items()
    for name in names
    for match in GRAIN.finditer(sql_text(name, package))
]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """A small world, loaded, reviewed, and with all tables of the review and of its page."""
    folder = tmp_path_factory.mktemp("grain")
    world = sample.generate(
        folder / "world", keys=15, weeks=4, seed=21, thefts=3, events_per_key_day=6
    )
    settings = Settings()
    pipeline.ingest(folder / "lake", [str(world.logs[0].parent)], settings)
    pipeline.import_keys(folder / "lake", world.inventory, settings)
    pipeline.review(folder / "lake", None, settings)
    with Lake.open(folder / "lake") as lake, lake.reading():
        answer, scored = making.make_review(lake, last_full_week(lake), settings, whole=False)
        days = settings.review.baseline_days
        history.details(lake, answer, days, scored.suspicious_visits(lake))
        detectors.prepare(lake, answer.window, days, catalogue_by_source())
        yield lake


def test_every_grain_of_a_table_names_columns() -> None:
    said = sum(
        len(AT_A_TABLE.findall(sql_text(name, package)))
        for package, names in SCRIPTS.items()
        for name in names
    )
    assert len(FOUND) == said


@pytest.mark.parametrize(("table", "columns", "in_parts"), FOUND)
def test_a_row_is_one_of_its_grain(lake: Lake, table: str, columns: str, in_parts: bool) -> None:
    twice = lake.rows(f"SELECT {columns} FROM {table} GROUP BY ALL HAVING count(*) > 1 LIMIT 3")
    assert in_parts or twice == []
