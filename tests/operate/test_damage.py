"""Kinds of damage to a lake: what the doctor says of them, what a review says, and the repair."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from keywatch import pipeline
from keywatch.errors import LakeDamagedError, LakeError
from keywatch.lake import Lake, utc_now
from keywatch.lake.catalogue_copies import copies, keep_copy
from keywatch.operate.diagnosis import diagnose_lake
from keywatch.operate.repair import RepairReport, render_repair, repair
from keywatch.settings import LakeSettings, Settings
from tests.conftest import Loading, NoWhere, as_json_lines, event

SETTINGS = Settings().without_power()
NOW = datetime(2026, 10, 12, 9)
FULL_KEY = "ply_live_prod_" + "a1" * 12
LOADED = ("events", "activity", "activity_hours", "transitions", "origins")


def day_log(day: int) -> list[dict[str, Any]]:
    return [
        event(
            timestamp=f"2026-09-{day:02}T{n % 24:02}:10:{n:02}Z", request_id=f"r{day}-{n}",
            key_id=f"key_{n % 4}", ip=f"84.1.{n % 7}.9", endpoint=f"/v1/checks/{n % 5}",
            key=FULL_KEY if n == 3 else None,
        )
        for n in range(40)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of three days in three loads, its logs beside it; with a copy of the first two."""
    return make_template(tmp_path_factory.mktemp("damage"))


def make_template(folder: Path) -> Path:
    """See `template`."""
    with Lake.open(folder / "lake", create=True) as lake:
        loading = Loading(folder, lake)
        loading.take(day_log(7), "7.jsonl")
        loading.take(day_log(8), "8.jsonl")
        for _, copy in copies(folder / "lake" / "catalog.sqlite"):
            copy.unlink()
        lake.keep_copy(utc_now())
        loading.take(day_log(9), "9.jsonl")
        with lake.writing():
            lake.execute("INSERT INTO lake.verdicts (verdict_id, key_id) VALUES ('v', 'key_1')")
            lake.execute("INSERT INTO lake.verdicts (verdict_id) VALUES ('w'), ('x')")
        with lake.writing():
            lake.execute("DELETE FROM lake.verdicts WHERE verdict_id = 'w'")
    (folder / "lake" / "outbox.journal").write_text(
        json.dumps({"delivery_id": "d", "recorded_at": "2026-10-01T00:00:00", "outcome": "sent",
                    "tries": 1, "error": None, "remote": None, "next_due_at": None}) + "\n"
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def whole(template: Path) -> dict[str, list[tuple[Any, ...]]]:
    return tables(template / "lake")


@pytest.fixture
def lake(template: Path, tmp_path: Path) -> Path:
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    return tmp_path / "lake"


def one(lake: Path, table: str) -> Path:
    """The last Parquet file of a table."""
    return max((lake / "data" / "main" / table).glob("*[0-9a-f].parquet"))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


def each_of(damage: Callable[[Path], None], *files: Path) -> None:
    for file in files:
        damage(file)


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[8:200] = bytes(192)
    file.write_bytes(content)


def without_copies(lake: Path) -> None:
    (lake / "catalog.sqlite").unlink()
    for _, copy in copies(lake / "catalog.sqlite"):
        copy.unlink()


def overwrite_pages(lake: Path) -> None:
    with (lake / "catalog.sqlite").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 60000)


def empty_table(lake: Path) -> None:
    with sqlite3.connect(lake / "catalog.sqlite") as catalogue:
        catalogue.execute("DROP TABLE ducklake_snapshot")
    catalogue.close()


