"""``make torture``: kills, damages, many processes, two machines, fuzzed logs; what was lost.

    python -m tests.torture                   about 40 minutes; writes docs/reliability.md
    python -m tests.torture --kills 20 --seconds 20 --rounds 1 --lines 5000 --print      a try

Another command is killed by adding it to `COMMANDS`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from keywatch.errors import KeywatchError
from keywatch.lake import Lake, utc_now
from keywatch.operate import integrity
from keywatch.settings import LakeSettings
from tests import postgres
from tests.conftest import ROOT, as_json_lines, event
from tests.explore.test_notebooks import BIN, SOURCES, exported
from tests.forked import Forked
from tests.torture.fuzz import CORPUS, FoundError, fuzz
from tests.torture.planted import LAKE, files_under, plant, run_commands, shown_in
from tests.torture.planted_flows import own_prefect, run_flows, shown_by_prefect

PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- made by make torture -->", "<!-- end -->"
KEPT = ROOT / "tests" / "data" / "lake-format-3.tar.xz"
PROCESSES = 8
LINES = 400
"""Of a log."""
PASSING = "passing_"
"""Begins the ids of keys that may be forgotten: none of their events counts as lost."""
MONDAY = datetime(2026, 8, 31)


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    what: str
    times: int
    cut_short: int
    lost: str


class World:
    """A folder with a lake and logs that are still to be loaded."""

    def __init__(self, folder: Path, settings: str = "") -> None:
        self.folder, self.lake, self.logs = folder, folder / "lake", folder / "logs"
        self.logs.mkdir(parents=True)
        self.config = folder / "keywatch.toml"
        self.config.write_text(
            "[review]\npower_keys = 0\nreplayed_windows = 1\n"
            f'[deliver.channels.file]\nkind = "file"\npath = "{folder}/out.jsonl"\n{settings}'
        )
        self._made = 0
        self.said = ""
        """What the last command that `run` ran said."""

    def new_log(self, who: str = "w") -> Path:
        """A log of another day of a few keys and a passing one; one has a strange address."""
        self._made += 1
        passing = f"{PASSING}{who}_{self._made}"
        day = MONDAY + timedelta(days=self._made % 35)
        rows = (
            event(
                timestamp=(day + timedelta(seconds=200 * n)).isoformat() + "Z",
                request_id=f"{who}-{self._made}-{n}",
                key_id=passing if n == 0 else f"key_{n % 6}",
                ip="91.234.56.78" if day.month == 10 and n % 60 == 0 else f"84.1.{n % 6}.9",
                endpoint=f"/v1/checks/{n % 9}",
            )
            for n in range(LINES)
        )
        file = self.logs / f"{who}-{self._made}.jsonl"
        file.write_bytes(as_json_lines(rows))
        return file

    def passing_key(self) -> str:
        """A key of a log that may be loaded by now, to be forgotten."""
        return f"{PASSING}w_{random.randint(1, self._made)}"

    def start(self, *arguments: str | Path) -> Forked:
        """A command of keywatch in a process of its own."""
        return Forked(*arguments, "--lake", self.lake, "--config", self.config, cwd=self.folder)

    def run(self, *arguments: str | Path) -> int:
        """Its exit code; a traceback is an error of ours."""
        process = self.start(*arguments)
        assert process.ends(900), arguments
        self.said = process.said
        assert "Traceback" not in self.said, self.said
        assert process.exit_code in (0, 2, 3), self.said
        return process.exit_code


COMMANDS: dict[str, Callable[[World], tuple[str | Path, ...]]] = {
    "load": lambda world: ("ingest", world.new_log()),
    "review": lambda _: ("review", "--week", f"2026-W{random.choice((38, 39, 40))}"),
    "watch": lambda world: ("watch", world.logs),
    "deliver": lambda _: ("deliver",),
    "verdict": lambda _: (
        "verdict", f"key_{random.randrange(6)}", "benign", "--by", "ana", "--because", "tried it",
        "--week", "2026-W40",
    ),
    "maintain": lambda _: ("lake", "maintain"),
    "forget": lambda world: ("lake", "forget", world.passing_key(), "--yes"),
    "repair": lambda _: ("lake", "repair"),
    "upgrade": lambda _: ("doctor",),
}  # fmt: skip


DONE_AT_ONCE = ("load", "load", "review", "watch", "deliver", "verdict", "maintain")


def state(folder: Path, settings: LakeSettings | None = None) -> Counter[str]:
    """How many rows there are; an error where the lake does not agree with itself."""
    with Lake.open(folder, settings) as lake:
        faults = list(integrity.faults(lake, deep=True))
        assert not faults, faults
        found = Counter(
            {
                table: lake.value(f"SELECT count(*) FROM lake.{table}")
                for table in ("ingested_files", "verdicts", "runs", "delivery_outcomes")
            }
        )
        stays = f"WHERE NOT starts_with(key_id, '{PASSING}')"
        found["events"] = lake.value(f"SELECT count(*) FROM lake.events {stays}")
        agree = lake.rows(
            f"SELECT (SELECT coalesce(sum(events), 0) FROM lake.activity {stays}), "
            f"(SELECT coalesce(sum(events), 0) FROM lake.activity_hours {stays}), "
            f"(SELECT coalesce(sum(events), 0) FROM lake.transitions {stays}), "
            # A log of this file's making has one event of a passing key.
            "(SELECT coalesce(sum(events), 0) - count(*) FILTER (path LIKE '%/logs/%-%.jsonl') "
            "FROM lake.ingested_files)"
        )[0]
    assert set(agree) == {found["events"]}, (agree, found)
    return found


def kills(folder: Path, count: int) -> list[Row]:
    """SIGKILL at any point of each command: what was committed stays, and the next run goes on."""
    world = World(folder)
    for _ in range(40):
        world.new_log()
    assert world.run("ingest", world.logs) == 0
    assert world.run("review") == 0
    takes: dict[str, float] = {}
    for name, command in COMMANDS.items():
        began = time.monotonic()
        world.run(*command(world))
        takes[name] = time.monotonic() - began
    tried, cut, lost = Counter[str](), Counter[str](), Counter[str]()
    before = state(world.lake)
    for nth in range(count):
        name = list(COMMANDS)[nth % len(COMMANDS)]
        old = name == "upgrade"
        if old:
            _unpack(folder / "old")
        process = (_Old(folder / "old", world.config) if old else world).start(
            *COMMANDS[name](world)
        )
        if not process.ends(random.uniform(0.1, 1.05) * takes[name]):
            process.kill()
            cut[name] += 1
        tried[name] += 1
        after = state(folder / "old" / "lake") if old else state(world.lake)
        if old:
            lost[name] += after["events"] != 420
        else:
            lost[name] += any(after[table] < before[table] for table in before)
            before = after
    # Whatever was cut short is done by the next run of it.
    files = len(list(world.logs.iterdir()))
    assert world.run("ingest", world.logs) == 0
    assert state(world.lake)["ingested_files"] == files
    return [
        Row(f"SIGKILL in {name}", tried[name], cut[name], f"{lost[name]} times")
        for name in COMMANDS
    ]


class _Old(World):
    """The kept lake of format 3, which is upgraded by whatever opens it."""

    def __init__(self, folder: Path, config: Path) -> None:
        self.folder, self.lake, self.config = folder, folder / "lake", config


def _unpack(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with tarfile.open(KEPT) as packed:
        packed.extractall(folder, filter="data")


def damages(rounds: int) -> Row:
    """Each kind of damage, mended, and what it says loaded again: all rows as before."""
    what = "catalogue, Parquet, secret or journal damaged"
    return _tests(what, rounds, "damage_is_found", "tests/operate/test_damage.py")


def scarcity(rounds: int) -> Row:
    """Disks that are full or can't be written, and too little memory."""
    return _tests("disk full or read-only, memory short", rounds, "", "tests/lake/test_scarce.py")


