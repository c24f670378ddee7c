"""Versions and releases: what git says is what is built, and what is built can be installed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.long import IS_LONG
from tests.prose import ROOT
from tests.test_house import FOREIGN, pyproject
from tools.lock import locked

SAYS_VERSION = [".git_archival.txt", ".gitattributes", "pyproject.toml"]
TODAY = "2026-11-27"


def run(*words: str | Path, cwd: Path) -> str:
    """What a command prints, as in a shell without the tests' variables."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, check=False)
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
    for described, version in [("v1.2.0", "1.2.0"), ("v1.2.0-1-gabc", "1.2.1.dev1+gabc")]:
        run("env", f"KEYWATCH_VERSION={described}", "sh", "-c", line[1], cwd=checkout)
        assert version_of(checkout) == version


# ---------------------------------------------------------------------------------------- releases


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of these sources whose commit is tagged as 9.8.7."""
    folder = tmp_path_factory.mktemp("release") / "checkout"
    folder.mkdir()
    sources = pyproject()["tool"]["hatch"]["build"]["targets"]["sdist"]["only-include"]
    for name in [*sources, ".gitignore", "pyproject.toml"]:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(ROOT / name, folder)
    changes = folder / "CHANGELOG.md"
    text = changes.read_text(encoding="utf-8")
    text = text.replace("# Changelog\n", f"# Changelog\n\n## 9.8.7 ({TODAY})\n\n- All.\n", 1)
    changes.write_text(text, encoding="utf-8")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "Release 9.8.7")
    git(folder, "tag", "v9.8.7")
    return folder


def released(checkout: Path, folder: Path) -> Path:
    run(sys.executable, "tools/release.py", "--output", folder, cwd=checkout)
    return folder


@pytest.fixture(scope="module")
def release(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return released(checkout, tmp_path_factory.mktemp("released") / "dist")


@pytest.fixture(scope="module")
def wheel(release: Path) -> Path:
    return release / "keywatch-9.8.7-py3-none-any.whl"


@pytest.mark.slow
def test_a_release_has_its_files_their_sums_and_its_notes(release: Path) -> None:
    assert {file.name for file in release.iterdir()} == {
        "SHA256SUMS",
        "keywatch-9.8.7-notes.md",
        "keywatch-9.8.7-py3-none-any.whl",
        "keywatch-9.8.7-requirements.txt",
        "keywatch-9.8.7.cdx.json",
        "keywatch-9.8.7.tar.gz",
    }
    checked = run("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=release)
    assert len(checked.splitlines()) == 5
    notes = (release / "keywatch-9.8.7-notes.md").read_text(encoding="utf-8")
    assert notes == f"## 9.8.7 ({TODAY})\n\n- All.\n"


@pytest.mark.slow
@pytest.mark.skipif(not IS_LONG, reason="builds all of it twice more; make test-long does")
def test_the_same_commit_gives_the_same_bytes(
    checkout: Path, release: Path, tmp_path: Path
) -> None:
    clone = tmp_path / "another" / "place"
    mask = os.umask(0o077)
    try:
        run("git", "clone", "-q", checkout, clone, cwd=tmp_path)
        again = released(clone, tmp_path / "again")
    finally:
        os.umask(mask)
    sums = (release / "SHA256SUMS").read_text(encoding="utf-8")
    assert (again / "SHA256SUMS").read_text(encoding="utf-8") == sums

    with tarfile.open(release / "keywatch-9.8.7.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    when = git(checkout, "log", "-1", "--format=%ct")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    run("env", f"SOURCE_DATE_EPOCH={when}", *build, cwd=tmp_path / "keywatch-9.8.7")
    (built,) = tmp_path.glob("*.whl")
    assert f"{hashlib.sha256(built.read_bytes()).hexdigest()}  {built.name}\n" in sums


@pytest.mark.slow
def test_the_wheel_ships_the_content_and_the_typing_marker(checkout: Path, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        shipped = Counter(
            name for name in archive.namelist() if not name.startswith("keywatch-9.8.7.dist-info/")
        )
    places = {checkout / "src/keywatch": "keywatch"} | {
        checkout / folder: f"keywatch/_content/{folder}"
        for folder in ("data", "detectors", "vendors")
    }
    assert shipped == Counter(
        f"{place}/{file.relative_to(folder).as_posix()}"
        for folder, place in places.items()
        for file in folder.rglob("*")
        if file.is_file()
    )
    assert {"keywatch/py.typed", "keywatch/_content/data/secrets.toml"} <= shipped.keys()


@pytest.mark.slow
def test_the_wheel_runs_outside_of_a_checkout(wheel: Path, tmp_path: Path) -> None:
    # With the packages that are here; `make install-check` installs them, too.
    # uv's environments have no pip, and installing one takes longer than all else here.
    with_pip = find_spec("pip") is None
    venv.create(tmp_path / "venv", with_pip=with_pip)
    python = tmp_path / "venv/bin/python"
    pip = [str(python), "-m", "pip"]
    if not with_pip:
        pip = [sys.executable, "-m", "pip", "--python", str(python)]
    run(*pip, "install", "-q", "--no-index", "--no-deps", wheel, cwd=tmp_path)
    site = run(python, "-c", "import site; print(site.getsitepackages()[0])", cwd=tmp_path)
    packages = sysconfig.get_path("purelib")
    Path(site, "packages.pth").write_text(f"{packages}\n", encoding="utf-8")

    keywatch = tmp_path / "venv/bin/keywatch"
    assert run(keywatch, "--version", cwd=tmp_path) == "9.8.7"
    assert "unfamiliar_origin" in run(keywatch, "detectors", "list", cwd=tmp_path)
    where = "import keywatch.content; print(keywatch.content.content_path('data'))"
    assert run(python, "-c", where, cwd=tmp_path) == f"{site}/keywatch/_content/data"


@pytest.mark.slow
def test_the_list_of_packages_is_cyclonedx_and_complete(release: Path, wheel: Path) -> None:
    text = (release / "keywatch-9.8.7.cdx.json").read_text(encoding="utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert not FOREIGN.search(text)
    document: dict[str, Any] = json.loads(text)
    program = document["metadata"]["component"]
    assert (program["name"], program["version"]) == ("keywatch", "9.8.7")
    assert program["hashes"][0]["content"] == hashlib.sha256(wheel.read_bytes()).hexdigest()

    components = {one["name"]: one for one in document["components"]}
    lock = locked()
    for name, one in components.items():
        (files,) = one["externalReferences"]
        hashes = {each["content"] for each in files["hashes"]}
        assert (one["version"], hashes) == (lock[name].version, set(lock[name].hashes))
    # Those that only another Python or platform needs are not here to say theirs.
    elsewhere = {"appnope", "async-timeout", "whenever"}
    assert {name for name, one in components.items() if "licenses" not in one} <= elsewhere
    assert components["duckdb"]["licenses"][0]["license"]["name"] == "MIT License"

    # All that an image has, but for Windows; and nothing of the developers.
    image = set(locked(ROOT / "deploy/requirements.lock"))
    assert image - components.keys() == {"pywin32"}
    assert {"marimo", "appnope"} <= components.keys()
    assert components.keys().isdisjoint({"hatchling", "pytest", "cyclonedx-python-lib", "moto"})
    required = {name for name, one in components.items() if one["scope"] == "required"}
    assert {"duckdb", "numpy", "httpx"} <= required
    assert required.isdisjoint({"prefect", "starlette", "marimo"})
    brought = {
        (one["name"], each["value"])
        for one in components.values()
        for each in one.get("properties", [])
    }
    assert {("prefect", "flows"), ("starlette", "flows"), ("starlette", "triage")} <= brought
    edges = {one["ref"]: one.get("dependsOn", []) for one in document["dependencies"]}
    assert components["duckdb"]["bom-ref"] in edges["keywatch"]
    assert components["idna"]["bom-ref"] in edges[components["httpx"]["bom-ref"]]


def retag(checkout: Path, tag: str) -> None:
    git(checkout, "tag", "-d", "v9.8.7")
    git(checkout, "tag", tag)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "README.md").write_text("x"), "changes that no commit has"),
        (lambda folder: (folder / "src/new.py").touch(), "?? src/new.py"),
        (lambda folder: git(folder, "tag", "-d", "v9.8.7"), "no tag names this commit, 0.1.dev1+g"),
        (lambda folder: retag(folder, "v9.9.0"), "no section '## 9.9.0 (YYYY-MM-DD)'"),
        (lambda folder: (folder / "dist").mkdir(), "dist exists: remove it"),
    ],
    ids=["changed", "untracked", "untagged", "unwritten", "there"],
)
def test_what_no_tag_and_no_section_describes_is_not_built(
    checkout: Path, tmp_path: Path, change: Any, said: str
) -> None:
    clone = tmp_path / "clone"
    run("git", "clone", "-q", checkout, clone, cwd=tmp_path)
    change(clone)
    refused = subprocess.run(
        [sys.executable, "tools/release.py"], cwd=clone, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert said in refused.stderr
    assert not list(clone.glob("dist/*"))
