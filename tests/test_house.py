"""The repository itself: what is committed, what is locked, what is shipped."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tools.lock import locked

ROOT = Path(__file__).resolve().parent.parent

# Each in two parts, so that this file does not hold what it looks for.
REGISTRY_HOSTS = [
    "pypi" + ".org",
    "files.python" + "hosted.org",
    "registry.npm" + "js.org",
    "deb.deb" + "ian.org",
]
MACHINE_FOLDERS = ["/wo" + "rk/", "/ro" + "ot/", "/opt/py" + "pi", "/opt/whe" + "els"]
# A folder counts at the start of a path only: example.com/work/ and ../root/ name no machine.
FOREIGN = re.compile(
    "|".join(map(re.escape, REGISTRY_HOSTS))
    + r"|(?<![\w.\-])(?:"
    + "|".join(map(re.escape, MACHINE_FOLDERS))
    + ")"
)


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def normalized(requirement: str) -> str:
    """The package's name alone, as PEP 503 writes it."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match, f"not a requirement: {requirement!r}"
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def test_no_file_names_a_registry_or_a_folder_of_one_machine() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: nothing is committed")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    ).stdout
    found = []
    for name in filter(None, listed.decode().split("\0")):
        path = ROOT / name
        content = path.read_bytes() if path.is_file() else b""
        if b"\0" in content[:8192]:
            continue
        for number, line in enumerate(content.decode(errors="replace").splitlines(), start=1):
            if match := FOREIGN.search(line):
                found.append(f"{name}:{number}: {match[0]}")
    assert found == []


def test_nothing_is_said_to_be_installed_by_the_project_s_name() -> None:
    """What an index has under that name need not be this program."""
    by_name = re.compile(r"install '?keywatch\b")
    files = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("src/**/*.py")]
    assert len(files) > 100
    assert [file for file in files if by_name.search(file.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    "text",
    [
        "--index-url https://" + REGISTRY_HOSTS[0] + "/simple",
        "see " + MACHINE_FOLDERS[0] + "main",
        'open("' + MACHINE_FOLDERS[1] + '.cache")',
    ],
)
def test_the_scan_finds_what_it_looks_for(text: str) -> None:
    assert FOREIGN.search(text)


@pytest.mark.parametrize("text", ["https://example.com/work/a", "../../root/x", "homework/ a"])
def test_the_scan_leaves_other_paths_alone(text: str) -> None:
    assert not FOREIGN.search(text)


def test_every_locked_package_has_hashes() -> None:
    entries = locked()
    assert entries
    assert [name for name, (_, hashes) in entries.items() if not hashes] == []


def test_the_lock_covers_every_declared_package() -> None:
    project = pyproject()
    declared = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *(one for extra in project["project"]["optional-dependencies"].values() for one in extra),
        *(
            one
            for group in project["dependency-groups"].values()
            for one in group
            if isinstance(one, str)
        ),
    ]
    entries = locked()
    assert [one for one in declared if normalized(one) not in entries] == []


def test_the_lock_agrees_with_every_pin() -> None:
    project = pyproject()["project"]
    extras = project["optional-dependencies"].values()
    declared = [*project["dependencies"], *(one for extra in extras for one in extra)]
    pins = dict(one.split("==") for one in declared if "==" in one)
    assert pins, "the DuckDB packages are pinned"
    entries = locked()
    assert {name: entries[normalized(name)][0] for name in pins} == pins


def test_duckdb_and_its_extensions_are_of_one_version() -> None:
    versions = {version for name, (version, _) in locked().items() if name.startswith("duckdb")}
    assert len(versions) == 1


def test_setup_takes_wheels_by_their_hashes_alone() -> None:
    make = (ROOT / "Makefile").read_text("utf-8").replace("\\\n", "")
    installs = re.findall(r"\bpip (?:sync|install) [^;]*", make)
    of_the_lock = [command for command in installs if "requirements.lock" in command]
    assert len(of_the_lock) == 2
    assert all("--require-hashes --only-binary :all:" in command for command in of_the_lock)
    # What is left is this checkout itself, built with what the lock brought.
    others = set(installs) - set(of_the_lock)
    assert all("--no-deps --no-build-isolation -e ." in command for command in others)


def test_each_test_that_security_names_is_there() -> None:
    text = (ROOT / "SECURITY.md").read_text("utf-8")
    defined = Counter(
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)\(", file.read_text("utf-8"), re.MULTILINE)
    )
    named = set(re.findall(r"`(test_\w+)`", text))
    assert len(named) > 60
    assert {name: defined[name] for name in named if defined[name] != 1} == {}
    rows = [line for line in text.splitlines() if re.match(r"\| (?!---|promise \||what \|)", line)]
    assert [row for row in rows if not re.search(r"`test_\w+`|`make check`", row)] == []


UNIQUE = {"rank", "imported_at", "ts"}
"""Values that no two rows of a group share; of one request's time the display form is the same."""


@pytest.mark.parametrize(
    "file",
    [*(ROOT / "src/keywatch").rglob("[!u]*.sql"), *(ROOT / "detectors").glob("*/detect.sql")],
    ids=lambda file: f"{file.parent.name}-{file.stem}",
)
def test_no_tie_is_decided_by_the_order_of_threads(file: Path) -> None:
    # Two runs of one id once had two values of power: three columns of a row were chosen apart.
    sql = re.sub(r"\s+", " ", file.read_text(encoding="utf-8"))
    for chosen in re.findall(r"arg_(?:max|min)\((?:[^()]|\([^()]*\))*\)", sql):
        by = chosen.rpartition(", ")[2].rstrip(")")
        assert chosen.endswith("))") or by in UNIQUE, chosen