def _tests(what: str, rounds: int, names: str, file: str) -> Row:
    """Tests of the suite, again and again."""
    passed = failed = 0
    for _ in range(rounds):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-n", "0", "-k", names, file],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        said = re.findall(r"(\d+) (passed|failed)", done.stdout)
        counts = {what: int(number) for number, what in said}
        passed += counts.get("passed", 0)
        failed += counts.get("failed", 0)
    lost = f"{failed} times" if failed else "only what was damaged, and it was reported"
    return Row(what, passed + failed, passed, lost)


def secrets(folder: Path, times: int, kills: int) -> list[Row]:
    """Secrets of many kinds in many places: none is in any byte that was written or said."""
    planted = plant(folder / "in", times)
    out = folder / "out"
    run_commands(out, planted, kills)
    home = out / "prefect"
    flows = run_flows(out, out / "flows", planted, own_prefect(home))
    notebooks = _run_notebooks(out)
    shown = shown_by_prefect(home, planted.ways) + shown_in(files_under(out), planted.ways)
    assert not shown, shown
    what = f"secrets planted in {len(set(planted.ways))} ways, every byte searched"
    none = "none was found"
    return [
        Row(f"{what}, {kills} times after SIGKILL", len(planted.ways), 0, none),
        Row("flows run on them, and failed for one: Prefect's database and logs", flows, 0, none),
        Row("notebooks run on them, for Jupyter and as a page", notebooks, 0, none),
    ]


def _run_notebooks(out: Path) -> int:
    """Run each notebook on the commands' lake, with what it shows into `out`; returns how many."""
    folder = out / "notebooks"
    folder.mkdir()
    env = os.environ | {"KEYWATCH_LAKE": str(out / LAKE), "TMPDIR": str(folder)}
    exported([source.stem for source in SOURCES], folder, env, "--include-outputs")
    for source in SOURCES:
        subprocess.run(
            [BIN / "marimo", "export", "html", source, "-o", folder / f"{source.stem}.html"],
            cwd=folder, env=env, check=True, capture_output=True,
        )  # fmt: skip
    return 2 * len(SOURCES)


