"""What happened to a key, in sentences: what was done, from where, when and with what client.

Text of the log (endpoints, clients, organisations) stays as it is: a renderer makes it safe.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from keywatch.model import Milestone
from keywatch.text.countries import country_name
from keywatch.text.phrases import count, minute, named

_GRAVEST = ("critical", "high")
_MOST_DEEDS = 3
_MOST_MILESTONES = 8
_MOST_AREAS = 2
_MOST_CALLS = 3
_FEW_FAILURES = 0.1
"""Below this share of the requests, those that failed without being denied are not told."""
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
_MAKING = ("added", "created")
_ONE_THING = re.compile(
    r"(\w+) an? (?!.*\b(?:and|at|by|for|from|in|of|on|or|that|to|with)\b)"
    r"([\w ]*(?:[a-gi-rt-wA-Z]|[aeo]y))"
)
"""``deleted a check``: a verb and a noun to which a plural's s can be added."""


@dataclass(frozen=True)
class Call:
    """An endpoint that the suspicious visits called; the times are of its first such request.

    `accepted_until` is the time of the last accepted one, `objects` are the distinct objects that
    the accepted ones were about.
    """

    endpoint: str
    requests: int
    denied: int
    accepted: int
    objects: int
    denied_at: datetime | None
    accepted_at: datetime | None
    accepted_until: datetime | None
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
        if not self.is_located:
            return _NOT_LOCATED.get(self.origin_class, self.name)
        where = f" in {country_name(self.country)}" if self.country else ""
        operator = f" ({self.operator})" if self.operator else ""
        return f"{_LOCATED.get(self.origin_class, 'a network')}{where}{operator}"

    @property
    def is_located(self) -> bool:
        """Whether its network or country is known."""
        return self.name != f"{self.origin_class} address"

    @property
    def operator(self) -> str:
        """``AS3301 Telia Company AB``."""
        return self.name.removesuffix(f", {self.country}") if self.name != self.country else ""

    @property
    def area(self) -> str:
        """``Sweden``, or the network where it has no country."""
        if self.country:
            return country_name(self.country)
        return self.operator if self.is_located else str(self)


@dataclass(frozen=True)
class Client:
    """A client of the suspicious visits, without its version."""

    name: str
    requests: int
    is_new: bool

    def __str__(self) -> str:
        return f"the {self.name}" if self.name.startswith("browser ") else self.name