# What is damaged; what the doctor finds of it; what of the repair is done, and what is left; and
# whether all that was loaded is there again, after the days that it names were loaded again.
# ruff: noqa: E501
DAMAGES: dict[str, tuple[Callable[[Path], object], str, str, str]] = {
    "no catalogue": (lambda lake: (lake / "catalog.sqlite").unlink(),
                     "catalog|damaged|file is not a database", "restored from its copy", "load what was loaded since"),
    "an empty catalogue": (lambda lake: (lake / "catalog.sqlite").write_bytes(b""),
                           "catalog|damaged|file is not a database", "restored from its copy", "9.jsonl"),
    "a catalogue of text": (lambda lake: (lake / "catalog.sqlite").write_text("text" * 900),
                            "catalog|damaged|file is not a database", "restored from its copy", "9.jsonl"),
    "pages of the catalogue overwritten": (overwrite_pages, "damaged", "restored from its copy", "9.jsonl"),
    "a table of the catalogue gone": (empty_table, "damaged|missing or empty", "restored from its copy", "9.jsonl"),
    "no catalogue and no copy": (without_copies, "catalogue", "", "no intact copy"),
    "events gone": (lambda lake: one(lake, "events").unlink(),
                    "is missing", "removed from", "events of 2026-09-09 to 2026-09-09 were lost: load again .*9.jsonl"),
    "events cut": (lambda lake: cut(one(lake, "events")),
                   "bytes long, not", "removed from", "load again .*9.jsonl"),
    "events overwritten": (lambda lake: flip(one(lake, "events")),
                           "can't be read", "removed from", "load again .*9.jsonl"),
    "events empty": (lambda lake: one(lake, "events").write_bytes(b""),
                     "is 0 bytes long", "removed from", "load again .*9.jsonl"),
    "activity gone": (lambda lake: one(lake, "activity").unlink(), "is missing", "rebuilt from the events", ""),
    "hours and transitions cut": (lambda lake: each_of(cut, one(lake, "activity_hours"), one(lake, "transitions")),
                                  "bytes long", "rebuilt from the events", ""),
    "origins gone": (lambda lake: one(lake, "origins").unlink(), "is missing", "addresses located again", ""),
    "ingested_files gone": (lambda lake: one(lake, "ingested_files").unlink(), "is missing", "removed from", ""),
    "verdicts gone": (lambda lake: each_of(Path.unlink, *(lake / "data/main/verdicts").iterdir()), "is missing", "", "give the verdicts"),
    "a file of deletions gone": (lambda lake: next(lake.rglob("*-delete.parquet")).unlink(),
                                 "is missing", "", "may be back"),
    "format and identity gone": (lambda lake: each_of(Path.unlink, one(lake, "format"), one(lake, "identity")),
                                 "is missing", "id of the lake restored", ""),
    "no data folder": (lambda lake: shutil.rmtree(lake / "data"), "is missing", "removed from", "load again"),
    "no secret": (lambda lake: (lake / "key-hash.secret").unlink(), "hashed with it", "", "Restore it from a backup"),
    "a secret for all": (lambda lake: (lake / "key-hash.secret").chmod(0o644), "readable for others", "for its owner only", ""),
    "a secret of rubbish": (lambda lake: (lake / "key-hash.secret").write_bytes(b"\xff" * 20), "not a key-hash secret", "", "Restore it from a backup"),
    "a journal cut": (lambda lake: cut(lake / "outbox.journal"), "1 line of the delivery journal", "", ""),
    "a journal of rubbish": (lambda lake: (lake / "outbox.journal").write_bytes(b"[]\n\x00\xff\n"),
                             "2 lines of the delivery journal", "", ""),
}  # fmt: skip


