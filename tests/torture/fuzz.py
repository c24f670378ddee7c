"""Fuzzed logs: no line, file or archive stops a load, bends its neighbours or shows a key.

    python -m tests.torture.fuzz                              a million lines, as make torture does
    python -m tests.torture.fuzz --lines 50000 --seed 7       one round, as a fault names it

`tests.torture.guided` has atheris fuzz the readers, guided by their coverage.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import io
import json
import lzma
import os
import random
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from benchmarks import process
from keywatch.errors import InputError
from keywatch.lake import Lake
from keywatch.operate import integrity
from keywatch.vendors import LogFile, detect_source, find_files, sources
from keywatch.vendors.files import numbered_lines
from keywatch.vendors.lenient import understood
from keywatch.vendors.table import row_of
from tests.conftest import ROOT, SHARED_DATA
from tests.torture.corpus import (
    COLUMNS,
    FULL_KEY,
    Good,
    Mutator,
    csv_row,
    good_record,
    good_request,
    not_blank,
)

CORPUS = [folder for folder in (SHARED_DATA, SHARED_DATA.parent / "cases") if folder.is_dir()]
LINES_A_ROUND = 50_000
GOOD = 0.25
"""Of the lines of a log."""
FILES = 12
MOST_RESIDENT_BYTES = 800 * 1024 * 1024
"""Of a load with the settings below; most of it is DuckDB's own and Python's libraries."""
MOST_MAPPED_BYTES = 8 * 1024**3
"""The machine's own memory is not to be the bound."""
MOST_CPU_SECONDS = 600
SETTINGS = """[ingest]
chunk_bytes = 8388608
[storage]
memory_limit = "400MB"
threads = 1
"""
PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": lambda content: gzip.compress(content, 1, mtime=0),
    ".zst": lambda content: bytes(pa.compress(content, codec="zstd", asbytes=True)),
    ".bz2": lambda content: bz2.compress(content, 1),
    ".xz": lambda content: lzma.compress(content, preset=0),
    ".lz4": lambda content: _arrow_packed(content, "lz4"),
    ".zip": lambda content: _zipped(content),
}


class FoundError(Exception):
    """What a load did that it must not do; names the seed that shows it again."""


@dataclass
class Outcome:
    """What became of fuzzed logs."""

    fuzzed: int = 0
    good: int = 0
    good_lost: int = 0
    rejects: int = 0
    broken_files: int = 0
    left_out: int = 0
    resident_bytes: int = 0
    inputs: int = 0
    """Of the readers alone."""

    def add(self, other: Outcome) -> None:
        """Count `other` too."""
        for name, value in vars(other).items():
            mine = getattr(self, name)
            setattr(self, name, max(mine, value) if name == "resident_bytes" else mine + value)


@dataclass
class Log:
    """A log by lines: what was written, and what has to be loaded of it."""

    name: str
    content: bytes
    good: list[Good]
    fuzzed: int
    lines: int | None = field(default=None)
    """How many the load has to account for; None where rows may have several."""
    separator: str = ""
    is_document: bool = False
    """Its records stand in a list, and not each on a line."""


# ---------------------------------------------------------------------------------- what is written


def _arrow_packed(content: bytes, codec: str) -> bytes:
    packed = pa.BufferOutputStream()
    with pa.CompressedOutputStream(packed, codec) as out:
        out.write(content)
    return bytes(packed.getvalue().to_pybytes())


