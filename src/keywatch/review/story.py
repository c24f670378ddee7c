"""What happened to a key, in sentences: what was done, from where, when and with what client.

Text of the log (endpoints, clients, organisations) stays as it is: a renderer makes it safe.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from keywatch.model import Milestone
from keywatch.text.countries import country_name
from keywatch.text.phrases import count, listed, minute, named

_GRAVEST = ("critical", "high")
_MOST_DEEDS = 3
_MOST_MILESTONES = 8
_MOST_AREAS = 2
_AT_THE_END = timedelta(hours=24)
_NO_CLIENT = "(none)"
_LOCATED = {
    "tor": "the Tor network",
    "vpn": "a VPN network",
    "proxy": "a proxy network",
    "relay": "a privacy relay",
    "hosting": "a hosting network",
    "isp": "an ISP",
    "unknown": "a network",
}
_NOT_LOCATED = {
    "private": "a private address",
    "reserved": "a reserved address",
    "service": "a service of the vendor",
    "unknown": "an address that could not be located",
}
PAST_TENSE = frozenset({
    "added", "changed", "created", "deleted", "exported", "listed", "moved", "muted", "paused",
    "read", "removed", "revoked", "took",
})  # fmt: skip
"""How a catalogue's `why` begins that says what a call did. Others say what for, or what it is."""


@dataclass(frozen=True)
class Call:
    """An endpoint that the suspicious visits called; the times are of its first such request."""

    endpoint: str
    requests: int
    denied: int
    accepted: int
    denied_at: datetime | None
    accepted_at: datetime | None
    sensitivity: str | None
    why: str | None

    @property
    def is_sensitive(self) -> bool:
        """Whether a sensitive call was accepted."""
        return self.sensitivity in _GRAVEST and self.accepted_at is not None

    @property
    def deed(self) -> str:
        """``exported all data in one call``; ``called ec2:RunInstances`` if no catalogue says."""
        said = (self.why or "").partition(", wh")[0].rstrip(".")
        if said.partition(" ")[0].rstrip(",") in PAST_TENSE:
            return said
        return f"called {self.endpoint}"


@dataclass(frozen=True)
class Place:
    """A network and country that the key was used from, on the days of the suspicious visits.

    `name` is as in evidence: ``AS3301 Telia Company AB, SE``.
    """

    suspicious: bool
    network: str
    country: str | None
    origin_class: str
    name: str
    requests: int
    first_seen: datetime
    last_seen: datetime

    def __str__(self) -> str:
        if self.name == f"{self.origin_class} address":
            return _NOT_LOCATED.get(self.origin_class, self.name)
        where = f" in {country_name(self.country)}" if self.country else ""
        operator = f" ({self.operator})" if self.operator else ""
        return f"{_LOCATED.get(self.origin_class, 'a network')}{where}{operator}"

    @property
    def operator(self) -> str:
        """``AS3301 Telia Company AB``."""
        return self.name.removesuffix(f", {self.country}") if self.name != self.country else ""

    @property
    def area(self) -> str:
        """``Sweden``, or the network where it has no country."""
        return country_name(self.country) if self.country else self.operator


@dataclass(frozen=True)
class Client:
    """A client of the suspicious visits, without its version."""

    name: str
    requests: int
    is_new: bool


@dataclass(frozen=True)
class Scene:
    """What is known of the suspicious visits of one key (with one at least), the most used first.

    `accessed` are distinct objects of accepted requests; `has_past`: the key was seen before often
    enough to know its usual use. `log_ends_at` is the window's last event, of all keys.
    """

    calls: Sequence[Call]
    places: Sequence[Place]
    clients: Sequence[Client]
    accessed: int
    has_past: bool
    revoked_at: datetime | None
    log_ends_at: datetime | None

    @property
    def thefts(self) -> Sequence[Place]:
        """Where the suspicious visits came from."""
        return [place for place in self.places if place.suspicious]

    @property
    def since(self) -> datetime:
        """The first suspicious request."""
        return min(place.first_seen for place in self.thefts)

    @property
    def until(self) -> datetime:
        """The last one."""
        return max(place.last_seen for place in self.thefts)

    @property
    def requests(self) -> int:
        """Of all calls."""
        return sum(call.requests for call in self.calls)

    @property
    def denied(self) -> int:
        """Those that the API answered with 401 or 403."""
        return sum(call.denied for call in self.calls)

    @property
    def accepted(self) -> int:
        """Those that it carried out."""
        return sum(call.accepted for call in self.calls)

    @property
    def deeds(self) -> Sequence[Call]:
        """The sensitive calls that were accepted, the gravest first."""
        sensitive = [call for call in self.calls if call.is_sensitive]
        return sorted(sensitive, key=lambda c: (c.sensitivity != _GRAVEST[0], c.accepted_at))

    @property
    def goes_on(self) -> bool:
        """Whether it was still in use when the log ends."""
        ends = self.log_ends_at
        return ends is not None and self.accepted > 0 and self.until >= ends - _AT_THE_END


