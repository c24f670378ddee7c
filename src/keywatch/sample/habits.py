"""Ways of using a key: how often, when, from where, with what, and which calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

from . import api, places
from .keys import Key, Sessions, Slot
from .owners import Owner
from .places import DAY_US, HOUR_US, MINUTE_US, SECOND_US, AddressBook, Ints, Source

AGENTS: dict[str, tuple[str, ...]] = {
    "grafana": ("Grafana/10.4.3", "Grafana/11.1.0", "Grafana/11.2.2", "Grafana/11.5.1"),
    "action": (
        "pulsely-action/2.3.1 (GitHub Actions)",
        "pulsely-action/2.4.0 (GitHub Actions)",
        "pulsely-action/3.0.2 (GitHub Actions)",
    ),
    "terraform": (
        "Terraform/1.8.5 (+https://www.terraform.io) terraform-provider-pulsely/1.3.0",
        "Terraform/1.9.5 (+https://www.terraform.io) terraform-provider-pulsely/1.4.2",
        "Terraform/1.10.1 (+https://www.terraform.io) terraform-provider-pulsely/1.5.0",
    ),
    "pulumi": ("pulumi-pulsely/0.9.1", "pulumi-pulsely/0.10.0", "pulumi-pulsely/0.11.3"),
    "bridge": ("alertbridge/1.8.0", "alertbridge/1.9.2", "alertbridge/2.0.0"),
    "go": ("Go-http-client/2.0", "pulsely-go/1.12.0", "pulsely-go/1.13.1"),
    "node": ("axios/1.7.2", "axios/1.7.7", "axios/1.8.1"),
    "okhttp": ("okhttp/4.11.0", "okhttp/4.12.0", "okhttp/5.0.0"),
    "requests": ("python-requests/2.31.0", "python-requests/2.32.3", "python-requests/2.33.0"),
    "httpx": ("python-httpx/0.26.0", "python-httpx/0.27.2", "python-httpx/0.28.1"),
    "sdk": ("pulsely-python/3.1.0", "pulsely-python/3.2.1", "pulsely-python/4.0.0"),
    "curl": ("curl/7.88.1", "curl/8.5.0", "curl/8.7.1"),
    "httpie": ("HTTPie/3.2.1", "HTTPie/3.2.2", "HTTPie/3.2.4"),
    "postman": ("PostmanRuntime/7.39.0", "PostmanRuntime/7.41.2", "PostmanRuntime/7.43.0"),
    "app": (
        "PulselyMobile/5.1.0 (iPhone; iOS 18.0)",
        "PulselyMobile/5.2.1 (iPhone; iOS 18.1)",
        "PulselyMobile/5.3.0 (iPhone; iOS 18.2)",
    ),
    "browser": (
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/128.0.0.0 Safari/537.36",
        "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0",
    ),
}
"""Family of agents → its versions, oldest first."""


@dataclass(frozen=True)
class Habit:
    """One way of using a key, before each key gets its own parameters."""

    name: str
    share: float
    """Share of all keys."""
    busy: bool
    """Whether `--events-per-key-day` scales it."""
    events: float
    """Median requests on a day of use."""
    agents: str
    steps: tuple[int, int]
    """Fewest and most steps of a routine."""
    routines: int
    objects: str
    gap_s: float
    mix: dict[str, float]


_LOOK = {"GET /v1/checks": 3.0, "GET /v1/checks/{id}": 4.0, "GET /v1/checks/{id}/results": 3.0}

HABITS: dict[str, Habit] = {
    habit.name: habit
    for habit in (
        Habit("dashboard", 0.13, True, 60, "grafana", (3, 8), 2, "panel", 0.3,
              {**_LOOK, "GET /v1/metrics": 1.5, "GET /v1/metrics/{id}": 6, "GET /v1/alerts": 1.5}),
        Habit("ci", 0.16, True, 16, "action curl requests", (2, 7), 3, "zipf", 2.0,
              {"POST /v1/checks/{id}/run": 4, "GET /v1/checks/{id}/results": 4,
               "GET /v1/checks": 2, "PATCH /v1/checks/{id}": 1, "GET /v1/me": 1,
               "POST /v1/checks/{id}/pause": 0.6}),
        Habit("iac", 0.09, False, 16, "terraform terraform pulumi", (5, 14), 2, "walk", 0.5,
              {"GET /v1/me": 1, "GET /v1/checks": 2, "GET /v1/checks/{id}": 8,
               "PATCH /v1/checks/{id}": 1.2, "POST /v1/checks": 0.5, "GET /v1/alert-channels": 1.5,
               "PATCH /v1/alert-channels/{id}": 0.25, "GET /v1/status-pages": 0.6,
               "DELETE /v1/checks/{id}": 0.15}),
        Habit("alert_bridge", 0.09, False, 10, "bridge go okhttp", (2, 6), 3, "zipf", 4.0,
              {"GET /v1/alerts": 4, "GET /v1/alerts/{id}": 5, "POST /v1/alerts/{id}/ack": 3,
               "GET /v1/checks/{id}": 1, "POST /v1/alerts/{id}/mute": 0.25}),
        Habit("person", 0.18, False, 10, "curl httpie requests postman", (2, 6), 5, "zipf", 25.0,
              {**_LOOK, "GET /v1/alerts": 3, "GET /v1/alerts/{id}": 2, "GET /v1/me": 1,
               "PATCH /v1/checks/{id}": 0.8, "POST /v1/checks": 0.5, "GET /v1/metrics/{id}": 1,
               "POST /v1/alerts/{id}/mute": 0.3, "GET /v1/export": 0.15,
               "GET /v1/reports/{id}": 0.5, "POST /v1/checks/{id}/pause": 0.3}),
        Habit("fleet", 0.08, True, 70, "go node sdk httpx", (1, 4), 3, "zipf", 0.8,
              {"GET /v1/checks/{id}": 4, "GET /v1/checks/{id}/results": 3,
               "GET /v1/metrics/{id}": 3, "POST /v1/checks/{id}/run": 1, "GET /v1/alerts": 1}),
        Habit("weekly_report", 0.06, False, 10, "requests sdk node", (4, 10), 1, "walk", 1.5,
              {"GET /v1/checks": 1, "GET /v1/reports/{id}": 3, "GET /v1/checks/{id}/results": 3,
               "GET /v1/export": 0.8, "GET /v1/metrics": 1}),
        Habit("monthly_job", 0.03, False, 24, "sdk requests go", (6, 16), 1, "walk", 1.5,
              {"GET /v1/export": 2, "GET /v1/reports/{id}": 4, "GET /v1/checks/{id}/results": 3,
               "GET /v1/checks": 1, "GET /v1/billing": 0.3}),
        Habit("sleeper", 0.08, False, 3, "curl requests go", (1, 3), 1, "zipf", 5.0,
              {**_LOOK, "GET /v1/me": 2}),
        Habit("vpn_user", 0.04, False, 10, "curl httpie requests", (2, 6), 4, "zipf", 25.0,
              {**_LOOK, "GET /v1/alerts": 3, "GET /v1/alerts/{id}": 2, "GET /v1/me": 1,
               "GET /v1/metrics/{id}": 2}),
        Habit("synthetic_monitor", 0.04, True, 60, "go sdk node", (1, 3), 1, "panel", 0.5,
              {"GET /v1/me": 2, "POST /v1/checks/{id}/run": 3, "GET /v1/checks/{id}": 2,
               "GET /v1/checks/{id}/results": 2}),
        Habit("mobile_app", 0.02, False, 8, "app", (2, 5), 3, "zipf", 8.0,
              {"GET /v1/alerts": 5, "GET /v1/alerts/{id}": 4, "POST /v1/alerts/{id}/ack": 1.5,
               "GET /v1/checks/{id}": 2, "GET /v1/checks": 2, "GET /v1/me": 1}),
    )
}  # fmt: skip

MIX_CONCENTRATION = 14.0
"""How closely a key's mix follows its habit's: the Dirichlet's sum of weights."""
OFFICE_HOURS = ((10.3, 1.5, 0.55), (15.0, 1.7, 0.45))
"""Mean and spread of the local hour, and weight: the morning and the afternoon."""
ELSEWHERE_SHARE = 0.01
"""Share of a person's sessions from a café, a train or a friend's line."""