def _zipped(content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(zipfile.ZipInfo("log"), content, zipfile.ZIP_DEFLATED, 1)
    return packed.getvalue()


class Writer:
    """Writes the files of a round, all of one seed."""

    def __init__(self, seed: int, corpus: list[Path]) -> None:
        self.at = random.Random(seed)
        self.mutator = Mutator(self.at, corpus)
        self._good = 0

    def log(self, nth: int, fuzzed: int) -> Log:
        """A log of `fuzzed` mutated lines and the good ones between them."""
        form = self.at.choice((self._json_lines, self._csv, self._records, self._document))
        log = form(f"log{nth}", fuzzed)
        ending = self.at.choice(list(PACKINGS))
        return Log(log.name + ending, PACKINGS[ending](log.content), log.good, fuzzed, log.lines,
                   log.separator, log.is_document)  # fmt: skip

    def _new_good(self, make: Callable[[random.Random, int], Good]) -> Good:
        self._good += 1
        return make(self.at, self._good)

    def _mixed(
        self, fuzzed: int, make: Callable[[random.Random, int], Good]
    ) -> Iterator[Good | None]:
        """Good lines and, as None, places of fuzzed ones; the first and the last line are good."""
        yield self._new_good(make)
        while fuzzed:
            if self.at.random() < GOOD:
                yield self._new_good(make)
            else:
                fuzzed -= 1
                yield None
        yield self._new_good(make)

    def _end(self) -> bytes:
        return self.at.choice((b"\n", b"\n", b"\n", b"\r\n", b"\n\n", b"\n \t\r\n"))

    def _by_lines(
        self, fuzzed: int, make: Callable[[random.Random, int], Good], seeds: list[dict[str, Any]]
    ) -> tuple[bytes, list[Good]]:
        out, good = io.BytesIO(), list[Good]()
        if self.at.random() < 0.5:
            out.write(b"\xef\xbb\xbf")
        for one in self._mixed(fuzzed, make):
            if one is None:
                out.write(self.mutator.json_line(seeds))
            else:
                good.append(one)
                out.write(json.dumps(one.fields, ensure_ascii=self.at.random() < 0.5).encode())
            out.write(self._end())
        return out.getvalue(), good

    def _json_lines(self, name: str, fuzzed: int) -> Log:
        content, good = self._by_lines(fuzzed, good_request, self.mutator.requests)
        return Log(name + ".jsonl", content, good, fuzzed, sum(1 for _ in not_blank(content)))

    def _records(self, name: str, fuzzed: int) -> Log:
        content, good = self._by_lines(fuzzed, good_record, self.mutator.records)
        return Log(name + ".json", content, good, fuzzed, sum(1 for _ in not_blank(content)))

    def _csv(self, name: str, fuzzed: int) -> Log:
        separator = self.at.choice(",;\t|")
        out, good = [csv_row(list(COLUMNS), separator).encode() + b"\n"], list[Good]()
        for one in self._mixed(fuzzed, good_request):
            if one is None:
                out.append(self.mutator.row(separator) + self._end())
            else:
                good.append(one)
                cells = [str(one.fields[name]) for name in COLUMNS]
                out.append(csv_row(cells, separator).encode() + b"\n")
        return Log(name + ".csv", b"".join(out), good, fuzzed, separator=separator)

    def _document(self, name: str, fuzzed: int) -> Log:
        good, records = list[Good](), list[bytes]()
        for one in self._mixed(fuzzed, good_record):
            if one is None:
                records.append(self.mutator.json_line(self.mutator.records, whole=True))
            else:
                good.append(one)
                records.append(json.dumps(one.fields).encode())
        between = (b",", b", ", b",\n", b"\r\n,\t")
        body = b"".join(one + self.at.choice(between) for one in records[:-1]) + records[-1]
        content = b'{"Records": [' + body + b"]}" + self.at.choice((b"", b"\n", b" \r\n"))
        return Log(name + ".json", content, good, fuzzed, len(records), is_document=True)

    def small_files(self, count: int) -> Iterator[bytes]:
        """So many files of a few mutated lines, each torn once more."""
        forms = (self._json_lines, self._csv, self._records, self._document)
        for _ in range(count):
            log = self.at.choice(forms)("", self.at.randrange(4))
            yield self.mutator.torn(log.content)

    def broken(self) -> dict[str, bytes]:
        """Files that are cut, damaged or no logs, by name."""
        files = {}
        for nth, (ending, pack) in enumerate(PACKINGS.items()):
            log = self._json_lines("", 200).content
            packed = pack(log)
            cut = self.at.randrange(len(packed))
            files[f"cut{nth}.jsonl{ending}"] = packed[:cut]
            files[f"torn{nth}.jsonl{ending}"] = (
                packed[:cut] + self.at.randbytes(3) + packed[cut + self.at.randrange(9) :]
            )
            files[f"twice{nth}.jsonl{ending}"] = pack(packed)
        document = self._document("", 200).content
        return files | {
            "document.json": self.mutator.torn(document),
            "cut.json": document[: self.at.randrange(len(document))],
            "deep.json": b'{"Records":[' + b"[" * self.at.choice((900, 100_000, 3_000_000)),
            "objects.json": b'{"Records":[' + b'{"a":' * self.at.choice((900, 100_000)),
            "wide.jsonl": self._json_lines("", 20)
            .content.decode(errors="replace")
            .encode("utf-16"),
            "noise": self.at.randbytes(20_000),
            "nul.jsonl": b"\0" * 100_000,
            "quotes.csv": b"timestamp,key_id,ip,method,endpoint\n" + b'"\n' * 5000,
            "crs.csv": b"timestamp,key_id,ip,method,endpoint\r" * 2000,
            "header.csv": b"timestamp,key_id,ip,method,endpoint"
            + b",x" * 100_000
            + b"\n"
            + b",,,\n",
        }

    def inflating(self, megabytes: int) -> tuple[str, bytes]:
        """A small file that inflates to so many megabytes of nothing: its name and its bytes."""
        kinds = {
            "spaces.jsonl.gz": (b"", b" "),
            "newlines.jsonl.gz": (b"", b"\n"),
            "lines.jsonl.gz": (b'{"key_id":"key_x","endpoint":"/"}\n', b"0\n"),
            "line.jsonl.gz": (b'{"key_id":"key_x","endpoint":"/', b"x"),
            "string.json.gz": (b'{"Records":[{"eventName":"', b"x"),
            "between.json.gz": (b'{"Records":[', b" "),
            "commas.json.gz": (b'{"Records":[', b","),
            "zeros.json.gz": (b'{"Records":[', b"0"),
            "lists.json.gz": (b'{"Records":[', b"[],"),
            "objects.json.gz": (b'{"Records":[', b'{"a":'),
            "escapes.json.gz": (b'{"Records":["', b"\\"),
            "name.json.gz": (b'{"', b"Records"),
            "names.json.gz": (b"{", b'"Record":[],'),
            "quotes.csv.gz": (b"timestamp,key_id,ip,method,endpoint\n", b'"a\n'),
            "commas.csv.gz": (b"timestamp,key_id,ip,method,endpoint\n", b'",'),
            "zeros.zip": (b"", b"\0"),
        }
        name = self.at.choice(list(kinds))
        return name, _inflating(*kinds[name], megabytes * 1024 * 1024, name)


def _inflating(begins: bytes, goes_on: bytes, size: int, name: str) -> bytes:
    """What inflates to `begins` and then `goes_on` for `size` bytes."""
    block = goes_on * (1024 * 1024 // len(goes_on))
    packed = io.BytesIO()
    if name.endswith(".zip"):
        with (
            zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
            archive.open("log.jsonl", "w", force_zip64=True) as out,
        ):
            for _ in range(size // len(block)):
                out.write(block)
        return packed.getvalue()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1, mtime=0) as stream:
        stream.write(begins)
        for _ in range(size // len(block)):
            stream.write(block)
    return packed.getvalue()


# -------------------------------------------------------------------------------- what must be so


def _ingest(folder: Path, path: Path) -> tuple[int, str, int]:
    """`keywatch ingest` in a process of its own: exit code, what it said, resident bytes."""
    took = process.run(
        [sys.executable, "-m", "keywatch", "ingest", str(path),
         "--lake", str(folder / "lake"), "--config", str(folder / "keywatch.toml")],
        env=os.environ | {
            "PYTHONPATH": str(ROOT / "src"),
            # Each line of the logs is to be accounted for.
            "KEYWATCH_INGEST__MAX_REJECT_SHARE": "1" if path.is_dir() else "0.05",
        },
        stderr=subprocess.STDOUT,
        most_cpu_seconds=MOST_CPU_SECONDS, most_mapped_bytes=MOST_MAPPED_BYTES,
    )  # fmt: skip
    return took.code, took.output.decode("utf-8", "replace"), took.peak_bytes


class Round:
    """A load of fuzzed logs and of broken files beside them, in a folder of its own."""

    def __init__(self, folder: Path, lines: int, seed: int, corpus: list[Path]) -> None:
        self.folder, self.logs = folder, folder / "logs"
        self._lines, self._seed = lines, seed
        self._writer = Writer(seed, corpus)

    def run(self) -> Outcome:
        """Write, load and look.

        Raises:
            FoundError: a fault; the folder is left as it is.
        """
        self.logs.mkdir(parents=True)
        (self.folder / "keywatch.toml").write_text(SETTINGS)
        share = -(-self._lines // FILES)
        logs = {}
        for nth in range(FILES):
            log = self._writer.log(nth, share)
            logs[log.name] = log
            (self.logs / log.name).write_bytes(log.content)
        broken = self._writer.broken()
        for name, content in broken.items():
            (self.logs / name).write_bytes(content)
        outcome = Outcome(
            fuzzed=sum(log.fuzzed for log in logs.values()),
            good=sum(len(log.good) for log in logs.values()),
            broken_files=len(broken),
        )
        self._loads(outcome, self.logs)
        with Lake.open(self.folder / "lake") as lake:
            self._accounts(lake, logs, set(broken), outcome)
            self._good_lines(lake, list(logs.values()), outcome)
            if faults := list(integrity.faults(lake, deep=True)):
                self._fault(f"the lake does not agree with itself: {faults}")
            self._no_key(lake)
        for name, content in (
            self._writer.at.choice(list(broken.items())),
            self._writer.inflating(2 if self._lines < LINES_A_ROUND else 256),
        ):
            file = self.folder / name
            file.write_bytes(content)
            self._loads(outcome, file)
        return outcome

    def _fault(self, what: str) -> None:
        raise FoundError(
            f"{what}\nSee it again: python -m tests.torture.fuzz --lines {self._lines} "
            f"--seed {self._seed} --folder build/fuzz"
        )

    def _loads(self, outcome: Outcome, path: Path) -> None:
        """It ends well, or says which file is at fault; in bounded memory."""
        code, told, resident = _ingest(self.folder, path)
        outcome.resident_bytes = max(outcome.resident_bytes, resident)
        allowed = (0,) if path.is_dir() else (0, 2)
        if code not in allowed or "Traceback" in told or "internal error in Keywatch" in told:
            self._fault(f"{path}: exit {code}: {told[-3000:]}")
        if code == 2 and str(path) not in told.replace("\n", ""):
            self._fault(f"{path}: what is said does not name it: {told[-3000:]}")
        if resident > MOST_RESIDENT_BYTES:
            self._fault(f"{path}: took {resident / 2**20:.0f} MiB")
        if FULL_KEY in told:
            self._fault(f"{path}: a full key was printed")

    def _accounts(
        self, lake: Lake, logs: dict[str, Log], broken: set[str], outcome: Outcome
    ) -> None:
        """Each file is loaded or left out with a reason, and each line of a log is something."""
        rows = lake.records("FROM lake.ingested_files WHERE path <> ''")
        loaded = {row["path"].removeprefix(f"{self.logs}/").removesuffix("/log"): row
                  for row in rows}  # fmt: skip
        left_out = lake.rows("SELECT path, reason FROM lake.left_out_files")
        outcome.left_out += len(left_out)
        if untold := [path for path, reason in left_out if not reason]:
            self._fault(f"left out without a reason: {untold}")
        found = {file.path for file in find_files([str(self.logs)])}
        known = {row["path"] for row in rows} | {path for path, _ in left_out}
        if missing := {path for path in found if path not in known}:
            self._fault(f"neither loaded nor left out: {sorted(missing)}")
        kinds = ("events", "duplicates", "keyless", "rejects", "held_back")
        for row in rows:
            if row["lines"] != sum(row[kind] for kind in kinds):
                self._fault(f"the counts do not add up: {row}")
            outcome.rejects += row["rejects"]
        for log in logs.values():
            if log.name not in loaded:
                self._fault(f"{log.name}: was not loaded: {dict(left_out)}")
            lines = loaded[log.name]["lines"]
            # What follows a record without an end is read by lines, of which one may have two.
            is_more = log.is_document and lines > (log.lines or 0)
            if log.lines is not None and lines != log.lines and not is_more:
                self._fault(f"{log.name}: {log.lines} lines written, {lines} accounted for")
        counted = lake.rows(
            "SELECT (SELECT sum(events) FROM lake.activity), (SELECT count(*) FROM lake.events), "
            "(SELECT sum(events) FROM lake.ingested_files)"
        )[0]
        if len(set(counted)) != 1:
            self._fault(f"roll-up, events and files do not agree: {counted}")

    def _good_lines(self, lake: Lake, logs: list[Log], outcome: Outcome) -> None:
        """All of them are there, with their own fields."""
        stored = set(
            lake.rows(
                "SELECT ts, key_id, address, method, path, status, user_agent, request_id "
                "FROM lake.events WHERE starts_with(request_id, 'good-')"
            )
        )
        for log in logs:
            lost = [one for one in log.good if one.stored not in stored]
            if log.separator and lost:
                lost = self._not_swallowed(log, lost)
            outcome.good_lost += len(lost)
            if lost:
                self._fault(f"{log.name}: {len(lost)} good lines lost or bent: {lost[0].fields}")

    def _not_swallowed(self, log: Log, lost: list[Good]) -> list[Good]:
        """Those of `lost` that are no part of a row whose quoted field holds several lines."""
        file = find_files([str(self.logs / log.name)])[0]
        with file.open() as stream:
            content = stream.read()
        lines = [line.decode(errors="replace").rstrip("\r") for line in not_blank(content)]
        places = {line: n for n, line in enumerate(lines)}
        return [
            one
            for one in lost
            if not _is_swallowed(
                lines,
                places[csv_row([str(one.fields[name]) for name in COLUMNS], log.separator)],
                log.separator,
            )
        ]

    def _no_key(self, lake: Lake) -> None:
        """No text of any table has the planted key, nor what percent signs hide."""
        columns = lake.rows(
            "SELECT table_name, column_name FROM duckdb_columns() "
            "WHERE database_name = 'lake' AND data_type = 'VARCHAR'"
        )
        for table, column in columns:
            texts = lake.rows(
                f'SELECT DISTINCT "{column}" FROM lake."{table}" '
                f'WHERE contains("{column}", $middle)',
                middle=FULL_KEY[14:22],
            )
            for (text,) in texts:
                if FULL_KEY in unquote(unquote(text)):
                    self._fault(f"{table}.{column} shows the full key: {text[:3000]!r}")


def _is_swallowed(lines: list[str], at: int, separator: str) -> bool:
    """Whether a quote before line `at` and one after it make one row of the table of them."""
    odd = [n for n in range(max(0, at - 200), min(len(lines), at + 201)) if lines[n].count('"') % 2]
    return any(
        len(row_of("\n".join(lines[first : last + 1]), separator, strict=True) or ())
        == len(COLUMNS)
        for first in odd
        if first < at
        for last in odd
        if last > at
    )


# ------------------------------------------------------------------------------- the readers alone


class Readers:
    """All readers of Python on bytes that may be anything."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "log.csv"
        self.inputs = 0

    def read(self, content: bytes) -> None:
        """Read `content` as each format.

        Raises:
            Exception: a fault; a reader raises InputError only.
        """
        self.inputs += 1
        self._file.write_bytes(content)
        file = LogFile(str(self._file), len(content))
        try:
            detect_source(file)
        except InputError as e:
            assert str(e).startswith(str(self._file))  # noqa: PT017 — no test: it is fuzzed
        for source in sources().values():
            try:
                numbers = [n for lines in source.lines(file, _ignored)
                           for n in lines.numbers.to_pylist()]  # fmt: skip
            except InputError as e:
                assert str(e).startswith(str(self._file))  # noqa: PT017
            else:
                assert numbers == sorted(numbers)
        self._by_lines(file, content)

    def _by_lines(self, file: LogFile, content: bytes) -> None:
        try:
            texts = [text for lines in numbered_lines(file, _ignored)
                     for text in lines.texts.to_pylist()]  # fmt: skip
        except InputError:
            return
        if not file.packed:
            whole = content.removeprefix(b"\xef\xbb\xbf")
            assert len(texts) == sum(1 for _ in not_blank(whole))
        for text in texts:
            if (meant := understood(text)) is not None:
                assert isinstance(json.loads(meant), dict)
                meant.encode()


def _ignored(_: int) -> None:
    return


def read_many(folder: Path, inputs: int, seed: int, corpus: list[Path]) -> Outcome:
    """So many small files for the readers, each of a few mutated lines, torn once more."""
    readers = Readers(folder)
    for nth, content in enumerate(Writer(seed, corpus).small_files(inputs)):
        try:
            readers.read(content)
        except Exception as e:
            raise FoundError(
                f"input {nth} of seed {seed}: {type(e).__name__}: {e}; it is {content[:2000]!r}"
            ) from e
    return Outcome(inputs=inputs)


def fuzz(folder: Path, lines: int, seed: int, corpus: list[Path]) -> Outcome:
    """At least `lines` fuzzed lines in rounds, the n-th with the seed `seed` + n, and the readers.

    Raises:
        FoundError: a fault; names the round's seed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    outcome = read_many(folder, max(50, lines // 100), seed, corpus)
    nth = 0
    while outcome.fuzzed < lines:
        home = folder / f"round{nth}"
        outcome.add(Round(home, min(LINES_A_ROUND, lines), seed + nth, corpus).run())
        shutil.rmtree(home)
        nth += 1
    return outcome


def main() -> None:
    """Fuzz, and print what became of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--folder", type=Path, help="is made, and stays where a fault is found")
    parser.add_argument(
        "--corpus", type=Path, action="append", help="folders of logs to begin from"
    )
    given = parser.parse_args()
    print(f"fuzz: seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="keywatch-fuzz-") as name:
        folder = given.folder or Path(name)
        print(fuzz(folder, given.lines, given.seed, given.corpus or CORPUS))


if __name__ == "__main__":
    try:
        main()
    except FoundError as e:
        sys.exit(f"fuzz: {e}")
