"""The commands as a user gives them; a few in a process of their own (`in_a_process`)."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from keywatch import __version__, pipeline, sample
from keywatch.lake import Lake, utc_now
from keywatch.settings import Settings
from tests.command import Ran, keywatch
from tests.findings import assert_golden, findings

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def in_a_process(*words: str | Path, cwd: Path | None = None, piped: str = "") -> Ran:
    """Run one command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "keywatch", *map(str, words)],
        input=piped, capture_output=True, text=True, cwd=cwd, check=False,
    )  # fmt: skip
    return Ran(done.returncode, done.stdout, done.stderr)


def on_a_terminal(*words: str | Path) -> Ran:
    """Run one command in a process whose standard error, and nothing else, is a terminal."""
    terminal, its_end = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "keywatch", *map(str, words)],
        stdout=subprocess.PIPE, stderr=its_end, text=True,
        env={**os.environ, "TERM": "xterm"},
    ) as process:  # fmt: skip
        os.close(its_end)
        said = b"".join(iter(lambda: _read(terminal), b""))
        assert process.stdout
        out = process.stdout.read()
    os.close(terminal)
    return Ran(process.returncode, out, said.decode())


def _read(terminal: int) -> bytes:
    """What is said next; nothing once the process has ended, which Linux calls an error."""
    assert select.select([terminal], [], [], 600)[0]
    try:
        return os.read(terminal, 65_536)
    except OSError:
        return b""


def left_on_screen(said: str) -> str:
    """What a terminal shows in the end."""
    rows, row = [""], 0
    for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\n|[^\x1b\r\n]+", said):
        if part == "\n":
            row += 1
            rows += [""] * (row + 1 - len(rows))
        elif part == "\x1b[1A":
            row -= 1
        elif part == "\x1b[2K":
            rows[row] = ""
        elif part[0] != "\x1b":
            rows[row] += part
    return "\n".join(rows).strip()


