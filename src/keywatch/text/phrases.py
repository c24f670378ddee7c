"""Counts, sizes and times as people read them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta

from keywatch.model import AskedOwner, CalibrationSummary, GivenVerdict, OwnerAnswer, Window

_WEEK = timedelta(days=7)


def count(number: float, noun: str, plural: str | None = None) -> str:
    """``1 key``, ``1,204 keys``."""
    return f"{number:,.0f} {named(number, noun, plural)}"


def named(number: float, noun: str, plural: str | None = None) -> str:
    """The noun alone, as `number` needs it."""
    return noun if round(number) == 1 else plural or noun + "s"


def percent(share: float) -> str:
    """``97 %`` of 0.97."""
    return f"{share:.0%}".replace("%", " %")


def rate(per_day: float) -> str:
    """``1,440 requests a day``; small rates keep a decimal, so that few isn't none."""
    if 0 < per_day < 10 and per_day != round(per_day):
        return f"{per_day:.1f} requests a day"
    return f"{count(per_day, 'request')} a day"


def size(size_bytes: float) -> str:
    """``512 bytes``, ``1.2 MB``; decimal units."""
    if size_bytes < 1000:
        return count(size_bytes, "byte")
    for unit in ("kB", "MB", "GB"):
        size_bytes /= 1000
        if size_bytes < 999.95:
            return f"{size_bytes:.1f} {unit}"
    return f"{size_bytes / 1000:,.1f} TB"


def duration(days: float) -> str:
    """``84 days``, ``36 hours``, ``55 minutes``."""
    if days >= 2:
        return count(days, "day")
    hours = days * 24
    return count(hours, "hour") if hours >= 2 else count(hours * 60, "minute")


def listed(items: Iterable[str], most: int) -> str:
    """``a, b, c and 4 more``."""
    every = list(items)
    more = len(every) - most
    text = ", ".join(every[:most])
    return f"{text} and {more:,} more" if more > 0 else text


def sentence(text: str) -> str:
    """`text` with a capital and a full stop."""
    ended = text if not text or text[-1] in ".!?…" else text + "."
    return ended[:1].upper() + ended[1:]


def window_label(window: Window) -> str:
    """``week 2026-W40 (2026-09-28 to 2026-10-04, UTC)``; days are both included.

    A window that isn't made of whole days is shown with its two instants.
    """
    start, end = _utc(window.start), _utc(window.end)
    if not _has_whole_days(window):
        return f"{minute(start)} until {minute(end)} UTC"
    last = end.date() - timedelta(days=1)
    days = f"{start.date()} to {last}" if last != start.date() else f"{last}"
    week = iso_week(window)
    return f"week {week} ({days}, UTC)" if week else f"{days} UTC"


def window_name(window: Window) -> str:
    """``week 2026-W40``; of a window that is no week, its `window_label`."""
    week = iso_week(window)
    return f"week {week}" if week else window_label(window)


def window_options(window: Window) -> str:
    """The options that ask for this window again: ``--week 2026-W40``; empty if none can."""
    if week := iso_week(window):
        return f"--week {week}"
    if _has_whole_days(window):
        return f"--from {_utc(window.start).date()} --to {_utc(window.end).date()}"
    return ""


def iso_week(window: Window) -> str | None:
    """``2026-W40`` if the window is that week, from Monday to Sunday."""
    start = _utc(window.start)
    if not _has_whole_days(window) or start.weekday() or _utc(window.end) - start != _WEEK:
        return None
    year, week, _ = start.isocalendar()
    return f"{year}-W{week:02}"


def _has_whole_days(window: Window) -> bool:
    start, end = _utc(window.start), _utc(window.end)
    return start.time() == end.time() == time() and start < end


def minute(moment: datetime) -> str:
    """``2026-09-28 14:05``, in UTC."""
    return _utc(moment).isoformat(sep=" ", timespec="minutes")


def span(first: datetime, last: datetime) -> str:
    """``2026-09-28 14:05 to 15:40``; the second day is named where it is another one."""
    begun, ended = minute(first), minute(last)
    if begun == ended:
        return begun
    same_day = _utc(first).date() == _utc(last).date()
    return f"{begun} to {ended[-5:] if same_day else ended}"


def days(first: datetime, last: datetime) -> str:
    """``30 Sep``, ``28–30 Sep``, ``30 Sep – 2 Oct``: the days of two times, in UTC."""
    begun, ended = _utc(first), _utc(last)
    if begun.date() == ended.date():
        return f"{ended.day} {ended:%b}"
    if (begun.year, begun.month) == (ended.year, ended.month):
        return f"{begun.day}–{ended.day} {ended:%b}"
    return f"{begun.day} {begun:%b} – {ended.day} {ended:%b}"


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)


def verdict_words(given: GivenVerdict) -> str:
    """``benign, ana, 2026-10-05: our new office``; and why the case is still open."""
    said = f"{given.verdict}, {given.by}, {_utc(given.given_at).date()}: {given.because}"
    return f"{said} (still open: {given.still_open})" if given.still_open else said


_ANSWERS = {"yes": "yes", "no": "no", "not_mine": "not their key"}


def answer_words(answer: OwnerAnswer, until: date | None) -> str:
    """``yes, until 2026-12-31``; ``yes, this once``; ``no``."""
    if answer != "yes":
        return _ANSWERS[answer]
    return f"yes, until {until}" if until else "yes, this once"


def asked_words(asked: AskedOwner) -> str:
    """``asked team-a at 2026-10-05 09:12 UTC; answered yes, this once, by link, at …``."""
    said = f"asked {asked.owner} at {minute(asked.asked_at)} UTC"
    if asked.answer is None:
        return f"{said}; no answer yet"
    if asked.answer == "unanswered":
        return f"{said}; {asked.note or 'no answer'}"
    answer = answer_words(asked.answer, asked.until)
    at = "" if asked.answered_at is None else f" at {minute(asked.answered_at)} UTC"
    note = f" ({asked.note})" if asked.note else ""
    return f"{said}; answered {answer}, by {asked.way}{at}{note}"


def unlike_the_rest(calibration: CalibrationSummary) -> list[str]:
    """What calibration does not use of the replayed windows, as clauses."""
    told = []
    if keys := calibration.noisy_keys:
        told.append(
            f"{count(keys, 'key')} with unusual activity in several of them "
            f"{named(keys, 'is', 'are')} compared with {named(keys, 'its', 'their')} own past only"
        )
    if windows := calibration.outlying_windows:
        told.append(
            f"{count(windows, 'window')} with far more unusual keys than the others "
            f"{named(windows, 'is', 'are')} excluded"
        )
    return told
