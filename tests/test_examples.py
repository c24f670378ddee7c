"""Examples, run: those in docstrings, and the commands of each how-to in a small world.

A how-to is a page of docs/. What stands in its blocks without a language is run as it is written,
line by line, in a folder that a reader could have: `logs/`, an inventory, a log in a format of its
own, a lake with reviews. A TOML block that begins ``# FILE`` is written to that file. What can't be
run here is in `NOT_RUN`, with the reason.
"""

from __future__ import annotations

import doctest
import gzip
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest

from keywatch import sample
from tests.command import keywatch
from tests.conftest import as_json_lines, event
from tests.prose import ROOT

SOURCE = ROOT / "src"
MODULES = [
    ".".join(file.relative_to(SOURCE).with_suffix("").parts)
    for file in sorted(SOURCE.rglob("*.py"))
    if " >>> " in file.read_text("utf-8")
]


def test_the_arithmetic_of_a_score_has_examples() -> None:
    assert {"keywatch.detect.calibration", "keywatch.detect.scoring"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_examples_of(name: str) -> None:
    done = doctest.testmod(import_module(name))
    assert (done.attempted > 0, done.failed) == (True, 0)


HOW_TOS = (
    "start", "load", "review", "deliver", "verdicts", "write-detector", "add-vendor", "schedule",
    "shared", "operate",
)  # fmt: skip
"""Pages whose commands are run; those of cluster.md and deploy.md need more than one machine."""
KEY, WEEK = "key_0700353", "2026-W40"
"""The stolen key and the week of the documents, and of the world."""
CHANNELS = """
[deliver.channels.chat]
kind = "file"
path = "chat.jsonl"

[deliver.channels.soar]
kind = "file"
path = "soar.jsonl"

[deliver]
approved_channels = ["soar"]
"""
NOT_RUN = {
    r"keywatch watch --every": "stays until it is stopped (tests/test_feed.py)",
    r"keywatch triage": "stays until it is stopped (tests/explore/desk)",
    r"pip install": "changes the environment",
    r"keywatch lake (move|init)": "needs a PostgreSQL (tests/operate/test_move.py)",
    r"keywatch lake repair --new-secret": "needs a lake without its secret (tests/operate)",
    r"prefect |export PREFECT": "needs a server (tests/flows)",
    r"systemctl|\* \* |^$": "systemd's and cron's lines, and empty ones",
}
"""Lines of how-tos that are not run, and why."""
SHELL = ("mkdir ", "cp ", "zcat ")
"""What else but Keywatch the lines call; the shell runs these."""


@dataclass(frozen=True)
class Step:
    """A line of a how-to that is run, or the text of a file that is written."""

    line: str = ""
    file: str = ""
    text: str = ""


def steps_of(page: str) -> Iterator[Step]:
    """The steps of a page in their order, without comments."""
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        if language == "toml" and (named := re.match(r"# ([\w.]+)\n", block)):
            yield Step(file=named[1], text=block)
        elif not language:
            for line in block.splitlines():
                yield Step(line=re.sub(r"\s+#.*", "", line).strip())


def why_not(line: str) -> str:
    return next((why for pattern, why in NOT_RUN.items() if re.search(pattern, line)), "")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a log of thirty keys in six weeks, and a lake of it with the last one's review.

    Its stolen key is that of the documents, and one use of it a week before was not found.
    """
    folder = tmp_path_factory.mktemp("world")
    made = sample.generate(folder / "sample", keys=30, weeks=6, seed=1)
    truth = [json.loads(line) for line in made.truth.read_text("utf-8").splitlines()]
    stolen = next(row["key_id"] for row in truth if row["theft"] == "scan")
    (folder / "logs").mkdir()
    for file in sorted((folder / "sample" / "logs").iterdir()):
        with gzip.open(file, "rt", encoding="utf-8") as log:
            text = log.read().replace(stolen, KEY)
        with gzip.open(folder / "logs" / file.name, "wt", encoding="utf-8") as log:
            log.write(text)
    inventory = made.inventory.read_text("utf-8").replace(stolen, KEY)
    (folder / "keys.jsonl").write_text(inventory, encoding="utf-8")
    shutil.rmtree(folder / "sample")
    missed = event(timestamp="2026-09-23T10:00:00Z", ip="203.0.113.7", request_id="req_missed")
    (folder / "logs" / "missed.jsonl").write_bytes(as_json_lines([missed]))
    (folder / "app.log").write_text("".join(map(own_line, range(40))), encoding="utf-8")
    (folder / "detectors").symlink_to(ROOT / "detectors")
    for words in (["ingest", "logs"], ["keys", "import", "keys.jsonl"], ["review"]):
        ran = keywatch(*words, cwd=folder)
        assert ran.code == 0, ran.err
    return folder


def own_line(nth: int) -> str:
    """A line of a log in a format that Keywatch does not know."""
    fields = {
        "@timestamp": f"2026-10-01T10:{nth:02}:00Z", "client_ip": f"203.0.113.{nth % 3}",
        "verb": "GET", "uri": f"/orders/{1000 + nth}", "code": 200, "client": f"shop-{nth % 2}",
    }  # fmt: skip
    return json.dumps(fields) + "\n"


@pytest.mark.slow
@pytest.mark.usefixtures("mid_october")
@pytest.mark.parametrize("page", HOW_TOS)
def test_the_commands_of_a_how_to_run_as_written(page: str, world: Path, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    shutil.copytree(world, folder, symlinks=True)
    if page == "start":
        shutil.rmtree(folder / "lake")
    elif page not in ("write-detector", "add-vendor"):
        places = f"[ingest]\nplaces = [{json.dumps(str(folder / 'logs'))}]\n"
        (folder / "keywatch.toml").write_text(places + CHANNELS, encoding="utf-8")
    run = 0
    for step in steps_of(page):
        if step.file:
            (folder / step.file).write_text(step.text, encoding="utf-8")
        elif not why_not(step.line):
            run += 1
            code, said = run_line(step.line, folder)
            findings = 1 if "--fail-on" in step.line else 0
            assert code in (0, findings), f"{step.line}\n{said}"
    assert run > 0


def test_each_reason_not_to_run_a_line_is_needed() -> None:
    lines = [step.line for page in HOW_TOS for step in steps_of(page) if not step.file]
    assert len(lines) > 40
    assert {one for one in NOT_RUN if not any(re.search(one, line) for line in lines)} == set()


def run_line(line: str, folder: Path) -> tuple[int, str]:
    """Exit code and output of a line: one command of Keywatch, or two in a pipe, or a shell's."""
    piped = ""
    if line.startswith(SHELL):
        first, _, line = line.partition(" | ")
        done = subprocess.run(
            ["sh", "-c", first], cwd=folder, check=False, capture_output=True, text=True
        )
        if done.returncode or not line:
            return done.returncode, done.stderr
        piped = done.stdout
    program, *words = shlex.split(line)
    assert program == "keywatch", line
    ran = keywatch(*words, cwd=folder, piped=piped)
    return ran.code, ran.out + ran.err
