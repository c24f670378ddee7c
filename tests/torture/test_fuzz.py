"""`tests.torture.fuzz` in short: a few thousand lines, broken files and one that inflates."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from keywatch.lake import Lake
from tests.torture.corpus import COLUMNS, FULL_KEY, Mutator, csv_row, not_blank
from tests.torture.fuzz import FoundError, Outcome, Readers, Round, Writer, fuzz


def test_a_short_fuzzing_loses_no_good_line(tmp_path: Path) -> None:
    outcome = fuzz(tmp_path, 2400, 7, [])
    assert outcome.fuzzed == 2400
    assert outcome.good > 500
    assert outcome.good_lost == 0
    assert outcome.rejects > 300
    assert outcome.left_out > 10
    assert outcome.inputs == 50


def test_a_seed_gives_the_same_files(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (Writer(3, []) for _ in range(2))
    written = [one.log(n, 5) for n in range(20)], one.broken()
    later = time.time() + 100_000
    monkeypatch.setattr("time.time", lambda: later)
    assert ([other.log(n, 5) for n in range(20)], other.broken()) == written


def a_round(folder: Path) -> tuple[Round, Lake]:
    """A round whose logs are written and loaded into a lake in memory, by the test."""
    folder.mkdir(exist_ok=True)
    return Round(folder, 120, 5, []), Lake.in_memory()


@pytest.mark.parametrize("column", ["path", "user_agent"])
def test_a_key_in_the_lake_is_found(column: str, tmp_path: Path) -> None:
    found, lake = a_round(tmp_path)
    with lake:
        found._no_key(lake)
        lake.execute(f"INSERT INTO lake.events BY NAME SELECT $text AS {column}",
                     text="/a%2F" + FULL_KEY.replace("_", "%5F"))  # fmt: skip
        with pytest.raises(FoundError, match=rf"(?s)events\.{column} shows .*--lines 120 --seed 5"):
            found._no_key(lake)


def test_a_lost_line_is_found(tmp_path: Path) -> None:
    found, lake = a_round(tmp_path)
    log = found._writer._json_lines("log.jsonl", 10)
    with lake, pytest.raises(FoundError, match="good lines lost or bent"):
        found._good_lines(lake, [log], Outcome())


def test_a_command_that_fails_or_names_no_file_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = a_round(tmp_path)
    for code, told in (
        (3, f"keywatch: {tmp_path}/a: out of memory"),
        (-11, ""),
        (0, "Traceback (most recent call last)"),
        (2, "keywatch: something is wrong"),
        (0, f"loaded {FULL_KEY}"),
    ):
        monkeypatch.setattr("tests.torture.fuzz._ingest", lambda *_, a=code, b=told: (a, b, 0))
        with pytest.raises(FoundError):
            found._loads(Outcome(), tmp_path / "a")
    monkeypatch.setattr("tests.torture.fuzz._ingest", lambda *_: (0, "", 2**40))
    with pytest.raises(FoundError, match="MiB"):
        found._loads(Outcome(), tmp_path / "a")


def test_a_reader_that_raises_anything_else_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: str) -> None:
        raise RecursionError

    Readers(tmp_path).read(b'{"key_id": 1}\n')
    monkeypatch.setattr("tests.torture.fuzz.understood", fails)
    with pytest.raises(RecursionError):
        Readers(tmp_path).read(b'{"key_id": 1}\n')


def test_mutations_make_new_lines_of_every_kind() -> None:
    mutator = Mutator(random.Random(1), [])
    lines = [mutator.json_line(mutator.requests) for _ in range(2000)]
    assert len(set(lines)) > 1900
    for part in (
        b"\0",
        b"\n",
        b"\\ud800",
        b"9223372036854775808",
        b"9999-12-31",
        FULL_KEY.encode(),
    ):
        assert any(part in line for line in lines), part
    whole = [mutator.json_line(mutator.records, whole=True) for _ in range(200)]
    assert all(line.startswith(b"{") and line.endswith(b"}") for line in whole)
    assert csv_row(["a,b", 'c"'], ",") == '"a,b","c"""'
    assert len(COLUMNS) == len(csv_row(list(COLUMNS), ";").split(";"))
    assert list(not_blank(b"a\r\n \t\r\n\nb")) == [b"a\r", b"b"]