@pytest.fixture(scope="module", autouse=True)
def _two_replays() -> Iterator[None]:
    """By default so many weeks are replayed as to take longer than all else here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KEYWATCH_REVIEW__REPLAYED_WINDOWS", "2")
        yield


LINE = (
    '{{"timestamp": "2026-09-30T10:00:0{n}Z", "request_id": "req_{n}", "key_id": "key_1", '
    '"ip": "81.2.69.144", "method": "GET", "endpoint": "/v1/checks", "status": 200}}\n'
)


@pytest.mark.parametrize(
    ("run", "command"), [(in_a_process, ["ingest"]), (keywatch, ["watch", "--no-deliver"])]
)
def test_a_hyphen_is_standard_input(
    run: Callable[..., Ran], command: list[str], tmp_path: Path
) -> None:
    piped = "".join(LINE.format(n=n) for n in range(3))
    ran = run(*command, "-", "--lake", tmp_path / "lake", piped=piped)
    assert (ran.code, ran.err) == (0, "")
    assert "Loaded 3 events from 1 file (pulsely)" in ran.out


def test_a_hyphen_stands_beside_files(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(LINE.format(n=1))
    ran = keywatch("ingest", "a.jsonl", "-", cwd=tmp_path, piped=LINE.format(n=2))
    assert (ran.code, ran.err) == (0, "")
    assert "Loaded 2 events from 2 files (pulsely)" in ran.out


def test_a_notice_goes_to_standard_error_and_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "keywatch.toml").write_text('[metrics]\nfile = "nowhere/keywatch.prom"\n')
    (tmp_path / "a.jsonl").write_text(LINE.format(n=1))
    ran = keywatch("ingest", "a.jsonl", cwd=tmp_path)
    assert ran.code == 0
    assert ran.out.startswith("Loaded 1 event from 1 file (pulsely)")
    assert ran.err.endswith("(No such file or directory); see [metrics] file\n")


def test_the_exit_code_is_the_process_s(tmp_path: Path) -> None:
    ran = in_a_process("review", cwd=tmp_path)
    assert (ran.code, ran.out) == (3, "")
    assert ran.err.startswith("keywatch: lake: no lake found there")


@pytest.mark.parametrize("words", [["--lkae", "x"], ["a.jsonl", "-x"], ["-", "--weeks=3"]])
def test_an_unknown_option_is_no_path(words: list[str], tmp_path: Path) -> None:
    ran = keywatch("ingest", *words, cwd=tmp_path)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("keywatch: Unknown option: '-")
    assert not (tmp_path / "lake").exists()


@dataclass(frozen=True)
class Loaded:
    """A small world in a lake."""

    world: sample.World
    lake: Path
    truth: dict[str, dict[str, object]]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    folder = tmp_path_factory.mktemp("world")
    world = sample.generate(folder / "sample", keys=100, weeks=8, seed=11)
    lake = folder / "lake"
    assert keywatch("ingest", world.logs[0].parent, "--lake", lake).code == 0
    assert keywatch("keys", "import", world.inventory, "--lake", lake).code == 0
    lines = world.truth.read_text(encoding="utf-8").splitlines()
    return Loaded(world, lake, {row["key_id"]: row for row in map(json.loads, lines)})


WEEK_40 = ("review", "--week", "2026-W40")


@pytest.fixture(scope="module")
def document(loaded: Loaded) -> dict[str, Any]:
    """The review of the small world, as JSON."""
    ran = keywatch(*WEEK_40, "--format", "json", "--lake", loaded.lake)
    assert ran.code == 0, ran.err
    found: dict[str, Any] = json.loads(ran.out)
    return found


@pytest.fixture(scope="module")
def text(loaded: Loaded) -> str:
    """The review of the small world, as text."""
    return keywatch(*WEEK_40, "--lake", loaded.lake).out


def test_the_demo_stays_out_of_the_lake_that_the_settings_name(tmp_path: Path) -> None:
    file = tmp_path / "team.toml"
    file.write_text(
        f'[storage]\ncatalog = "sqlite:{tmp_path / "team.sqlite"}"\n'
        f'data_path = "{tmp_path / "team"}"\nkey_hash_secret = {{ env = "KEYWATCH_NONE" }}\n'
        "[review]\npower_keys = 0\n"
    )
    ran = keywatch(
        "demo", "--keys", "5", "--weeks", "2", "--keep", tmp_path / "demo", "--config", file
    )

    assert ran.code == 0, ran.err
    assert {path.name for path in tmp_path.iterdir()} == {"team.toml", "demo"}
    assert (tmp_path / "demo/lake/catalog.sqlite").is_file()


def test_the_demo_names_most_stolen_keys_and_hardly_an_innocent_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KEYWATCH_REVIEW__REPLAYED_WINDOWS")
    ran = keywatch("demo", "--html", tmp_path / "review.html", "--keep", tmp_path / "demo")

    assert ran.code == 0, ran.err
    page = (tmp_path / "review.html").read_text(encoding="utf-8")
    assert page.count('<details class="case"') == len(
        re.findall("^  (?:REVOKE|INV)", ran.out.partition("Open alerts:")[0], re.MULTILINE)
    )
    truth = ran.out[ran.out.index("Ground truth of this sample") :]
    figures = dict(line.strip().rsplit("  ", 1) for line in truth.splitlines()[1:6])
    numbers = {name.strip(): int(text.split()[0]) for name, text in figures.items()}
    # In 200 keys an odd week or two are as strange as a theft: most are named, few are revoked.
    assert numbers["found, to revoke"] >= 1
    assert numbers["missed"] <= 0.4 * numbers["stolen keys"]
    assert numbers["false alarms"] <= 1
    assert "IP Geolocation by DB-IP" in ran.out
    assert "Health" not in ran.out
    assert max(map(len, ran.out.partition("For details:")[0].splitlines())) <= 100
    again = keywatch("review", "--lake", tmp_path / "demo" / "lake", "--format", "json")
    assert_golden("demo", findings(json.loads(again.out)))


def test_a_review_finds_the_loud_thefts_and_its_json_fits_the_schema(
    loaded: Loaded, document: dict[str, Any]
) -> None:
    schema = json.loads(keywatch("review", "--schema").out)
    jsonschema.Draft202012Validator(schema).validate(document)
    assert document["window"] == {"start": "2026-09-28T00:00:00Z", "end": "2026-10-05T00:00:00Z"}
    actions = {case["key_id"]: case["action"] for case in document["cases"]}
    loud = [
        key_id
        for key_id, row in loaded.truth.items()
        if row["theft"] in ("scan", "takeover", "vpn_probe", "test_to_prod")
    ]
    assert loud
    assert {actions.get(key_id) for key_id in loud} <= {"revoke", "investigate"}
    bits = [case["bits"] for case in document["cases"]]
    assert bits == sorted(bits, reverse=True)


def test_the_same_review_twice_is_the_same_run(loaded: Loaded, document: dict[str, Any]) -> None:
    again = json.loads(keywatch(*WEEK_40, "--format", "json", "--lake", loaded.lake).out)

    assert again["run"]["id"] == document["run"]["id"]
    assert again["cases"] == document["cases"]


def test_all_new_networks_can_be_listed(
    loaded: Loaded, document: dict[str, Any], text: str
) -> None:
    listed = keywatch(*WEEK_40, "--lake", loaded.lake, "--networks")

    assert (listed.code, listed.err) == (0, "")
    networks = document["new_networks"]
    assert f"New networks: {len(networks):,}\n" in listed.out
    assert all(one["key_id"] in listed.out and one["outcome"][1:] in " ".join(listed.out.split())
               for one in networks)  # fmt: skip
    assert f"New networks: {len(networks):,}\n" in text


def test_a_text_names_the_lake_and_a_file_or_json_does_not(
    loaded: Loaded, text: str, tmp_path: Path
) -> None:
    file = tmp_path / "review.txt"
    keywatch(*WEEK_40, "--lake", loaded.lake, "--output", file)
    document = keywatch(*WEEK_40, "--lake", loaded.lake, "--format", "json").out
    assert "keywatch case key_" in file.read_text(encoding="utf-8")
    assert str(loaded.lake) not in file.read_text(encoding="utf-8") + document
    stolen = re.findall(r"details +keywatch case (\S+) --week 2026-W40", text)
    flat = " ".join(text.split())
    assert f"keywatch case {stolen[0]} --week 2026-W40 --lake {loaded.lake}" in flat
    by_variable = keywatch(*WEEK_40, KEYWATCH_LAKE=str(loaded.lake)).out
    assert f" --lake {loaded.lake}" in " ".join(by_variable.split())
    case = keywatch("case", stolen[0], "--week", "2026-W40", cwd=loaded.lake.parent).out
    assert "keywatch" in case
    assert "--lake" not in case


def test_the_last_full_week_is_reviewed_when_none_is_named(loaded: Loaded, text: str) -> None:
    default = keywatch("review", "--lake", loaded.lake)

    assert default.out.splitlines()[0] == text.splitlines()[0]


def test_fail_on_tells_findings_by_the_exit_code(loaded: Loaded, tmp_path: Path) -> None:
    found = keywatch(
        "review", "--fail-on", "investigate", "--output", tmp_path / "r.txt",
        "--lake", loaded.lake,
    )  # fmt: skip
    # A copy: what is stored of another window changes what is asked of this one.
    copied = shutil.copytree(loaded.lake, tmp_path / "lake")
    quiet = keywatch(
        "review", "--from", "2020-01-01", "--to", "2020-01-08", "--fail-on", "investigate",
        "--lake", copied,
    )  # fmt: skip

    assert (found.code, found.out) == (1, "")
    assert (tmp_path / "r.txt").read_text(encoding="utf-8").startswith("Keywatch review")
    assert quiet.code == 0


def test_a_week_without_events_says_which_weeks_the_lake_has(
    loaded: Loaded, tmp_path: Path
) -> None:
    # A copy: what is stored of another window changes what is asked of this one.
    lake = shutil.copytree(loaded.lake, tmp_path / "lake")
    key = next(iter(loaded.truth))
    said = "the lake has events from 2026-08-10 to 2026-10-04 (2026-W33 to 2026-W40)\n"
    for words in (
        ("review", "--week", "2026-W50"),
        ("review", "--week", "2026-W50", "--format", "json"),
        ("case", key, "--week", "2026-W50"),
        ("backtest", "--from", "2026-12-07", "--to", "2026-12-14"),
    ):
        ran = keywatch(*words, "--lake", lake, KEYWATCH_REVIEW__REPLAYED_WINDOWS="0")
        assert ran.code == 0
        assert ran.err == f"no events in week 2026-W50 (2026-12-07 to 2026-12-13, UTC): {said}"
        assert ran.out


def test_a_review_as_a_page_tells_what_the_text_tells(
    loaded: Loaded, document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # For how many minutes an alert has been open is on the page.
    now = utc_now()
    monkeypatch.setattr("keywatch.pipeline.utc_now", lambda: now)
    file = tmp_path / "review.html"
    words = (*WEEK_40, "--lake", loaded.lake)

    written = keywatch(*words, "--format", "html", "--output", file, "--fail-on", "investigate")
    printed = keywatch(*words, "--format", "html")

    assert (written.code, written.out, written.err) == (1, "", "")
    page = file.read_text(encoding="utf-8")
    assert printed.out == page
    alerted = [case for case in document["cases"] if case["action"] != "none"]
    assert alerted
    assert page.count('<details class="case"') == len(alerted)
    assert all(case["key_id"] in page for case in alerted)
    assert document["run"]["id"] in page


def test_a_case_by_id_masked_form_and_name_and_a_key_without_one(loaded: Loaded) -> None:
    stolen = next(key for key, row in loaded.truth.items() if row["theft"] == "scan")
    inventory = {
        row["key_id"]: row
        for row in map(json.loads, loaded.world.inventory.read_text("utf-8").splitlines())
    }
    by_masked_form = keywatch("case", inventory[stolen]["key"], "--lake", loaded.lake).out
    assert "SELECT ts, address" in by_masked_form
    timeline = by_masked_form.partition("Requests by network\n")[2].partition("\n\n")[0]
    assert "suspicious" in timeline.splitlines()[0]
    answer = pipeline.review(loaded.lake, None, Settings().without_power(), keep=False, whole=False)
    (found,) = (each for each in answer.cases if each.key_id == stolen)
    for name in (stolen, inventory[stolen]["key"], inventory[stolen]["name"]):
        assert pipeline.find_case(answer, name) is found
    unknown = keywatch("case", "key_nobody", "--lake", loaded.lake)
    assert unknown.code == 2
    assert "no key 'key_nobody'" in unknown.err


def test_every_command_takes_the_lake_from_the_environment(
    loaded: Loaded, document: dict[str, Any], text: str
) -> None:
    ran = keywatch("review", KEYWATCH_LAKE=str(loaded.lake))

    assert ran.code == 0, ran.err
    # Between the two a minute of the clock may have passed.
    assert re.sub(r"open for \d+ minutes?,", "", ran.out) == re.sub(
        r"open for \d+ minutes?,", "", text
    )
    assert document["coverage"]["events"] > 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("review",), 3, "no lake found there"),
        (("ingest",), 2, "PATH"),
        (("ingest", "nowhere.jsonl"), 2, "no log file found"),
        (("review", "--week", "2026-40"), 2, "2026-W40"),
        (("review", "--networks", "--format", "json"), 2, "--format json always includes"),
        (("review", "--networks", "--missed"), 2, "--missed chooses"),
        (("review", "--from", "2026-01-02", "--to", "2026-01-01"), 2, "must be after"),
        (("review", "--from", "2026-01-02"), 2, "must be given together"),
        (("keys", "import", "nowhere.jsonl"), 2, "can't be read"),
        (("doctor",), 3, ""),
        (("review", "--config", "nowhere.toml"), 2, "can't be read"),
        (("detectors", "check", "no_such"), 2, "available: anonymous_network"),
        (("frobnicate",), 2, "frobnicate"),
        (("demo", "--keys", "0"), 2, "--keys 0 --weeks 9 --seed 1: a sample has 2 keys or more, 2"),
        (("demo", "--weeks", "1"), 2, "2 to 1000 weeks"),
        (("demo", "--weeks", "9999"), 2, "2 to 1000 weeks"),
        (("demo", "--seed=-1"), 2, "a seed of 0 or more"),
    ],
)
def test_mistakes_are_told_in_words(
    tmp_path: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    ran = keywatch(*words, cwd=tmp_path)

    assert ran.code == code
    assert said in ran.err
    assert "Traceback" not in ran.err


def test_a_wrong_setting_names_the_file_and_the_field(tmp_path: Path) -> None:
    config = tmp_path / "keywatch.toml"
    config.write_text("[ingest]\nmax_reject_share = 7\nchunk = 1\n", encoding="utf-8")

    ran = keywatch("doctor", "--config", config)

    assert ran.code == 2
    assert "ingest.max_reject_share" in ran.err
    assert "ingest.chunk" in ran.err


def test_an_inventory_mistake_names_file_line_and_field(tmp_path: Path) -> None:
    file = tmp_path / "keys.jsonl"
    good = {
        "key_id": "key_1", "key": "ply_live_prod_4f8a2c…9e1d", "name": "n", "environment": "prod",
        "scopes": ["read:checks"], "created_at": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    file.write_text(
        json.dumps(good) + "\n" + json.dumps({**good, "key_id": "key_2", "created_at": "soon"}),
        encoding="utf-8",
    )

    ran = keywatch("keys", "import", file, "--lake", tmp_path / "lake")

    assert ran.code == 2
    assert f"{file}, line 2: created_at is not RFC 3339" in ran.err


def test_honey_is_true_or_false_and_no_place_for_a_key(tmp_path: Path) -> None:
    file = tmp_path / "keys.jsonl"
    good = {
        "key_id": "key_1", "key": "ply_live_prod_4f8a2c…9e1d", "name": "n", "environment": "prod",
        "scopes": ["read:checks"], "created_at": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    full = "ply_live_prod_4f8a2c0000000000009e1d"
    for wrong, shown in (("yes", '"yes"'), (1, "1"), (full, '"ply_live_prod_4f8a2c…9e1d#')):
        file.write_text(json.dumps({**good, "honey": wrong}), encoding="utf-8")
        ran = keywatch("keys", "import", file, "--lake", tmp_path / "lake")
        assert ran.code == 2
        assert f"{file}, line 1: honey is {shown}" in ran.err
        assert "use true or false, or omit it" in ran.err
        assert full not in ran.err
    for right in ({}, {"honey": None}, {"honey": False}, {"honey": True}):
        file.write_text(json.dumps({**good, **right}), encoding="utf-8")
        ran = keywatch("keys", "import", file, "--lake", tmp_path / "lake")
        assert ran.code == 0
    with Lake.open(tmp_path / "lake") as lake:
        assert lake.rows("SELECT import_id, honey FROM lake.keys ORDER BY import_id") == [
            (1, None), (2, False), (3, True),
        ]  # fmt: skip


def test_importing_an_inventory_again_changes_nothing(loaded: Loaded) -> None:
    ran = keywatch("keys", "import", loaded.world.inventory, "--lake", loaded.lake)

    assert "0 new or changed" in ran.out


def test_doctor_says_versions_lake_and_database_ages(loaded: Loaded) -> None:
    ran = keywatch("doctor", "--lake", loaded.lake)

    assert ran.code == 0, ran.out
    assert f"keywatch {__version__}" in ran.out
    assert "dbip-country-lite" in ran.out
    assert str(loaded.lake) in ran.out


def test_every_command_of_this_version_has_help() -> None:
    for words in (
        ("demo",), ("ingest",), ("keys", "import"), ("review",), ("case",), ("deliver",),
        ("doctor",), ("detectors", "list"), ("detectors", "check"), ("detectors", "test"),
        ("sources", "list"), ("sources", "check"), ("sources", "new"),
    ):  # fmt: skip
        ran = keywatch(*words, "--help")
        assert ran.code == 0
        assert len(ran.out.splitlines()) > 3


def test_detectors_are_listed_and_in_order() -> None:
    (told,) = (
        line for line in keywatch("detectors", "list").out.splitlines() if "exposed_key" in line
    )
    assert told.split()[:3] == ["exposed_key", "policy", "stable"]
    ran = keywatch("detectors", "check")
    assert ran.code == 0, ran.out
    ran = keywatch("detectors", "test", "wildcard_scope")
    assert ran.code == 0, ran.out
    assert ", 0 failed" in ran.out


def test_the_wall_clock_changes_no_answer(loaded: Loaded, tmp_path: Path) -> None:
    """An old week is scored as of its own end: nothing after it is read."""
    # A copy: what is stored of another window changes what is asked of this one.
    copied = shutil.copytree(loaded.lake, tmp_path / "lake")
    early = keywatch(
        "review", "--from", "2026-08-31", "--to", "2026-09-07", "--format", "json",
        "--lake", copied,
    )  # fmt: skip
    document = json.loads(early.out)

    assert document["coverage"]["assessed"] > 0
    seen = [origin["last_seen"] for case in document["cases"] for origin in case["origins"]]
    assert seen
    assert max(seen) < f"{date(2026, 9, 7)}T00:00:00Z"


CLOUDTRAIL = SHARED / "aws-cloudtrail-invictus-stratus" / "cloudtrail.ndjson.gz"


@pytest.fixture(scope="module")
def cloudtrail(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Stratus Red Team run published by Invictus: 2,900 real events in 55 minutes."""
    if not CLOUDTRAIL.exists():
        pytest.skip(f"{CLOUDTRAIL} is absent")
    lake = tmp_path_factory.mktemp("cloudtrail") / "lake"
    first = keywatch("ingest", CLOUDTRAIL, "--lake", lake)
    assert first.code == 0, first.err
    assert "2,815 events" in first.out
    assert "85 events without a key" in first.out
    return lake