@dataclass(frozen=True)
class Scene:
    """What is known of the suspicious visits of one key (with one at least), the most used first.

    `accessed` are distinct objects of accepted requests, less those of sensitive calls, which are
    told by themselves; `has_past`: the key was seen before often enough to know its usual use.
    `log_ends_at` is the window's last event, of all keys.
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
    def accepted_until(self) -> datetime | None:
        """The last accepted suspicious request."""
        times = [call.accepted_until for call in self.calls if call.accepted_until]
        return max(times, default=None)

    @property
    def goes_on(self) -> bool:
        """Whether requests were accepted until the log ends, and the key was not revoked then."""
        ends, last = self.log_ends_at, self.accepted_until
        if ends is None or last is None or last < ends - _AT_THE_END:
            return False
        return self.revoked_at is None or self.revoked_at < last


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
        sentences += _failures(scene)
    sentences += _revocation(scene)
    if not _usual_places(scene):
        sentences.append(_no_usual_requests(scene))
    if scene.goes_on:
        last = f"{scene.until:%H:%M} UTC on {_day(scene.until.date())}"
        sentences.append(
            f"It may be going on: last seen at {last}, within a day of the last event reviewed."
        )
    return " ".join(sentences)


def chronology(scene: Scene) -> tuple[Milestone, ...]:
    """The first request from each place, the first denied one, each sensitive call, the last."""
    earliest = min(scene.thefts, key=lambda place: place.first_seen)
    busiest = [place for place in scene.thefts[:_MOST_DEEDS] if place is not earliest]
    steps = [
        Milestone(
            place.first_seen,
            f"first request from {place.name if place.is_located else place}",
        )
        for place in (earliest, *busiest)
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
    """``deleted 9 checks and read 419 objects``; ``16 requests, all denied``."""
    if not scene.accepted:
        return _refused(scene)
    deeds = _deeds(scene)
    if scene.accessed:
        others = [call for call in scene.calls if call.accepted and not call.is_sensitive]
        verb = "read" if all(_is_a_read(call) for call in others) else "accessed"
        deeds.append(f"{verb} {count(scene.accessed, 'object')}")
    if not deeds:
        accepted = "accepted: " if scene.accepted < scene.requests else ""
        return f"made {count(scene.requests, 'request')} ({accepted}{_called(scene)})"
    return _joined(deeds)


def when_between(since: datetime, until: datetime) -> str:
    """``on 30 September between 02:11 and 03:04 UTC``, ``between 28 and 30 September``."""
    first, last = since.date(), until.date()
    if first != last:
        begun = f"{first.day}" if first.month == last.month else _day(first)
        how = "on" if last - first == timedelta(days=1) else "between"
        return f"{how} {begun} and {_day(last)}"
    begun, ended = f"{since:%H:%M}", f"{until:%H:%M}"
    if begun == ended:
        return f"on {_day(first)} at {begun} UTC"
    return f"on {_day(first)} between {begun} and {ended} UTC"


def _day(day: date) -> str:
    return f"{day.day} {day:%B}"


def _where(scene: Scene) -> str:
    first, *others = scene.thefts
    countries = len({place.country for place in scene.thefts if place.country})
    if networks := len({place.network for place in others} - {first.network}):
        spread = f" in {countries} countries" if countries > 1 else ""
        is_most = 2 * first.requests > sum(place.requests for place in scene.thefts)
        mostly = "mostly" if is_most else "most often"
        return f"from {networks + 1:,} networks{spread}, {mostly} {first},"
    if countries > 1:
        return f"from {first} and {count(countries - 1, 'other country', 'other countries')}"
    usual = {place.network for place in scene.places if not place.suspicious}
    if scene.has_past and first.network in usual:
        return f"from {first}, a network that its usual requests come from too,"
    return f"from {first}"


def _client(scene: Scene) -> str:
    clients = [each for each in scene.clients if each.name != _NO_CLIENT]
    if not clients:
        return " without a client name"
    first, *others = clients
    more = f" and {count(len(others), 'other client')}" if others else ""
    new = sum(each.is_new for each in clients)
    how = ""
    if scene.has_past and not others:
        how = f", a client {'new to' if new else 'already seen with'} this key"
    elif scene.has_past:
        how = (
            ", all already seen with this key" if not new
            else ", all new to this key" if new == len(clients)
            else f", {new:,} of them new to this key"
        )  # fmt: skip
    nameless = " or without a client name" if len(clients) < len(scene.clients) else ""
    return f" with {first}{more}{how}{',' if how and nameless else ''}{nameless}"


def _deeds(scene: Scene) -> list[str]:
    """The sensitive calls, each once with how often, and how many more there were."""
    counted: dict[str, tuple[int, int]] = {}
    for call in scene.deeds:
        accepted, objects = counted.get(call.deed, (0, 0))
        counted[call.deed] = accepted + call.accepted, objects + call.objects
    told = [_so_often(deed, *how_often) for deed, how_often in counted.items()]
    if len(told) > _MOST_DEEDS:
        more = sum(accepted for accepted, _ in list(counted.values())[_MOST_DEEDS:])
        told = [*told[:_MOST_DEEDS], f"made {count(more, 'other sensitive call')}"]
    return told


def _so_often(deed: str, accepted: int, objects: int) -> str:
    """``deleted 9 checks`` of ``deleted a check``; ``listed API keys twice``."""
    if match := _ONE_THING.fullmatch(deed):
        verb, noun = match.groups()
        things = objects or (accepted if verb in _MAKING else 1)
        if things > 1:
            return f"{verb} {things:,} {noun}s"
    times = "" if accepted == 1 else " twice" if accepted == 2 else f" {accepted:,} times"
    return f"{deed}{times}"


def _is_a_read(call: Call) -> bool:
    return call.endpoint.partition(" ")[0] in ("GET", "HEAD")


def _refused(scene: Scene) -> str:
    requests = scene.requests
    if scene.denied == requests:
        how = "denied" if requests == 1 else "both denied" if requests == 2 else "all denied"
    else:
        how = "not accepted" if requests == 1 else "none of them accepted"
    return f"{count(requests, 'request')}, {how}"


def _called(scene: Scene) -> str:
    """``mostly GET /v1/me``; ``GET /v1/checks and GET /v1/me``, the most accepted first."""
    accepted = sorted(
        (call for call in scene.calls if call.accepted), key=lambda c: (-c.accepted, c.endpoint)
    )
    if len(accepted) > 1 and 2 * accepted[0].accepted > scene.accepted:
        return f"mostly {accepted[0].endpoint}"
    return _first_of([call.endpoint for call in accepted], _MOST_CALLS, "endpoints")


def _first_of(items: Iterable[str], most: int, rest: str) -> str:
    """``a and b``; ``a, b and 2 more countries`` (`rest`)."""
    every = list(items)
    if len(every) <= most + 1:
        return _joined(every)
    return _joined([*every[:most], f"{len(every) - most:,} more {rest}"])


def _joined(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def _usual_places(scene: Scene) -> str:
    """``, while its usual requests continued from France``; empty if there were none these days."""
    usual = [place for place in scene.places if not place.suspicious]
    if not usual or not scene.has_past:
        return ""
    areas = _first_of(dict.fromkeys(place.area for place in usual), _MOST_AREAS, "places")
    return f", while its usual requests continued from {areas}"


def _no_usual_requests(scene: Scene) -> str:
    if not scene.has_past:
        return "The key has too little history to tell its usual use."
    days = "that day" if scene.since.date() == scene.until.date() else "those days"
    return f"There were no usual requests on {days}."


def _failures(scene: Scene) -> list[str]:
    """``54 of 166 requests were denied, 30 failed``; empty if there is nothing to tell."""
    failed = scene.requests - scene.accepted - scene.denied
    told = []
    of_all = f" of {count(scene.requests, 'request')}"
    if scene.denied:
        told.append(f"{scene.denied:,}{of_all} {named(scene.denied, 'was', 'were')} denied")
    if failed > _FEW_FAILURES * scene.requests:
        told.append(f"{failed:,}{'' if told else of_all} failed")
    return [f"{', '.join(told)}."] if told else []


def _revocation(scene: Scene) -> list[str]:
    revoked, last = scene.revoked_at, scene.accepted_until
    if revoked is None or (revoked <= scene.since and last is None):
        return []
    told = f"{minute(revoked)} UTC"
    if revoked <= scene.since:
        return [f"It was revoked before, at {told}, and is still accepted."]
    if revoked > scene.until:
        return [f"It was revoked afterwards, at {told}."]
    if last is not None and last > revoked:
        return [f"It was revoked at {told}, and requests were accepted after that."]
    return [f"It was revoked at {told}, and no request was accepted after that."]
