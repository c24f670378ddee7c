"""The questions of `keywatch init`: each answer is tried as soon as it is given."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, get_args

from keywatch.errors import KeywatchError, UsageError
from keywatch.hints import unknown
from keywatch.report.output import write_whole
from keywatch.settings import load_settings
from keywatch.setup.channels import FORMS, Values, channel_of
from keywatch.setup.tries import Tried, try_channel, try_geoip, try_lake, try_places
from keywatch.setup.written import (
    Answers,
    Schedule,
    headline,
    next_steps,
    settings_text,
)
from keywatch.vendors import named_source, sources

T = TypeVar("T")
Ask = Callable[[str], str]
"""Shows a prompt and returns the line that was typed; raises EOFError at the end of the input."""

_ABOUT_SECRETS = "A secret is named, not typed: env:NAME is a variable, file:PATH a file."
_SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)


@dataclass(frozen=True)
class Given:
    """What the command line says; None and empty: it is asked for, or the default is taken."""

    places: tuple[str, ...] = ()
    source: str | None = None
    geoip: tuple[str, ...] = ()
    channel: str | None = None
    schedule: Schedule | None = None
    lake: Path | None = None

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to ask."""
        answers = (self.channel, self.schedule, self.lake)
        return bool(self.places and self.geoip) and None not in answers


def set_up(
    given: Given,
    file: Path,
    say: Callable[[str], None],
    ask: Ask | None,
    *,
    accept: bool = False,
    replace: bool = False,
) -> None:
    """Ask for what is not `given`, try all of it, write `file`, and say what to do next.

    Without `ask` nothing is asked. What fails its try is written where the user keeps it when
    asked again, or with `accept`. A file that exists is kept unless `replace`.

    Raises:
        UsageError: the file exists, an answer can't be understood, or there is no place.
        KeywatchError: a try failed and was not accepted; it is of the kind of the first failure,
            and nothing was written.
    """
    _check_free(file, replace)
    if given.channel is not None:
        channel_of(_words_of(given.channel))  # before anything is tried
    asked = None if given.is_complete or accept else ask
    talk = _Conversation(say, asked)
    answers = talk.answers(given)
    if talk.failed and asked is None and not accept:
        raise type(talk.failed[0])(
            f"{file} was not written: fix what is BAD above, or add --yes to write it all the same"
        )
    _check_free(file, replace)
    write_whole(file, settings_text(answers, file))
    load_settings(file)
    say("\n".join(["", headline(file, talk.failed), "", *next_steps(answers, file)]))


def _check_free(file: Path, replace: bool) -> None:
    if file.exists() and not replace:
        raise UsageError(f"{file} exists already and was not changed; add --force to replace it")


class _Conversation:
    """Asks, tries, and remembers what failed and was kept."""

    def __init__(self, say: Callable[[str], None], ask: Ask | None) -> None:
        self._say = say
        self._ask = ask
        self._number = 0
        self.failed: list[KeywatchError] = []

    def answers(self, given: Given) -> Answers:
        """All answers, in the order in which they are asked for."""
        places, source = self._places(given)
        geoip = self._geoip(given)
        channel = self._channel(given)
        schedule = self._schedule(given)
        lake = self._lake(given)
        return Answers(places, lake, source, geoip, channel, schedule)

    def _places(self, given: Given) -> tuple[tuple[str, ...], str | None]:
        places = given.places
        while True:
            places = places or self._question(
                "Where is the log?",
                "files, folders, globs or s3://bucket/prefix, separated by spaces",
                None,
                _places_of,
            )
            tried, is_unknown = try_places(places, given.source)
            source = given.source
            if is_unknown and self._ask is not None and source is None:
                self._say(str(tried))
                source = self._question(
                    "Which format does it have?",
                    f"{', '.join(sources())}, or none to decide later",
                    "none",
                    _source_of,
                )
                if source is None:
                    self._keep(tried)
                    return places, None
                tried, _ = try_places(places, source)
            if self._is_kept(tried):
                return places, source
            places = ()

    def _geoip(self, given: Given) -> dict[str, Path]:
        files = given.geoip
        while True:
            files = files or self._question(
                "Which GeoIP databases locate addresses?",
                "bundled, or your own .mmdb files (city, country, asn, anonymous_ip, enterprise)",
                "bundled",
                _words_of,
            )
            own = () if tuple(files) == ("bundled",) else files
            tried, roles = try_geoip([Path(one).expanduser() for one in own])
            if self._is_kept(tried):
                return roles
            files = ()

    def _channel(self, given: Given) -> tuple[str, Values] | None:
        text = given.channel
        while True:
            if text is None:
                found = self._question(
                    "Which channel receives alerts?",
                    "\n   ".join([*FORMS.values(), "none", _ABOUT_SECRETS]),
                    "none",
                    lambda typed: channel_of(_words_of(typed)),
                )
            else:
                found = channel_of(_words_of(text))
            if found is None:
                return None
            name, values, settings = found
            if self._is_kept(try_channel(name, settings)):
                return name, values
            text = None

    def _schedule(self, given: Given) -> Schedule:
        if given.schedule is not None:
            return given.schedule
        return self._question(
            "On which schedule should it run?", "cron, systemd or none", "none", _schedule_of
        )

    def _lake(self, given: Given) -> Path:
        folder = given.lake
        while True:
            folder = folder or self._question(
                "In which folder should the lake be?", "on a disk of this machine", "lake", Path
            )
            if self._is_kept(try_lake(folder)):
                return folder
            folder = None

    def _question(
        self, question: str, choices: str, default: str | None, read: Callable[[str], T]
    ) -> T:
        """The answer to a question, asked again until `read` understands it."""
        if self._ask is None:
            if default is None:
                raise UsageError("no place of the log is given: add --place PATH")
            return read(default)
        self._number += 1
        shown = f" [{default}]" if default else ""
        self._say(f"\n{self._number}. {question}{shown}\n   {choices}")
        while True:
            typed = self._typed("   > ") or default
            try:
                if typed:
                    return read(typed)
            except KeywatchError as e:
                self._say(f"   {e}")

    def _typed(self, prompt: str) -> str:
        assert self._ask is not None
        try:
            return self._ask(prompt).strip()
        except EOFError:
            raise UsageError("stopped; nothing was written") from None

    def _is_kept(self, tried: Tried) -> bool:
        """Show what came of a try; whether the answer stands."""
        self._say(str(tried))
        if tried.error is None:
            return True
        if self._ask is not None and self._typed("   Enter: keep it; r: another answer > "):
            self._number -= 1
            return False
        self._keep(tried)
        return True

    def _keep(self, tried: Tried) -> None:
        if tried.error is not None:
            self.failed.append(tried.error)


def _words_of(typed: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(typed))
    except ValueError:
        raise UsageError("a quotation mark is not closed") from None


def _places_of(typed: str) -> tuple[str, ...]:
    places = tuple(
        word if "://" in word else str(Path(word).expanduser()) for word in _words_of(typed)
    )
    if "-" in places:
        raise UsageError("standard input is no place that can be read again")
    return places


def _source_of(typed: str) -> str | None:
    return None if typed == "none" else named_source(typed).name


def _schedule_of(typed: str) -> Schedule:
    for schedule in _SCHEDULES:
        if typed == schedule:
            return schedule
    raise UsageError(unknown("schedule", typed, _SCHEDULES))