def tables(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    with Lake.open(folder) as lake:
        found = {
            name: lake.rows(f"SELECT * EXCLUDE (load_id) FROM lake.{name} ORDER BY ALL")
            for name in LOADED
        }
        return found | {"verdicts": lake.rows("SELECT verdict_id FROM lake.verdicts ORDER BY ALL")}


def refusal(lake: Path, *, review: bool) -> LakeError | None:
    """What whoever reads the lake hears; nothing where it can be read."""
    try:
        if review:
            pipeline.review(lake, None, SETTINGS, whole=False, keep=False)
        tables(lake)
    except LakeError as e:
        return e
    return None


def mend(folder: Path) -> RepairReport:
    return repair(folder, LakeSettings(), NoWhere(), NOW)


def matches(expected: str, sentences: list[str]) -> bool:
    return any(re.search(expected, text) for text in sentences) if expected else True


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found_told_and_mended(
    name: str, whole: dict[str, list[tuple[Any, ...]]], lake: Path
) -> None:
    damage, found, done, left = DAMAGES[name]
    whole = dict(whole)
    damage(lake)
    files = {file.name for file in lake.rglob("*.parquet")}

    diagnoses = diagnose_lake(lake, SETTINGS, deep=True)
    wrong = [one.text for one in diagnoses if one.status != "ok"]
    assert matches(found, wrong), wrong
    journal = "journal" in name
    assert {one.exit_code for one in diagnoses} == ({0} if journal else {0, 3})

    if told := refusal(lake, review=name in ("no catalogue", "events cut", "activity gone")):
        assert told.exit_code == 3
        assert str(lake) in str(told)
    if journal:
        return
    report = mend(lake)
    assert matches(done, report.done), report
    assert matches(left, report.left), report
    assert bool(left) == bool(report.left), report
    assert files <= {file.name for file in lake.rglob("*.parquet")}, "a file was deleted"
    if "no intact copy" in left:
        with pytest.raises(LakeError, match="Parquet files"):
            Lake.open(lake)
        return
    if "Restore it" in left:
        assert mend(lake) == report
        return
    assert mend(lake) == RepairReport()
    with Lake.open(lake) as opened:
        Loading(lake.parent, opened).load(lake.parent / "logs")
    after = tables(lake)
    if "verdicts" in name or left.startswith(("load what", "9.jsonl")) or "data folder" in name:
        whole["verdicts"] = []
    if "deletions" in name:
        whole["verdicts"] = [("v",), ("w",), ("x",)]
    assert after == whole


@pytest.mark.parametrize("rubbish", [False, True])
def test_no_load_makes_a_new_secret_in_the_place_of_a_lost_one(rubbish: bool, lake: Path) -> None:
    secret = lake / "key-hash.secret"
    before = secret.read_bytes()
    secret.unlink()
    if rubbish:
        secret.write_text("xyz")
    more = lake.parent / "more"
    more.mkdir()
    (more / "more.jsonl").write_bytes(as_json_lines([event(request_id="more")]))
    with (
        Lake.open(lake) as opened,
        pytest.raises(LakeDamagedError, match="lake repair --new-secret"),
    ):
        Loading(lake.parent, opened).load(more)
    assert secret.exists() == rubbish
    mended = repair(lake, LakeSettings(), NoWhere(), NOW, new_secret=True)
    assert matches("created anew", mended.done)
    assert mended.left == []
    assert secret.read_bytes() != before
    assert secret.stat().st_mode & 0o777 == 0o600
    assert [file.read_text() for file in lake.glob("set-aside-*/key-hash.secret")] == (
        ["xyz"] if rubbish else []
    )
    with Lake.open(lake) as opened:
        Loading(lake.parent, opened).load(more)


def test_two_copies_of_the_catalogue_are_kept_an_hour_apart(lake: Path) -> None:
    file = lake / "catalog.sqlite"
    for _, copy in copies(file):
        copy.unlink()
    for hours in (0, 0.5, 1, 2.5):
        keep_copy(file, NOW + timedelta(hours=hours))
    made = [made for made, _ in copies(file)]
    assert made == [NOW + timedelta(hours=2.5), NOW + timedelta(hours=1)]
    assert all(copy.stat().st_mode & 0o777 == 0o600 for _, copy in copies(file))


def test_nothing_to_mend_is_said(lake: Path) -> None:
    before = {file: file.read_bytes() for file in (lake / "data").rglob("*.parquet")}
    assert render_repair(mend(lake)) == "Nothing to repair."
    assert {file: file.read_bytes() for file in (lake / "data").rglob("*.parquet")} == before
