"""A load in a process of its own, to be waited for or killed (`tests.forked`)."""

from __future__ import annotations

from pathlib import Path

from keywatch.lake import Lake
from keywatch.load.ingest import load_files
from keywatch.notices import notices_to
from keywatch.settings import IngestSettings, LakeSettings
from keywatch.vendors import find_files
from tests.conftest import NoWhere

CHUNK_BYTES = 200_000


def load(lake_folder: Path, logs: Path, wait_seconds: float) -> None:
    """Load `logs` in small chunks, and say each step and notice."""
    with Lake.open(lake_folder, LakeSettings(wait_seconds=wait_seconds), create=True) as lake:
        _say("open")
        with notices_to(_say):
            settings = IngestSettings(chunk_bytes=CHUNK_BYTES)
            load_files(lake, find_files([str(logs)]), settings, NoWhere())
    _say("done")


def _say(words: str) -> None:
    print(words, flush=True)
