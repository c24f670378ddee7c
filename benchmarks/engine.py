"""A review on a Dask cluster of this machine beside the same review in one process.

`python -m benchmarks.engine --keys 1000 --workers 2` makes the world of `benchmarks.review` unless
it is there, and copies its lake. Each review is a whole process with its workers. *First* replays
eight windows; *next* has these stored, as in the weeks after. It prints processor seconds of all
processes, their ratio, and the peak memory of the largest process and of the largest worker; and
sees that both reviews are the same.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable, Generator, Iterable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.review import add_world_arguments, forget_reviews, made_material, measure
from benchmarks.review import world_folder as folder_of
from keywatch.engine import Common, Engine, Result, SomeTask, opened
from keywatch.lake import Lake
from keywatch.model import Window
from keywatch.review import bucket_review, making
from keywatch.settings import EngineSettings, LakeSettings, Settings
from keywatch.text.document import json_text, review_document


def main() -> int:
    given = _arguments()
    if given.one:
        return _one(given)
    material, size = made_material(folder_of(given), given)
    print(size)
    with tempfile.TemporaryDirectory(prefix="keywatch-engine-") as scratch:
        lake = Path(shutil.copytree(material.lake, Path(scratch) / "lake"))
        forget_reviews(lake)
        for which in ("first", "next"):
            if which == "first":
                _forget_replays(lake)
            elif not _keep_replays(lake, material.start, material.end):
                break
            told = Path(scratch) / which
            ratio = _compared(given, lake, (material.start, material.end), told)
            print(f"{which}: ratio {ratio:.2f}", flush=True)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    add_world_arguments(parser)
    parser.set_defaults(keys=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keys-at-once", type=int, default=LakeSettings().keys_at_once)
    parser.add_argument("--one", nargs=5, metavar=("ENGINE", "LAKE", "START", "END", "OUTPUT"),
                        help="run one review; for the benchmark itself")  # fmt: skip
    return parser.parse_args()


def _compared(given: argparse.Namespace, lake: Path, window: tuple[str, str], told: Path) -> float:
    """Run both, print what they took; returns the ratio of their processor seconds."""
    took, answers = [], []
    for engine in ("local", "dask"):
        output = told.with_name(f"{told.name}-{engine}.json")
        words = ["--workers", str(given.workers), "--keys-at-once", str(given.keys_at_once)]
        command = [sys.executable, "-m", "benchmarks.engine", *words, "--one", engine, str(lake),
                   *window, str(output)]  # fmt: skip
        one = measure(command)
        took.append(one.cpu_seconds)
        document, worker_mib = json.loads(output.read_text("utf-8"))
        answers.append(document)
        print(f"{told.name:>6} {engine:>6} {one.cpu_seconds:7.1f} s CPU {one.peak_mib:6.0f} MiB "
              f"worker {worker_mib:6.0f} MiB", flush=True)  # fmt: skip
    if answers[0] != answers[1]:
        raise SystemExit(f"{told.name}: the reviews differ")
    return took[1] / took[0]


def _settings(given: argparse.Namespace, engine: Any) -> Settings:
    storage = LakeSettings(keys_at_once=given.keys_at_once)
    return Settings(storage=storage, engine=EngineSettings(kind=engine, workers=given.workers))


def _one(given: argparse.Namespace) -> int:
    kind, lake, start, end, output = given.one
    settings = _settings(given, kind)
    # One core, as a worker has: then processor seconds compare.
    storage = settings.storage.model_copy(update={"threads": 1})
    window = Window(datetime.fromisoformat(start), datetime.fromisoformat(end))
    peaks: list[float] = []
    with (
        Lake.open(Path(lake), storage) as opened_lake,
        opened_lake.reading(),
        opened(settings.engine) as cluster,
    ):
        if cluster is None:
            answer, _ = making.make_review(opened_lake, window, settings, whole=False)
        else:
            engine = _Watched(cluster, peaks)
            answer, _ = bucket_review.make_review(
                engine, opened_lake, window, settings, whole=False
            )
    told = json_text(review_document(answer))
    Path(output).write_text(json.dumps([told, max(peaks, default=0.0)]), "utf-8")
    return 0


class _Watched:
    """An engine that notes the peak memory of each task's process, in MiB."""

    def __init__(self, engine: Engine, peaks: list[float]) -> None:
        self._engine = engine
        self._peaks = peaks
        self.workers = engine.workers

    def each(
        self,
        function: Callable[[Common, SomeTask], Result],
        common: Common,
        tasks: Iterable[SomeTask],
        ahead: int | None = None,
    ) -> Generator[Result]:
        for peak, result in self._engine.each(partial(_with_peak, function), common, tasks, ahead):
            self._peaks.append(peak)
            yield result

    def everywhere(self, function: Callable[[], None]) -> None:
        self._engine.everywhere(function)


def _with_peak(
    function: Callable[[Common, SomeTask], Result], common: Common, task: SomeTask
) -> tuple[float, Result]:
    result = function(common, task)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, result


def _forget_replays(lake: Path) -> None:
    with Lake.open(lake) as opened_lake, opened_lake.writing():
        for table in ("replays", "replayed_visits"):
            opened_lake.execute(f"DELETE FROM lake.{table}")


def _keep_replays(lake: Path, start: str, end: str) -> bool:
    """Have the windows before replayed and stored; whether there are any."""
    window = Window(datetime.fromisoformat(start), datetime.fromisoformat(end))
    settings = Settings()
    with Lake.open(lake, settings.storage) as opened_lake:
        with opened_lake.reading():
            _, scored = making.make_review(opened_lake, window, settings, whole=False)
        with opened_lake.writing():
            scored.replays.keep(opened_lake)
    return bool(scored.replays.replays)


if __name__ == "__main__":
    sys.exit(main())
