"""Versions and releases: what git says is what is built."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.prose import ROOT

SAYS_VERSION = [".git_archival.txt", ".gitattributes", "pyproject.toml"]


def run(*words: str | Path, cwd: Path) -> str:
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def git(checkout: Path, *words: str) -> str:
    return run("git", "-c", "user.name=A", "-c", "user.email=a@example.com", *words, cwd=checkout)


def version_of(folder: Path) -> str:
    return run(sys.executable, "-m", "hatchling", "version", cwd=folder)


def archived(checkout: Path, folder: Path) -> Path:
    """A folder with what `git archive` makes of the checkout's commit."""
    git(checkout, "archive", "-o", f"{folder}.tar", "HEAD")
    with tarfile.open(f"{folder}.tar") as archive:
        archive.extractall(folder, filter="data")
    return folder


def test_the_version_is_that_of_the_tag_also_without_the_history(tmp_path: Path) -> None:
    if not (ROOT / ".git_archival.txt").exists():
        pytest.skip("an sdist, which says its version itself")
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for name in SAYS_VERSION:
        shutil.copy(ROOT / name, checkout)
    git(checkout, "init", "-q")
    git(checkout, "add", ".")
    git(checkout, "commit", "-qm", "one")
    assert re.fullmatch(r"0\.1\.dev1\+g[0-9a-f]+", version_of(checkout))

    git(checkout, "tag", "v1.2.0")
    assert version_of(checkout) == version_of(archived(checkout, tmp_path / "a")) == "1.2.0"

    git(checkout, "commit", "-qm", "two", "--allow-empty")
    later = version_of(checkout)
    assert re.fullmatch(r"1\.2\.1\.dev1\+g[0-9a-f]+", later)
    assert version_of(archived(checkout, tmp_path / "b")) == later

    # The build of an image has what `git describe` said, or nothing.
    shutil.rmtree(checkout / ".git")
    assert version_of(checkout) == "0.0"
    line = re.search(
        r"^RUN (echo .*?) && deploy/", (ROOT / "deploy/Containerfile").read_text(), re.MULTILINE
    )
    assert line
    for described, version in {
        "v1.2.0": "1.2.0",
        "v1.2.0-1-gabc12de": "1.2.1.dev1+gabc12de",
    }.items():
        run("env", f"KEYWATCH_VERSION={described}", "sh", "-c", line[1], cwd=checkout)
        assert version_of(checkout) == version
