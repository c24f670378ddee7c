"""The notebooks of `notebooks/`: they run on a demo lake, in marimo and in Jupyter."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import zlib
from base64 import b64decode
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from keywatch import pipeline
from keywatch.settings import IngestSettings, ReviewSettings, Settings
from tests.command import keywatch
from tests.conftest import ROOT
from tests.torture.planted import LOGGED, Planted, plant, shown_in

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent
SOURCES = sorted((ROOT / "notebooks").glob("*.py"))
PROMISED: dict[str, tuple[int, tuple[str, ...]]] = {
    "weekly_review": (
        2, (LOGGED, "action", "owner", "summary", "counted_bits", "old_place_in_use",
            "not_assessable", "note"),
    ),
    "investigate_key": (
        4, (LOGGED, "Revoke", "requests_before", "agent", "previous", "ip", "consumers",
            "user_agent"),
    ),
    "tune_detectors": (
        1, ("unfamiliar_agent", "new_product_prior", "new_client", "bits_then", "action_then"),
    ),
    "write_a_detector": (
        1, ("first_write", "usual_write", "begins to write", "action_then", "bits_then"),
    ),
}  # fmt: skip
"""Pictures of each notebook, and words of its tables; the key is the one with the secrets."""


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    random.seed(5)
    return plant(tmp_path_factory.mktemp("planted"), 1)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, planted: Planted) -> dict[str, str]:
    """A small demo lake, as `make notebooks` makes one, with secrets in its log."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    few: dict[str, Any] = {
        "KEYWATCH_REVIEW__REPLAYED_WINDOWS": "2",
        "KEYWATCH_REVIEW__POWER_KEYS": "0",
    }
    ran = keywatch("demo", "--keys", "60", "--weeks", "9", "--keep", folder, **few)
    assert ran.code == 0, ran.err
    settings = Settings(
        ingest=IngestSettings(max_reject_share=1.0),
        review=ReviewSettings(power_keys=0, replayed_windows=2),
    )
    pipeline.ingest(folder / "lake", [str(planted.logs)], settings)
    pipeline.import_keys(folder / "lake", planted.inventory, settings)
    pipeline.review(folder / "lake", None, settings, whole=False)
    return {
        **os.environ,
        **few,
        "KEYWATCH_LAKE": str(folder / "lake"),
        "TMPDIR": str(folder),  # where a written detector goes
        "DO_NOT_TRACK": "1",
    }


def exported(source: Path, folder: Path, environment: dict[str, str], *options: str) -> Any:
    file = folder / f"{source.stem}.ipynb"
    ran = subprocess.run(
        [BIN / "marimo", "export", "ipynb", source, "-o", file, "--sort", "top-down", *options],
        capture_output=True,
        text=True,
        env=environment,
        cwd=folder,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return json.loads(file.read_text(encoding="utf-8"))


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


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: str(source.stem))
def test_it_runs_in_marimo(
    source: Path, environment: dict[str, str], planted: Planted, tmp_path: Path
) -> None:
    notebook = exported(source, tmp_path, environment, "--include-outputs")
    assert_promised(notebook, source.stem)
    assert_shows_no_secret(notebook, planted)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: str(source.stem))
def test_what_is_made_for_jupyter_runs_there(
    source: Path, environment: dict[str, str], planted: Planted, tmp_path: Path
) -> None:
    notebook = exported(source, tmp_path, environment)
    assert outputs(notebook) == []
    ran = subprocess.run(
        [BIN / "jupyter-nbconvert", "--to", "notebook", "--execute", "--inplace",
         tmp_path / f"{source.stem}.ipynb"],
        capture_output=True,
        text=True,
        env=environment,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    executed = json.loads((tmp_path / f"{source.stem}.ipynb").read_text(encoding="utf-8"))
    assert_promised(executed, source.stem)
    assert_shows_no_secret(executed, planted)


@pytest.mark.parametrize("verdict", ["benign", "undo"])
def test_the_weekly_review_gives_the_verdict_that_its_form_has(
    verdict: str, environment: dict[str, str]
) -> None:
    code = """
import sys
from types import SimpleNamespace
sys.path.insert(0, sys.argv[1])
import weekly_review
said = {"verdict": sys.argv[2], "by": "ana", "because": "a test"}
_, defined = weekly_review.app.run(defs={"form": SimpleNamespace(value=said)})
told = defined["lake"].key(defined["key"].key_id, week=defined["which"].value).verdicts()
print(told.verdict[0], told.judged_by[0], told.because[0], sep="|")
"""
    ran = subprocess.run(
        [sys.executable, "-c", code, ROOT / "notebooks", verdict],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert ran.stdout.splitlines()[-1:] == [f"{verdict}|ana|a test"], ran.stderr


def test_no_output_is_committed() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: nothing is committed")
    listed = subprocess.run(
        ["git", "ls-files", "*.ipynb", "notebooks/*"], cwd=ROOT, check=True, capture_output=True
    ).stdout
    assert {Path(name).suffix for name in listed.decode().split()} <= {".py"}
