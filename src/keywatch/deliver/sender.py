"""Sends what is due: each channel in a thread of its own, what became of it into the journal.

Sending is at least once: a crash between an answer and its record sends the same message with the
same id again. One channel that is down, slow or hanging takes nobody else's time.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import random
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta

from keywatch.deliver import outbox, planning
from keywatch.deliver.channel import Channel, Reply, SendError
from keywatch.deliver.claims import Claims
from keywatch.deliver.journal import Journal, Outcome, Record
from keywatch.deliver.message import Message
from keywatch.deliver.settle import Pending
from keywatch.errors import LakeBusyError, LakeError, LakeUnreachableError
from keywatch.lake import Lake, utc_now
from keywatch.notices import is_stopping, notice
from keywatch.settings.deliver import DeliverSettings
from keywatch.text.safe_text import printable

_COMMIT_SECONDS = 1.0
_ERROR_LENGTH = 300
_PATIENCE_FAILURES = 3
_LONGEST_REST_SECONDS = 30.0
_GRACE_SECONDS = 5.0


@dataclass
class ChannelReport:
    """What a run did for a channel; `later` waits for a later run."""

    channel: str
    sent: int = 0
    dead: int = 0
    later: int = 0
    error: str | None = None


def send(
    lake: Lake,
    planned: planning.Plan,
    channels: Mapping[str, Channel],
    settings: DeliverSettings,
    claims: Claims,
    hide: Callable[[str], str],
    reply: Callable[[Message], Reply] | None = None,
) -> list[ChannelReport]:
    """Send what is planned; returns when all is sent or each channel's time is up.

    Messages go in their order; one that failed is tried again in this run if its pause is over in
    time, and its alert has not changed since. A channel that another machine has taken over gets no
    more. `hide` takes secrets out of an error's text; `reply` says how a question is answered.
    """
    changed: set[str] = set()
    workers = [
        _Worker(name, channels[name], messages, changed, settings, claims, hide, reply)
        for name, messages in planned.to_send.items()
    ]
    for worker in workers:
        worker.start()
    while left := [worker for worker in workers if worker.is_alive() and not worker.is_stuck()]:
        left[0].join(_COMMIT_SECONDS)
        _commit_quietly(lake, claims.journal)
        with suppress(LakeBusyError, LakeUnreachableError):
            changed |= outbox.changed_since(lake, planned.orders)
    for worker in workers:
        worker.give_up()
    _commit_quietly(lake, claims.journal)
    return [worker.report() for worker in workers]


def commit(lake: Lake, journal: Journal) -> None:
    """Bring what the journal holds into the lake.

    Raises:
        LakeBusyError: another writer did not finish in time; the journal still holds it.
    """
    records = journal.set_aside()
    if records:
        with lake.writing():
            outbox.record(lake, records)
        journal.forget()


def _commit_quietly(lake: Lake, journal: Journal) -> None:
    try:
        commit(lake, journal)
    except (LakeBusyError, LakeUnreachableError) as e:
        notice(f"{e}; sent messages stay in the journal, and the next run stores them")


@contextmanager
def only_sender(lake: Lake, wait_seconds: float) -> Iterator[None]:
    """The only one that sends from this lake on this machine.

    Raises:
        LakeBusyError: another process went on sending for longer than `wait_seconds`.
    """
    assert lake.folder is not None
    file = lake.folder / "deliver.lock"
    deadline = time.monotonic() + wait_seconds
    with os.fdopen(os.open(file, os.O_RDWR | os.O_CREAT, 0o600), "r+") as lock:
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if time.monotonic() >= deadline or is_stopping():
                raise LakeBusyError(f"{lake.folder}: another process is sending; try again later")
            time.sleep(0.1)
        yield


class _Worker(threading.Thread):
    """One channel's messages, one after another."""

    def __init__(
        self,
        name: str,
        channel: Channel,
        messages: Sequence[Pending],
        changed: Collection[str],
        settings: DeliverSettings,
        claims: Claims,
        hide: Callable[[str], str],
        reply: Callable[[Message], Reply] | None,
    ) -> None:
        super().__init__(name=f"deliver {name}", daemon=True)
        self._reply = reply
        self._channel = channel
        self._settings = settings
        self._claims = claims
        self._journal = claims.journal
        self._hide = hide
        self._report = ChannelReport(name)
        # Due (0: at once), place in the order of urgency, tries so far, message.
        self._queue = [(0.0, n, one.tries, one) for n, one in enumerate(messages)]
        self._changed = changed
        self._failures = 0
        self._deadline = time.monotonic() + settings.run_seconds
        self._in_flight: tuple[int, Pending] | None = None
        self._lock = threading.Lock()
        self._given_up = False
        self._stuck_after = settings.channels[name].timeout_seconds + _GRACE_SECONDS

    def is_stuck(self) -> bool:
        """Whether an answer is waited for longer than the channel's own limit allows."""
        return time.monotonic() > self._deadline + self._stuck_after

    def give_up(self) -> None:
        """Count a message that hangs as failed, and leave the thread to itself."""
        with self._lock:
            self._given_up = True
            if self._in_flight is not None:
                tries, one = self._in_flight
                hangs = SendError("no answer: the channel does not respond", unanswered=True)
                self._report.later += self._failed(tries, one, hangs) is not None

    def report(self) -> ChannelReport:
        """What it did; to be asked once it has ended or been given up."""
        self._report.later += len(self._queue)
        return self._report

    def run(self) -> None:
        """Send until nothing is left, or what is left is due too late for this run."""
        try:
            while self._queue and not self._given_up:
                if not self._wait_until(self._queue[0][0]):
                    break
                _, place, tries, one = heapq.heappop(self._queue)
                if one.alert_id in self._changed:
                    self._report.later += 1  # the next run tells of the alert as it is then
                elif not self._claims.begin(self._report.channel):
                    self._report.later += 1
                    self._report.error = "another machine sends for this channel now"
                    break
                else:
                    self._send(place, tries, one)
        except LakeError as e:
            self._report.later += 1  # it was not begun
            self._report.error = printable(str(e), _ERROR_LENGTH)
        except OSError as e:
            # What can't be recorded would be sent again and again.
            self._report.error = f"the journal can't be written ({e.strerror})"
        finally:
            self._channel.close()

    def _wait_until(self, due: float) -> bool:
        if max(due, time.monotonic()) >= self._deadline:
            return False
        time.sleep(max(due - time.monotonic(), 0.0))
        return True

    def _send(self, place: int, tries: int, one: Pending) -> None:
        with self._lock:
            self._in_flight = (tries, one)
        error: SendError | None = None
        remote = None
        try:
            envelope = one.envelope()
            if self._reply is not None and one.message.kind == "question":
                envelope = replace(envelope, reply=self._reply(one.message))
            remote = self._channel.send(envelope)
        except SendError as e:
            error = e
        except Exception as e:  # noqa: BLE001 - one message must not end the channel
            error = SendError(f"{type(e).__name__}: {e}")
        with self._lock:
            self._in_flight = None
            if error is None:
                now = utc_now()
                self._journal.add(Record(one.delivery_id, now, "sent", tries + 1, remote=remote))
                self._report.sent += 1
                self._failures = 0
                return
            if self._given_up:
                return
            pause = self._failed(tries, one, error)
        if pause is not None:
            one = replace(one, recipients=_answers(one, error))
            heapq.heappush(self._queue, (time.monotonic() + pause, place, tries + 1, one))
        self._rest(error)

    def _failed(self, tries: int, one: Pending, error: SendError) -> float | None:
        """Record it; returns the pause until the next try, None for a dead letter."""
        text = printable(self._hide(str(error)), _ERROR_LENGTH)
        self._report.error = text
        dead = error.permanent or tries + 1 >= self._settings.max_tries
        pause = None if dead else self._pause(tries, error)
        now = utc_now()
        outcome: Outcome = "failed"
        if error.unanswered:
            outcome = "unanswered"
            if dead:  # the channel is owed the end of what it may have heard of
                self._journal.add(Record(one.delivery_id, now, outcome, tries + 1, text))
        if dead:
            outcome = "dead"
        due = None if pause is None else now + timedelta(seconds=pause)
        self._journal.add(
            Record(
                one.delivery_id, now, outcome, tries + 1, text, error.remote, due,
                recipients=_answers(one, error),
            )
        )  # fmt: skip
        self._report.dead += dead
        return pause

    def _pause(self, tries: int, error: SendError) -> float:
        """Exponential with full jitter, and never sooner than the receiver asked for."""
        longest = min(
            self._settings.first_pause_seconds * 2**tries, self._settings.longest_pause_seconds
        )
        return max(random.uniform(0, longest), error.retry_after or 0.0)

    def _rest(self, error: SendError) -> None:
        """Leave the receiver alone: as long as it asked for, longer with each failure in turn."""
        self._failures += 0 if error.permanent else 1
        rest = error.retry_after or 0.0
        if self._failures > _PATIENCE_FAILURES:
            doubled = 2.0 ** (self._failures - _PATIENCE_FAILURES - 1)
            rest = max(rest, min(doubled, _LONGEST_REST_SECONDS))
        if rest:
            self._wait_until_or_stop(time.monotonic() + rest)

    def _wait_until_or_stop(self, due: float) -> None:
        if due >= self._deadline:
            self._deadline = time.monotonic()
        else:
            time.sleep(due - time.monotonic())


def _answers(one: Pending, error: SendError) -> tuple[tuple[str, str], ...]:
    """What the recipients have said so far; a try that got to nobody changes nothing."""
    return tuple(error.recipients.items()) or one.recipients