def test_a_real_cloudtrail_file_twice_changes_nothing(cloudtrail: Path) -> None:
    ran = keywatch("ingest", CLOUDTRAIL, "--lake", cloudtrail)

    assert "1 file already loaded, skipped." in ran.out


def test_short_history_is_said_and_sensitive_calls_are_reported(cloudtrail: Path) -> None:
    words = ("review", "--from", "2023-07-10", "--to", "2023-07-17", "--lake", cloudtrail)
    document = json.loads(keywatch(*words, "--format", "json").out)

    assert document["coverage"]["assessed"] == 0
    assert document["coverage"]["warming_up"] > 0
    assert any("too little to assess" in note for note in document["coverage"]["notes"])
    said = {item["detector"] for case in document["cases"] for item in case["evidence"]}
    assert "sensitive_call" in said
    text = " ".join(keywatch(*words).out.split())
    assert "56 minutes of history, too little to assess" in text


def test_a_lake_may_be_named_by_another_path_and_moved(tmp_path: Path) -> None:
    world = sample.generate(tmp_path / "sample", keys=5, weeks=2, seed=3, thefts=0)
    assert keywatch("ingest", world.logs[0].parent, cwd=tmp_path).code == 0
    absolute = keywatch("doctor", "--lake", tmp_path / "lake")
    (tmp_path / "lake").rename(tmp_path / "moved")
    moved = keywatch("review", "--lake", "moved", cwd=tmp_path)
    again = keywatch("ingest", world.logs[0].parent, "--lake", tmp_path / "moved")

    assert absolute.code == 0, absolute.out
    assert moved.code == 0, moved.err
    assert "already loaded" in again.out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "steps"),
    [
        (("review", "--week", "2026-W40", "--networks"), ["Opening the lake"]),
        (("case", "STOLEN", "--week", "2026-W40"), ["Opening the lake"]),
        (
            ("backtest", "--from", "2026-09-28", "--to", "2026-10-05"),
            [
                "Opening the lake",
                "Week 1 of 1: Reading the activity for week 2026-W40",
                "Week 1 of 1: Scoring 1 earlier window for comparison: 1 of 1",
                "Week 1 of 1: Scoring week 2026-W40",
            ],
        ),
    ],
    ids=["review", "case", "backtest"],
)
def test_a_terminal_shows_the_step_until_the_end_and_a_log_file_nothing(
    loaded: Loaded,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    steps: list[str],
) -> None:
    if words[0] == "backtest":
        # No other test scores windows by such a baseline: none of these was stored.
        monkeypatch.setenv("KEYWATCH_REVIEW__BASELINE_DAYS", "20")
        monkeypatch.setenv("KEYWATCH_REVIEW__REPLAYED_WINDOWS", "1")
    stolen = next(key_id for key_id in loaded.truth if key_id in text)
    words = tuple(stolen if word == "STOLEN" else word for word in words)
    shown = on_a_terminal(*words, "--lake", loaded.lake)
    silent = keywatch(*words, "--lake", loaded.lake)

    assert (shown.code, silent.code, silent.err) == (0, 0, "")
    assert shown.out == silent.out
    at = [shown.err.find(step) for step in steps]
    assert -1 not in at
    assert at == sorted(at)
    assert left_on_screen(shown.err) == ""
