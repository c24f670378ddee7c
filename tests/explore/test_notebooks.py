"""The notebooks of `notebooks/`: they run on a demo lake, in marimo and in Jupyter."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import zlib
from base64 import b64decode
from collections.abc import Iterable, Sequence
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from keywatch import pipeline
from keywatch.settings import IngestSettings, Settings
from tests.command import keywatch
from tests.conftest import ROOT
from tests.long import IS_LONG
from tests.torture.planted import LOGGED, Planted, plant, shown_in

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent
SOURCES = sorted((ROOT / "notebooks").glob("*.py"))
PROMISED: dict[str, tuple[int, tuple[str, ...]]] = {
    "who_used_this_key": (
        1, (LOGGED, "Suspicious: ", "requests_before", "refused_now", "user_agent"),
    ),
    "what_else_did_this_address_do": (
        1, (LOGGED, "used from", "for the first time", "benign", "keys_now"),
    ),
    "which_keys_would_a_rule_hit": (
        1, ("A rule on networks (class vpn) would alert on", "outcome", "networks", "summary"),
    ),
    "what_did_verdicts_teach": (
        1, (LOGGED, "1 theft and 1 false alarm", "action_after", "compromised", "benign"),
    ),
    "tune_detectors": (
        1, ("unfamiliar_agent", "new_product_prior", "new_client", "bits_then", "action_then"),
    ),
    "write_a_detector": (
        1, ("first_write", "usual_write", "begins to write", "action_then", "bits_then"),
    ),
}  # fmt: skip
"""Pictures of each notebook, and words of its tables; the key is the one with the secrets."""
IN_MARIMO = tuple(PROMISED)[:: 1 if IS_LONG else 2]
IN_JUPYTER = tuple(PROMISED)[0 if IS_LONG else 1 :: 1 if IS_LONG else 2]
"""Where each is run. One that runs in either has cells that do; made for Jupyter are all."""


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    random.seed(5)
    return plant(tmp_path_factory.mktemp("planted"), 1)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, planted: Planted) -> dict[str, str]:
    """A small demo lake, as `make notebooks` makes one, with secrets in its log."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    few: dict[str, Any] = {
        "KEYWATCH_REVIEW__REPLAYED_WINDOWS": "1",
        "KEYWATCH_REVIEW__POWER_KEYS": "0",
    }
    demo = keywatch("demo", "--keys", "60", "--weeks", "9", "--keep", folder, **few)
    assert demo.code == 0, demo.err
    settings = Settings(ingest=IngestSettings(max_reject_share=1.0))
    pipeline.ingest(folder / "lake", [str(planted.logs)], settings)
    pipeline.import_keys(folder / "lake", planted.inventory, settings)
    verdicts = ran(
        sys.executable, ROOT / "tools/demo_verdicts.py", folder, "0",
        env={**os.environ, **few}, cwd=folder,
    )  # fmt: skip
    assert "verdicts given" in verdicts
    return {
        **os.environ,
        **few,
        "KEYWATCH_REVIEW__REPLAYED_WINDOWS": "0",  # what is stored is calibrated
        "KEYWATCH_LAKE": str(folder / "lake"),
        "TMPDIR": str(folder),  # where a written detector goes
        "DO_NOT_TRACK": "1",
    }


def ran(*words: str | Path, env: dict[str, str], cwd: Path) -> str:
    """What a command says that succeeds."""
    done = subprocess.run(words, capture_output=True, text=True, env=env, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def exported(
    names: Sequence[str], folder: Path, environment: dict[str, str], *options: str
) -> dict[str, Any]:
    """These notebooks as `marimo export ipynb` makes them in `folder`, by name."""
    # To load marimo takes longer than to export a notebook: one process for all of them.
    code = """
import sys
from importlib.metadata import entry_points
(command,) = entry_points(group="console_scripts", name="marimo")
marimo = command.load()
count = int(sys.argv[1])
for name in sys.argv[2 : 2 + count]:
    words = ["export", "ipynb", name + ".py", "-o", name + ".ipynb", "--sort", "top-down"]
    marimo(words + sys.argv[2 + count :], standalone_mode=False)
"""
    for name in names:
        shutil.copy(ROOT / "notebooks" / f"{name}.py", folder)
    ran(sys.executable, "-c", code, f"{len(names)}", *names, *options, env=environment, cwd=folder)
    return read(names, folder)


def read(names: Iterable[str], folder: Path) -> dict[str, Any]:
    return {
        name: json.loads((folder / f"{name}.ipynb").read_text(encoding="utf-8")) for name in names
    }


@pytest.fixture(scope="module")
def in_marimo(
    tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]
) -> dict[str, Any]:
    """Each notebook with what marimo's run of it shows."""
    folder = tmp_path_factory.mktemp("marimo")
    return exported(IN_MARIMO, folder, environment, "--include-outputs")