def endpoint_mix(rng: np.random.Generator, habit: Habit) -> npt.NDArray[np.float64]:
    """The key's own probability of each endpoint."""
    base = np.zeros(len(api.ENDPOINTS))
    for name, weight in habit.mix.items():
        base[api.NUMBER_OF[name]] = weight
    own = np.zeros(len(base))
    used = base > 0
    own[used] = rng.dirichlet(MIX_CONCENTRATION * base[used] / base[used].sum())
    own[own < 0.004] = 0
    share: npt.NDArray[np.float64] = own / own.sum()
    return share


def make_routines(
    rng: np.random.Generator, habit: Habit, mix: npt.NDArray[np.float64]
) -> list[Ints]:
    """The orders in which the key calls: lists before single objects, reads before changes."""
    rank = np.array([
        (0 if e.template == "/v1/me" else 1 if e.objects is None else 2) + (e.method != "GET") * 2
        for e in api.ENDPOINTS
    ])  # fmt: skip
    routines = []
    for _ in range(habit.routines):
        count = int(rng.integers(habit.steps[0], habit.steps[1] + 1))
        steps = rng.choice(len(mix), size=count, p=mix)
        routines.append(steps[np.argsort(rank[steps], kind="stable")].astype(np.int64))
    return routines


def make_slots(
    rng: np.random.Generator, habit: Habit, owner: Owner, book: AddressBook
) -> tuple[list[Slot], dict[str, float]]:
    """Where a key of the habit is used from, and the traits that go with it."""
    families = habit.agents.split()
    agent = _agent(rng, families[int(rng.integers(len(families)))])
    at = int(rng.integers(len(owner.clouds)))
    cloud, egress = owner.clouds[at], owner.egress[at]
    office = owner.offices[int(rng.integers(len(owner.offices)))]
    traits: dict[str, float] = {
        "hour": float(rng.uniform(0, 24)),
        "weekday": float(rng.integers(5)),
    }

    def slots(*sources: Source) -> list[Slot]:
        return [Slot([(0, source)], [(0, agent)]) for source in sources]

    if habit.name == "dashboard":
        traits["all_day"] = float(rng.random() < 0.55)
        return slots(office if rng.random() < 0.35 else egress), traits
    if habit.name == "ci":
        runners = rng.random()
        if runners < 0.65:  # hosted runners: Azure, mostly in America
            region = "US" if rng.random() < 0.8 else "NL"
            network = next(n for n in places.networks_of("cloud", region) if n.asn == 8075)
        else:
            network = cloud
        source = places.fresh(rng, network, blocks=int(rng.integers(12, 40)), length=21)
        return slots(source), traits
    if habit.name == "iac":
        traits["hour"] = float(rng.uniform(0, 5))
        if rng.random() < 0.6:
            return slots(egress), traits
        return slots(places.fresh(rng, cloud, blocks=3, length=24)), traits
    if habit.name in ("person", "mobile_app", "vpn_user"):
        return _staff_slots(rng, habit, owner, office, agent, traits), traits
    if habit.name == "fleet":
        blocks, length = int(rng.integers(2, 7)), int(rng.integers(22, 25))
        return slots(places.fresh(rng, cloud, blocks=blocks, length=length)), traits
    if habit.name == "synthetic_monitor":
        networks = [places.pick_network(rng, "cloud") for _ in range(int(rng.integers(3, 6)))]
        traits["places"] = len(networks)
        return slots(*(places.fixed(rng, n) for n in networks)), traits
    if habit.name == "sleeper":
        return slots(office if rng.random() < 0.5 else egress), traits
    if habit.name == "monthly_job":
        traits["day_of_month"] = float(rng.choice([1, 1, 1, 2, 2, 3, 5, 10, 15, 25, 28]))
    return slots(office if rng.random() < 0.15 else egress), traits


