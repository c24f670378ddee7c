"""The alert feed: one run of it, and the process that stays and runs again and again."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType

from keywatch import pipeline
from keywatch.deliver import DeliveryReport, render_delivery
from keywatch.errors import LakeBusyError, SecretError, UsageError
from keywatch.notices import is_stopping, notice, notices_to, stopped_when
from keywatch.report import render_failure, render_load
from keywatch.review.alerts import Change
from keywatch.review.rescoring import LastScoring
from keywatch.review.watch import render_watched
from keywatch.settings import Settings

_LONGEST_REST_SECONDS = 60.0
"""What no file shows is due by the clock: a retry, an event held back, the day's maintenance."""
_SHORTEST_PAUSE = timedelta(seconds=1)
_SEND_SECONDS = 5.0
"""A channel that is down holds up no load: what is left after this is due in the next run."""


@dataclass
class Feed:
    """Load, score, send. `tell` hears what each step did; what is amiss is a notice.

    Attributes:
        places: As of `keywatch.pipeline.ingest_new`.
        changes: Of the alerts, in the last run.
        last: What the last run found of the week, where runs follow in one process.
    """

    lake: Path
    settings: Settings
    places: Sequence[str]
    tell: Callable[[str], None]
    send: bool = True
    changes: Sequence[Change] = ()
    last: LastScoring | None = None
    _told_idle: dict[str, str] = field(default_factory=dict)

    def run(self) -> None:
        """Do the steps in their order, unless it is to stop.

        Raises:
            KeywatchError: a step failed; those after it were not begun, and nothing is lost.
        """
        for step in self._steps():
            if not is_stopping():
                step()

    def _steps(self) -> Iterator[Callable[[], None]]:
        if self.places or self.settings.ingest.places:
            yield self._load
        yield self._score
        if self.send and self.settings.deliver.channels:
            yield self._send

    def _load(self) -> None:
        # What comes between two runs is small: it is read before a cluster has started.
        alone = self.settings.on_engine("local")
        loaded = pipeline.ingest_new(self.lake, alone, self.places, publish=False)
        text = "No new log lines." if loaded is None else render_load(loaded)
        self._tell("load", text, idle=loaded is None or len(loaded.left_out) == len(loaded.files))

    def _score(self) -> None:
        watched = pipeline.watch(self.lake, self.settings, last=self.last)
        self.changes = watched.changes
        self._tell("score", render_watched(watched), idle=not (watched.windows or watched.changes))

    def _send(self) -> None:
        done = pipeline.deliver_due(self.lake, self.settings)
        idle = not (done.channels or done.followed)
        tell_delivery(done, lambda text: self._tell("send", text, idle=idle))

    def _tell(self, step: str, text: str, *, idle: bool) -> None:
        """Tell of a step; of one that had nothing to do, only if it said something else before."""
        if idle and self._told_idle.get(step) == text:
            return
        if idle:
            self._told_idle[step] = text
        self.tell(text)


def tell_delivery(done: DeliveryReport, tell: Callable[[str], None]) -> None:
    """Say what was sent, and notice what was not.

    Raises:
        SecretError: a channel can't be used.
    """
    sent, problems = render_delivery(done)
    if sent:
        tell(sent.removesuffix("\n"))
    for line in problems:
        notice(line)
    if done.unusable:
        raise SecretError(
            "; ".join(f"channel {name}: {why}" for name, why in done.unusable.items())
        )


def stand(feed: Feed, every: timedelta, say: Callable[[str], None]) -> None:
    """Run `feed` until SIGTERM or SIGINT, with a pause of `every` after each look at its places.

    It runs when a log or the lake changed since the last run began, and after a minute at the
    latest. `say` hears notices and what failed, once as long as it lasts; it is tried again. A
    signal lets the step under way finish, unless that waits for another process; a second signal
    acts as it does without this.

    Raises:
        UsageError: the pause is shorter than a second, or a place is a pipe.
    """
    if every < _SHORTEST_PAUSE:
        raise UsageError("--every needs a pause of 1s or more")
    _check_places(feed)
    feed.settings = _sending_briefly(feed.settings)
    feed.last = LastScoring()
    said = _Said(say)
    seen: object = None
    next_run, failed = 0.0, False
    with _signals() as signals, notices_to(said), stopped_when(lambda: not signals.empty()):
        while True:
            try:
                there = pipeline.traces(feed.lake, feed.settings, feed.places)
                if there != seen or time.monotonic() >= next_run:
                    seen, next_run = there, time.monotonic() + _LONGEST_REST_SECONDS
                    said.next_run()
                    feed.run()
                    if failed:
                        say("keywatch: the last run had no error")
                    failed = False
            except Exception as e:  # noqa: BLE001 - as the command line reports it; the next run may do
                if isinstance(e, LakeBusyError):
                    seen = None
                if not (is_stopping() and isinstance(e, LakeBusyError)):
                    said(f"keywatch: {render_failure(e)}")
                failed = True
            with suppress(Empty):
                signals.get(timeout=every.total_seconds())
                return


class _Said:
    """Passes on what is amiss, but for what the run before has said too."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._before: set[str] = set()
        self._now: set[str] = set()

    def __call__(self, text: str) -> None:
        if text not in self._before | self._now:
            self._say(text)
        self._now.add(text)

    def next_run(self) -> None:
        self._before, self._now = self._now, set()


def _sending_briefly(settings: Settings) -> Settings:
    run_seconds = min(settings.deliver.run_seconds, _SEND_SECONDS)
    deliver = settings.deliver.model_copy(update={"run_seconds": run_seconds})
    return settings.model_copy(update={"deliver": deliver})


def _check_places(feed: Feed) -> None:
    for place in feed.places or feed.settings.ingest.places:
        path = Path(place)
        if place == "-" or (path.exists() and not (path.is_file() or path.is_dir())):
            raise UsageError(f"{place}: a pipe can be read once only; use it without --every")


@contextmanager
def _signals() -> Iterator[SimpleQueue[int]]:
    """A queue into which the first SIGTERM or SIGINT comes; the next one acts as it did before."""
    came: SimpleQueue[int] = SimpleQueue()  # the only queue that a signal's handler may use
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def put_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, _: FrameType | None) -> None:
        put_back()
        came.put(number)

    for number in before:
        signal.signal(number, note)
    try:
        yield came
    finally:
        put_back()
