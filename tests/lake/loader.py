"""What loads in a process of its own, to be waited for or killed (`tests.forked`)."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keywatch import pipeline
from keywatch.lake import Lake
from keywatch.load.ingest import load_files
from keywatch.model import Window
from keywatch.notices import notices_to
from keywatch.review import making
from keywatch.settings import IngestSettings, LakeSettings, ReviewSettings, Settings
from keywatch.vendors import find_files
from keywatch.vendors.parser import Parser
from tests.conftest import NoWhere

CHUNK_BYTES = 200_000


def settings_of(storage: LakeSettings) -> Settings:
    """Of a machine whose reviews replay no window."""
    review = ReviewSettings(power_keys=0, replayed_windows=0)
    return Settings(review=review).model_copy(update={"storage": storage})


def load(lake_folder: Path, logs: Path, wait_seconds: float) -> None:
    """Load `logs` in small chunks, and say each step and notice."""
    with Lake.open(lake_folder, LakeSettings(wait_seconds=wait_seconds), create=True) as lake:
        _say("open")
        with notices_to(_say):
            settings = IngestSettings(chunk_bytes=CHUNK_BYTES)
            load_files(lake, find_files([str(logs)]), settings, NoWhere())
    _say("done")


def load_parsing(lake_folder: Path, log: Path) -> None:
    """Load `log`, and say when a chunk was parsed."""
    parse = Parser.parse

    def parsing(self: Parser, *arguments: Any) -> Any:
        parsed = parse(self, *arguments)
        _say("parsed")
        return parsed

    Parser.parse = parsing  # type: ignore[method-assign, assignment]
    with Lake.open(lake_folder) as lake:
        load_files(lake, find_files([str(log)]), IngestSettings(), NoWhere())
    _say("loaded")


def load_and_review(folder: Path, storage: LakeSettings, logs: Sequence[Path]) -> None:
    """A machine with a folder of its own: it loads its logs one by one, then reviews."""
    _say("here")
    for log in logs:
        with Lake.open(folder, storage, create=True) as lake:
            load_files(lake, find_files([str(log)]), IngestSettings(chunk_bytes=5000), NoWhere())
        _say("loaded")
    pipeline.review(folder, None, settings_of(storage), whole=False)
    _say("reviewed")


def review_week(folder: Path, storage: LakeSettings, week: Window) -> None:
    """A machine that reviews a week, and says when it scores, what it waits for, and the run."""
    _say_when_scored()
    with notices_to(_say):
        answer = pipeline.review(folder, week, settings_of(storage), whole=False)
    _say(f"run {answer.run.id}")


def watch_once(folder: Path, storage: LakeSettings) -> None:
    """A machine with one run of the feed, which says when it scores, and what it waits for."""
    _say_when_scored()
    with notices_to(_say):
        watched = pipeline.watch(folder, settings_of(storage))
    _say(f"new {watched.events} in {len(watched.windows)}")


def _say_when_scored() -> None:
    score = making.make_review

    def scoring(*arguments: Any, **options: Any) -> Any:
        _say("scores")
        return score(*arguments, **options)

    making.make_review = scoring


def _say(words: str) -> None:
    print(words, flush=True)


def spill_and_die(folder: Path) -> None:
    """Be killed with the lake open, and something spilled."""
    with Lake.open(folder):
        (place,) = (each for each in folder.glob("tmp/*") if each.is_dir())
        (place / "spilled").write_text("x")
        os.kill(os.getpid(), signal.SIGKILL)