def _staff_slots(
    rng: np.random.Generator, habit: Habit, owner: Owner, office: Source, agent: str,
    traits: dict[str, float],
) -> list[Slot]:  # fmt: skip
    isp = owner.homes[int(rng.integers(len(owner.homes)))]
    days = float(rng.choice([1, 2, 7, 30, 60, 400]))
    home = places.leased(rng, isp, days=days, v6=rng.random() < 0.3)
    mobile = places.fresh(rng, owner.mobile, blocks=3, length=20)
    elsewhere_net = places.pick_network(rng, "isp business", owner.country)
    elsewhere = places.fresh(rng, elsewhere_net, blocks=6, length=24)
    main = office
    weights = rng.dirichlet([6.0, 3.0, 0.6])
    if habit.name == "vpn_user":
        main = places.fresh(rng, owner.vpn, blocks=int(rng.integers(2, 5)), length=24)
        weights = np.array([0.95, 0.05, 0.0])
    elif habit.name == "mobile_app":
        weights = np.array([0.0, 0.4, 0.6])
    elif rng.random() < 0.25:  # works from home only
        weights = np.array([0.0, 0.93, 0.07])
    for name, weight in zip(("main", "home", "mobile"), weights, strict=True):
        traits[name] = float(weight) if weight > 0.03 else 0.0
    traits["elsewhere"] = ELSEWHERE_SHARE
    second = _agent(rng, "requests") if rng.random() < 0.4 else agent
    names = (agent, second, agent, agent)
    sources = (main, home, mobile, elsewhere)
    return [Slot([(0, s)], [(0, a)]) for s, a in zip(sources, names, strict=True)]