def story(scene: Scene) -> str:
    """Two or three sentences; what was done comes first, the owner's use meanwhile last."""
    where, when, client = _where(scene), when_between(scene.since, scene.until), _client(scene)
    if not scene.accepted:
        tried = f"tried {where} {when}{client}: {done(scene)}"
        if scene.revoked_at is not None and scene.revoked_at <= scene.since:
            revoked = scene.revoked_at.date()
            year = f" {revoked.year}" if revoked.year != scene.since.year else ""
            tried = f"revoked on {_day(revoked)}{year} and then {tried}"
        sentences = [f"This key was {tried}{_usual_places(scene)}."]
    else:
        sentences = [f"This key {done(scene)} {where} {when}{client}{_usual_places(scene)}."]
        if scene.denied:
            of_all = f"{scene.denied:,} of {count(scene.requests, 'request')}"
            sentences.append(f"{of_all} {named(scene.denied, 'was', 'were')} denied.")
        sentences += _revocation(scene)
    if not _usual_places(scene):
        sentences.append(_no_usual_use(scene))
    if scene.goes_on:
        last = f"{scene.until:%H:%M} UTC on {_day(scene.until.date())}"
        sentences.append(f"It may be going on: last seen at {last}, within a day of the log's end.")
    return " ".join(sentences)


def chronology(scene: Scene) -> tuple[Milestone, ...]:
    """The first request from each place, the first denied one, each sensitive call, the last."""
    steps = [
        Milestone(place.first_seen, f"first request from {place.name}")
        for place in scene.thefts[:_MOST_DEEDS]
    ]
    refused = [call for call in scene.calls if call.denied_at is not None]
    if refused:
        first = min(refused, key=lambda call: (call.denied_at, call.endpoint))
        assert first.denied_at is not None
        steps.append(Milestone(first.denied_at, f"first denied request: {first.endpoint}"))
    for call in scene.deeds[: _MOST_MILESTONES - len(steps) - 1]:
        assert call.accepted_at is not None
        said = "" if call.deed.startswith("called") else f" ({call.endpoint})"
        steps.append(Milestone(call.accepted_at, f"{call.deed}{said}"))
    if scene.revoked_at is not None and scene.since <= scene.revoked_at <= scene.until:
        steps.append(Milestone(scene.revoked_at, "the key was revoked"))
    steps.sort(key=lambda step: step.at)
    return (*steps, Milestone(scene.until, "last suspicious request"))


def done(scene: Scene) -> str:
    """``read 419 objects and exported all data in one call``; ``16 requests, all denied``."""
    if not scene.accepted:
        how = "all denied" if scene.denied == scene.requests else "none of them accepted"
        return f"{count(scene.requests, 'request')}, {how}"
    accepted = [call for call in scene.calls if call.accepted]
    times: dict[str, int] = {}
    for call in scene.deeds:
        times[call.deed] = times.get(call.deed, 0) + call.accepted
    deeds = [f"{deed}{_times(number)}" for deed, number in times.items()]
    if len(deeds) > _MOST_DEEDS:
        more = len(deeds) - _MOST_DEEDS
        deeds = [*deeds[:_MOST_DEEDS], f"made {count(more, 'other sensitive call')}"]
    if scene.accessed:
        verb = "read" if all(_is_a_read(call) for call in accepted) else "accessed"
        deeds.insert(0, f"{verb} {count(scene.accessed, 'object')}")
    if not deeds:
        return f"made {count(scene.requests, 'request')} (mostly {_most_called(accepted)})"
    return _joined(deeds)


def when_between(since: datetime, until: datetime) -> str:
    """``on 30 September between 02:11 and 03:04 UTC``, ``from 28 to 30 September``."""
    first, last = since.date(), until.date()
    if first != last:
        begun = f"{first.day}" if first.month == last.month else _day(first)
        return f"from {begun} to {_day(last)}"
    begun, ended = f"{since:%H:%M}", f"{until:%H:%M}"
    if begun == ended:
        return f"on {_day(first)} at {begun} UTC"
    return f"on {_day(first)} between {begun} and {ended} UTC"


def _day(day: date) -> str:
    return f"{day.day} {day:%B}"


def _where(scene: Scene) -> str:
    first, *others = scene.thefts
    if not others:
        return f"from {first}"
    return f"from {count(len(others) + 1, 'network')}, mostly {first},"


def _client(scene: Scene) -> str:
    first, *others = scene.clients
    if first.name == _NO_CLIENT:
        return " without a client name"
    more = f" and {count(len(others), 'other client')}" if others else ""
    new = sum(each.is_new for each in scene.clients)
    if not scene.has_past or (new and new < len(scene.clients)):
        return f" with {first.name}{more}"
    if not new:
        return f" with its usual {'clients' if others else 'client'}, {first.name}{more}"
    return f" with {first.name}{more}, new to it"


def _times(number: int) -> str:
    return "" if number == 1 else " twice" if number == 2 else f" {number:,} times"


def _is_a_read(call: Call) -> bool:
    method = call.endpoint.partition(" ")[0]
    return method in ("GET", "HEAD") or call.is_sensitive


def _most_called(calls: Iterable[Call]) -> str:
    return max(calls, key=lambda call: (call.accepted, call.endpoint)).endpoint


def _joined(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def _usual_places(scene: Scene) -> str:
    """``, while its usual use continued from France``; empty if there was none on these days."""
    usual = [place for place in scene.places if not place.suspicious]
    if not usual or not scene.has_past:
        return ""
    areas = listed(dict.fromkeys(place.area for place in usual), _MOST_AREAS)
    return f", while its usual use continued from {areas}"


def _no_usual_use(scene: Scene) -> str:
    if not scene.has_past:
        return "The key has too little history to tell its usual use."
    days = "that day" if scene.since.date() == scene.until.date() else "these days"
    return f"There was no usual use on {days}."


def _revocation(scene: Scene) -> list[str]:
    if scene.revoked_at is None:
        return []
    told = f"{minute(scene.revoked_at)} UTC"
    if scene.revoked_at <= scene.since:
        return [f"It was revoked before, at {told}, and is still accepted."]
    return [f"It was revoked at {told}."] if scene.revoked_at <= scene.until else []