def many(
    folder: Path, seconds: float, storages: list[str], what: str, settings: LakeSettings | None
) -> Row:
    """Processes that load, review, watch, deliver and give verdicts at once, for `seconds`."""
    ends = time.time() + seconds
    workers = []
    for nth, storage in enumerate(storages):
        home = folder / f"m{nth}"
        home.mkdir(parents=True)
        workers.append(Forked.calling(busy, home, ends, storage))
    counts: Counter[str] = Counter()
    for worker in workers:
        assert worker.ends(seconds + 1800)
        assert worker.exit_code == 0, worker.said
        counts.update(json.loads(worker.said.splitlines()[-1]))
    lake = folder / "lake" if settings is None else folder / "m0" / "lake"
    after = state(lake, settings)
    lost = counts["loaded"] - after["events"]
    return Row(
        f"{what}, {seconds:.0f} seconds: {counts['load']} loads, {counts['review']} reviews, "
        f"{counts['watch']} watches, {counts['deliver']} deliveries, {counts['verdict']} verdicts, "
        f"{counts['maintain']} times maintained",
        counts.total() - counts["loaded"] - counts["busy"],
        counts["busy"],
        f"{lost} of {counts['loaded']:,} events",
    )


def fuzzed(folder: Path, lines: int, seed: int) -> list[Row]:
    """Lines and files that nobody has written, loaded; what became of the good ones among them."""
    found = fuzz(folder, lines, seed, CORPUS)
    return [
        Row(
            f"fuzzed lines among good ones, seed {seed}; at most "
            f"{found.resident_bytes / 2**20:.0f} MiB",
            found.fuzzed,
            found.rejects,
            f"{found.good_lost} of {found.good:,} good lines",
        ),
        Row(
            "cut and damaged files beside them",
            found.broken_files,
            found.left_out,
            "none skipped without a reason",
        ),
    ]


def busy(home: Path, ends: float, storage: str) -> None:
    """One of many processes: commands in any order until `ends`; prints how many as JSON."""
    world = World(home / "own", storage)
    world.lake = home / "lake" if "catalog" in storage else home.parent / "lake"
    counts: Counter[str] = Counter()
    while time.time() < ends or not counts["load"]:
        name = random.choice(DONE_AT_ONCE)
        if not counts["load"]:
            name = "load"
        if name == "load":
            arguments: tuple[str | Path, ...] = ("ingest", world.new_log(home.name))
        elif name == "watch":
            arguments = ("watch",)
        else:
            arguments = COMMANDS[name](world)
        done = world.run(*arguments)
        counts[name] += 1
        counts["busy"] += done == 3
        if name == "load":
            assert done == 0, world.said
            counts["loaded"] += LINES - 1
    print(json.dumps(counts))


def main() -> None:
    """Run all of it, and write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--planted", type=int, default=16, help="times that each way is planted")
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--print", action="store_true", dest="only_print")
    given = parser.parse_args()
    random.seed(given.seed)
    with tempfile.TemporaryDirectory(prefix="keywatch-torture-") as name:
        folder = Path(name)
        rows = kills(folder / "kills", given.kills)
        rows += [damages(given.rounds), scarcity(given.rounds)]
        rows += secrets(folder / "planted", given.planted, given.kills // 20)
        rows += fuzzed(folder / "fuzz", given.lines, given.seed)
        rows.append(
            many(folder / "many", given.seconds, [""] * PROCESSES, f"{PROCESSES} processes", None)
        )
        if postgres.programs() is not None:
            with postgres.server() as catalog:
                shared = LakeSettings(catalog=catalog, data_path=str(folder / "pg" / "data"))
                secret = folder / "shared.secret"
                secret.write_text("5e" * 32)
                toml = f'[storage]\ncatalog = "{catalog}"\ndata_path = "{shared.data_path}"\n'
                toml += f'key_hash_secret = {{ file = "{secret}" }}\n'
                two = "two machines, PostgreSQL"
                rows.append(many(folder / "pg", given.seconds, [toml] * 2, two, shared))
    table = "\n".join(
        [
            f"Of {utc_now():%Y-%m-%d}, {os.cpu_count()} processors.",
            "",
            "| test | times | of these interrupted, repaired or busy | lost |",
            "| --- | ---: | ---: | --- |",
            *(f"| {row.what} | {row.times:,} | {row.cut_short:,} | {row.lost} |" for row in rows),
        ]
    )
    print(table)
    if not given.only_print:
        page = PAGE.read_text(encoding="utf-8")
        head, rest = page.split(BEGIN)
        PAGE.write_text(f"{head}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except (KeywatchError, FoundError) as e:
        sys.exit(f"torture: {type(e).__name__}: {e}")