@pytest.fixture(scope="module")
def in_jupyter(
    tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Each notebook as it is made for Jupyter, and with what Jupyter's run of it shows."""
    folder = tmp_path_factory.mktemp("jupyter")
    made = exported(tuple(PROMISED), folder, environment)
    ran(
        BIN / "jupyter-nbconvert", "--to", "notebook", "--execute", "--inplace",
        *(f"{name}.ipynb" for name in IN_JUPYTER), env=environment, cwd=folder,
    )  # fmt: skip
    return made, read(IN_JUPYTER, folder)


def assert_shows_no_secret(notebook: Any, planted: Planted) -> None:
    assert shown_in({"notebook": json.dumps(notebook).encode()}, planted.ways) == []


def outputs(notebook: Any) -> list[dict[str, Any]]:
    return [output for cell in notebook["cells"] for output in cell.get("outputs", [])]


def distinct_rows(png: bytes) -> int:
    """How many different rows of pixels (RGBA, as they are filtered) a picture has."""
    at, pixels = 8, b""
    width = int.from_bytes(png[16:20])
    while at < len(png):
        size, kind = int.from_bytes(png[at : at + 4]), png[at + 4 : at + 8]
        pixels += png[at + 8 : at + 8 + size] if kind == b"IDAT" else b""
        at += size + 12
    plain, stride = zlib.decompress(pixels), width * 4 + 1
    return len({plain[row : row + stride] for row in range(0, len(plain), stride)})


def assert_promised(notebook: Any, name: str) -> None:
    found = outputs(notebook)
    assert [each for each in found if each["output_type"] == "error"] == []
    shown = [each.get("data", {}) for each in found]
    pictures = [b64decode(data["image/png"]) for data in shown if "image/png" in data]
    tables = "".join("".join(data.get("text/html", "")) for data in shown)
    expected_pictures, words = PROMISED[name]
    assert len(pictures) == expected_pictures
    assert all(distinct_rows(picture) > 20 for picture in pictures)  # drawn, not a blank frame
    assert "<script" not in tables
    text = unescape(re.sub(r"<[^>]*>", " ", tables))
    assert [word for word in words if word not in text] == []


def test_each_notebook_promises_something() -> None:
    assert [source.stem for source in SOURCES] == sorted(PROMISED)


@pytest.mark.parametrize("name", IN_MARIMO)
def test_it_runs_in_marimo(in_marimo: dict[str, Any], planted: Planted, name: str) -> None:
    assert_promised(in_marimo[name], name)
    assert_shows_no_secret(in_marimo[name], planted)


def test_what_is_made_for_jupyter_has_no_outputs(
    in_jupyter: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    made, _ = in_jupyter
    assert list(made) == list(PROMISED)
    assert [outputs(notebook) for notebook in made.values()] == [[]] * len(PROMISED)


@pytest.mark.parametrize("name", IN_JUPYTER)
def test_what_is_made_for_jupyter_runs_there(
    in_jupyter: tuple[dict[str, Any], dict[str, Any]], planted: Planted, name: str
) -> None:
    _, executed = in_jupyter
    assert_promised(executed[name], name)
    assert_shows_no_secret(executed[name], planted)


def test_no_output_is_committed() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: nothing is committed")
    listed = subprocess.run(
        ["git", "ls-files", "*.ipynb", "notebooks/*"], cwd=ROOT, check=True, capture_output=True
    ).stdout
    assert {Path(name).suffix for name in listed.decode().split()} <= {".py"}