def _agent(rng: np.random.Generator, family: str) -> str:
    """A version of the family; the newest is half as likely as any other."""
    versions = AGENTS[family]
    return versions[int(rng.integers(2 * len(versions) - 1)) // 2]


def any_agent(rng: np.random.Generator, *families: str) -> str:
    """An agent of one of the families, of any version."""
    versions = AGENTS[families[int(rng.integers(len(families)))]]
    return versions[int(rng.integers(len(versions)))]


def versions_of(agent: str) -> tuple[str, ...]:
    """All versions of the agent, oldest first, itself among them."""
    return next(versions for versions in AGENTS.values() if agent in versions)


def newer_agent(agent: str) -> str:
    """The next version of the agent, or itself where there is none."""
    versions = versions_of(agent)
    return versions[min(versions.index(agent) + 1, len(versions) - 1)]


def sessions(key: Key, start_us: int, end_us: int, rng: np.random.Generator) -> Sessions:
    """When the key is used in [start, end), by its habit."""
    return _WHEN[key.habit](key, start_us, end_us, rng)


def _days(key: Key, start_us: int, end_us: int) -> tuple[Ints, Ints]:
    """Local midnights as UTC µs, and weekdays (0 = Monday), of every local day touched."""
    shift_us = key.owner.utc_offset_hours * HOUR_US
    days = np.arange((start_us + shift_us) // DAY_US, (end_us + shift_us) // DAY_US + 1)
    return days * DAY_US - shift_us, (days + 3) % 7


def _usual_routines(key: Key) -> list[Ints]:
    """The routines of the habit, without those that oddities added."""
    return key.routines[: HABITS[key.habit].routines]


def _mean_steps(key: Key) -> float:
    return float(np.mean([len(steps) for steps in _usual_routines(key)]))


def _with_routines(
    key: Key, start_us: npt.NDArray[np.float64], rng: np.random.Generator,
    slot: Ints | int = 0, *, vary: bool = True,
) -> Sessions:  # fmt: skip
    """Sessions at the times, each with one of the key's routines; the first ones are favoured."""
    count = len(start_us)
    usual = _usual_routines(key)
    routine = (len(usual) * rng.random(count) ** 1.6).astype(np.int64)
    length = np.array([len(steps) for steps in usual])[routine]
    if vary:
        length = np.maximum(length + rng.integers(-1, 2, count), 1)
    return Sessions.of(start_us, length, routine, slot)


def office_hours(rng: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
    """Local hours of the day at which people work."""
    weights = np.array([w for _, _, w in OFFICE_HOURS])
    peak = rng.choice(len(weights), size=count, p=weights / weights.sum())
    mean = np.array([m for m, _, _ in OFFICE_HOURS])[peak]
    spread = np.array([s for _, s, _ in OFFICE_HOURS])[peak]
    return np.clip(rng.normal(mean, spread), 6.0, 22.5)


def _polling(key: Key, start_us: int, end_us: int, rng: np.random.Generator) -> Sessions:
    every_us = max(DAY_US * _mean_steps(key) / key.rate, 20e6)
    times = np.arange(start_us + key.traits["hour"] / 24 * every_us, end_us, every_us)
    times = times + rng.uniform(0, 0.03 * every_us, len(times))
    keep = rng.random(len(times)) < 0.985
    if not key.traits.get("all_day", 1.0):
        local = times + key.owner.utc_offset_hours * HOUR_US
        hour, weekday = local % DAY_US / HOUR_US, (local // DAY_US + 3) % 7
        is_watched = (hour > 7.5) & (hour < 18.8) & (weekday < 5)
        keep &= is_watched | (rng.random(len(times)) < 0.02)
    times = times[keep]
    slot = rng.integers(int(key.traits.get("places", 1)), size=len(times))
    return _with_routines(key, times, rng, slot, vary=False)


def _workdays(key: Key, start_us: int, end_us: int, rng: np.random.Generator) -> Sessions:
    midnight, weekday = _days(key, start_us, end_us)
    mean = key.rate / _mean_steps(key) * np.where(weekday < 5, 1.0, 0.07)
    count = rng.poisson(mean * rng.gamma(3.0, 1 / 3, len(mean)))
    times = np.repeat(midnight, count) + office_hours(rng, int(count.sum())) * HOUR_US
    return _with_routines(key, times, rng)


def _nightly(key: Key, start_us: int, end_us: int, rng: np.random.Generator) -> Sessions:
    midnight, weekday = _days(key, start_us, end_us)
    nights = midnight[rng.random(len(midnight)) < 0.95]
    times = nights + key.traits["hour"] * HOUR_US + rng.uniform(0, 12, len(nights)) * MINUTE_US
    by_day = midnight[(rng.random(len(midnight)) < 0.12) & (weekday < 5)]
    by_day_times = by_day + office_hours(rng, len(by_day)) * HOUR_US
    joined = _with_routines(key, np.concatenate([times, by_day_times]), rng)
    times_longer = max(key.rate / _mean_steps(key), 0.5)
    joined.length = np.maximum((joined.length * times_longer).astype(np.int64), 1)
    return joined


def _incidents(key: Key, start_us: int, end_us: int, rng: np.random.Generator) -> Sessions:
    midnight, _ = _days(key, start_us, end_us)
    sessions_a_day = max(key.rate - 4, 1) / _mean_steps(key)
    bursts = rng.poisson(0.5, len(midnight))
    first = np.repeat(midnight, bursts) + rng.uniform(0, 24, int(bursts.sum())) * HOUR_US
    each = rng.geometric(min(1.0, 0.5 / sessions_a_day), len(first))
    times = np.repeat(first, each) + rng.exponential(20, int(each.sum())) * MINUTE_US
    beats = np.arange(start_us + key.traits["hour"] * HOUR_US / 4, end_us, 6 * HOUR_US)
    heartbeat = Sessions.of(beats + rng.uniform(0, 20, len(beats)) * SECOND_US, 1, 0)
    return Sessions.joined([_with_routines(key, times, rng), heartbeat])


def _working_person(key: Key, start_us: int, end_us: int, rng: np.random.Generator) -> Sessions:
    midnight, weekday = _days(key, start_us, end_us)
    p_use = np.where(weekday < 5, key.use_share, key.use_share * 0.12)
    used = midnight[rng.random(len(midnight)) < p_use]
    names = ("main", "home", "mobile", "elsewhere")
    weights = np.array([key.traits[name] for name in names])
    day_slot = rng.choice(4, size=len(used), p=weights / weights.sum())
    count = 1 + rng.poisson(max(key.rate / _mean_steps(key) - 1, 0.2), len(used))
    hours = office_hours(rng, int(count.sum())) + key.traits["hour"] / 24 * 3 - 1.5
    late = rng.random(len(hours)) < 0.06
    hours[late] = rng.uniform(19, 24, int(late.sum()))
    slot = np.repeat(day_slot, count)
    if key.habit != "vpn_user" and key.traits["home"]:
        slot[late] = 1
    times = np.repeat(used, count) + hours * HOUR_US
    return _with_routines(key, times, rng, slot)


def _round_the_clock(key: Key, start_us: int, end_us: int, rng: np.random.Generator) -> Sessions:
    midnight, weekday = _days(key, start_us, end_us)
    mean = key.rate / _mean_steps(key) * np.where(weekday < 5, 1.0, 0.7)
    count = rng.poisson(mean)
    total = int(count.sum())
    is_day = rng.random(total) < 0.5
    hours = np.where(is_day, office_hours(rng, total), rng.uniform(0, 24, total))
    return _with_routines(key, np.repeat(midnight, count) + hours * HOUR_US, rng)


def _once_a_week(key: Key, start_us: int, end_us: int, rng: np.random.Generator) -> Sessions:
    midnight, weekday = _days(key, start_us, end_us)
    days = midnight[(weekday == int(key.traits["weekday"])) & (rng.random(len(midnight)) < 0.97)]
    times = days + key.traits["hour"] * HOUR_US + rng.uniform(0, 20, len(days)) * MINUTE_US
    return _one_job(key, times, rng)


def _once_a_month(key: Key, start_us: int, end_us: int, rng: np.random.Generator) -> Sessions:
    midnight, _ = _days(key, start_us, end_us)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    shift_us = key.owner.utc_offset_hours * HOUR_US
    dates = [epoch + timedelta(microseconds=int(m) + shift_us) for m in midnight]
    due = np.array([d.day == int(key.traits["day_of_month"]) for d in dates])
    times = midnight[due] + key.traits["hour"] * HOUR_US + rng.uniform(0, 40 * 60e6, int(due.sum()))
    return _one_job(key, times, rng)


def _one_job(key: Key, times: npt.NDArray[np.float64], rng: np.random.Generator) -> Sessions:
    length = np.maximum(rng.poisson(key.rate, len(times)), 2)
    return Sessions.of(times, length, 0)


def _now_and_then(key: Key, start_us: int, end_us: int, rng: np.random.Generator) -> Sessions:
    mean = key.use_share * (end_us - start_us) / DAY_US
    times = np.sort(rng.uniform(start_us, end_us, int(rng.poisson(mean))))
    return _with_routines(key, times, rng)


_WHEN: dict[str, Callable[[Key, int, int, np.random.Generator], Sessions]] = {
    "dashboard": _polling,
    "ci": _workdays,
    "iac": _nightly,
    "alert_bridge": _incidents,
    "person": _working_person,
    "fleet": _round_the_clock,
    "weekly_report": _once_a_week,
    "monthly_job": _once_a_month,
    "sleeper": _now_and_then,
    "vpn_user": _working_person,
    "synthetic_monitor": _polling,
    "mobile_app": _working_person,
}
