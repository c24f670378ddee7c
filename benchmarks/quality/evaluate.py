"""The figures of one world, as JSON can say them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.quality.contenders import CONTENDERS
from benchmarks.quality.contenders.keywatch_review import review
from benchmarks.quality.measures import average_precision, caught, share
from benchmarks.quality.worlds import REVIEW_DAYS, World, contender_code
from keywatch.settings import Settings

Figures = dict[str, Any]

FALSE_ALARMS_PER_KEY = 1 / 1000
"""At which recall is told."""
FALSE_REVOKE_RATES = (0.01, 0.05, 0.1)
NO_ODDITY = "(none in the week)"


@dataclass(frozen=True)
class Task:
    """What is wanted of one world.

    `in_depth`: also Keywatch's days to detection, ablation, false-revoke rates and quiet world.
    `rate_setting`: the dotted name of the setting that holds the false-revoke rate.
    """

    world: World
    settings: Settings
    contenders: tuple[str, ...]
    in_depth: bool
    rate_setting: str


def evaluate(task: Task) -> Figures:
    """All figures of the task's world, and the seconds that each part took; a kept one, none."""
    world, settings = task.world, task.settings
    clock = _Clock()
    figures: Figures = {"seed": world.seed, "seconds": clock.seconds}
    _ = world.folder
    clock.lap("world")
    world.lake(settings)
    clock.lap("lake")
    figures["contenders"] = {}
    for name in task.contenders:
        figures["contenders"][name] = contender_figures(world, scores(name, world, settings))
        clock.lap(name)
    if "keywatch" in task.contenders:
        figures["innocent"] = innocent_figures(world, scores("keywatch", world, settings))
        if task.in_depth:
            figures["detection"] = detection_figures(world, settings)
            clock.lap("days")
            figures["ablation"] = ablation_figures(world, settings)
            clock.lap("ablation")
            figures["rates"] = rate_figures(world, settings, task.rate_setting)
            clock.lap("rates")
            figures["quiet"] = quiet_figures(world, settings)
            clock.lap("quiet")
    return figures


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name], self._last = round(now - self._last, 1), now


def scores(name: str, world: World, settings: Settings) -> pd.DataFrame:
    """The contender's score, alert and (Keywatch) revoke of every key of the truth, by key_id."""
    contender = CONTENDERS[name]
    if name == "keywatch":  # its reviews are kept already
        given = contender.score(world, settings)
    else:
        made_of = (contender_code(str(contender.module.__file__)), world.lake(settings).name)
        given = world.keep_frame(name, made_of, lambda: contender.score(world, settings))
    frame = given.set_index("key_id").reindex(world.truth.index)
    for flag in flags(frame):
        frame[flag] = frame[flag].eq(True).to_numpy(bool)
    return frame.fillna({"score": 0.0})


def flags(scored: pd.DataFrame) -> list[str]:
    """What a contender says of a key beside its score: `alert`, and Keywatch `revoke`."""
    return [flag for flag in ("alert", "revoke") if flag in scored]


def contender_figures(world: World, scored: pd.DataFrame) -> Figures:
    """How well one contender tells the stolen keys of a world from the others."""
    truth = world.truth
    stolen = truth["stolen"].to_numpy(bool)
    ranking = scored["score"].to_numpy(float)
    at_budget = caught(ranking, stolen, int(len(truth) * FALSE_ALARMS_PER_KEY))
    figures: Figures = {
        "average_precision": average_precision(ranking, stolen),
        "recall_at_budget": float(at_budget.mean()),
    }
    for flag in flags(scored):
        named = scored[flag].to_numpy(bool)
        figures[f"{flag}_precision"] = share(int((named & stolen).sum()), int(named.sum()))
        figures[f"{flag}_recall"] = share(int((named & stolen).sum()), int(stolen.sum()))
        figures[f"false_{flag}s_per_1000"] = 1000 * int((named & ~stolen).sum()) / len(truth)
    kinds: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    alerts = scored["alert"].to_numpy(bool)[stolen]
    for kind, hit, alert in zip(truth["theft"][stolen], at_budget, alerts, strict=True):
        kinds[kind] = [a + b for a, b in zip(kinds[kind], (hit, alert, 1), strict=True)]
    return figures | {"kinds": dict(kinds)}


def innocent_figures(world: World, scored: pd.DataFrame) -> Figures:
    """Innocent keys [all, alerted, revoked] by habit, and by what befell them in the week."""
    innocent = world.truth.join(scored)[~world.truth["stolen"]]
    by_habit: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    by_oddity: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for habit, odd, alert, revoke in zip(
        innocent["habit"], innocent["oddities"], innocent["alert"], innocent["revoke"], strict=True
    ):
        places = [(by_habit, habit), *((by_oddity, kind) for kind in week_oddities(odd))]
        for table, name in places:
            table[name] = [
                a + int(b) for a, b in zip(table[name], (True, alert, revoke), strict=True)
            ]
    return {"habit": dict(by_habit), "oddity": dict(by_oddity)}


def week_oddities(oddities: Iterable[dict[str, Any]]) -> list[str]:
    """The kinds of the oddities that fall in the review week, each once."""
    kinds = {each["kind"] for each in oddities if each["in_review_week"]}
    return sorted(kinds) or [NO_ODDITY]


def detection_figures(world: World, settings: Settings) -> list[Figures]:
    """Of each stolen key that a review after some day of the week names: when, and after how much.

    `days` counts from the theft's first day (0: the review of that day's end names it), `requests`
    the thief's requests up to then. For a key that is never named, `days` is None.
    """
    named: dict[str, int] = {}
    for nth in range(REVIEW_DAYS):
        for case in review(world, settings, world.review_start + timedelta(days=nth + 1)):
            if case["action"] != "none":
                named.setdefault(case["key_id"], nth)
    by_day = world.theft_days(settings)
    by_day["nth"] = (by_day["day"] - pd.Timestamp(world.review_start)).dt.days
    figures = []
    for key_id, days in by_day.groupby("key_id"):
        first, total = int(days["nth"].min()), int(days["requests"].sum())
        when = named.get(str(key_id))
        # Named before the theft began: a false alarm that came true, and no early detection.
        day = None if when is None else max(when, first)
        until = 0 if day is None else int(days["requests"][days["nth"] <= day].sum())
        figures.append(
            {
                "key_id": key_id,
                "theft": world.truth["theft"][key_id],
                "days": None if day is None else day - first,
                "requests": until,
                "theft_requests": total,
            }
        )
    return figures


def ablation_figures(world: World, settings: Settings) -> dict[str, Figures]:
    """Keywatch less one family of evidence. Facts, which have no cap, stay."""
    caps = settings.scoring.family_caps_bits
    figures: dict[str, Figures] = {}
    for family in caps:
        less = changed(settings, "scoring.family_caps_bits", {**caps, family: 0.0})
        figures[family] = contender_figures(world, scores("keywatch", world, less))
    return figures


def rate_figures(world: World, settings: Settings, rate_setting: str) -> dict[str, Figures]:
    """Keywatch at each nominal false-revoke rate; empty while there is no such setting."""
    if not has_setting(settings, rate_setting):
        return {}
    stolen = world.truth["stolen"].to_numpy(bool)
    figures = {}
    for rate in FALSE_REVOKE_RATES:
        scored = scores("keywatch", world, changed(settings, rate_setting, rate))
        revoked = scored["revoke"].to_numpy(bool)
        figures[str(rate)] = {
            "revokes": int(revoked.sum()),
            "false_revokes": int((revoked & ~stolen).sum()),
            "recall": share(int((revoked & stolen).sum()), int(stolen.sum())),
        }
    return figures


def quiet_figures(world: World, settings: Settings) -> Figures:
    """Alerts and revokes per 1,000 keys in the same world without a theft."""
    quiet = World(world.seed, world.keys, world.weeks, thefts=0)
    scored = scores("keywatch", quiet, settings)
    return {
        f"{flag}s_per_1000": 1000 * float(np.mean(scored[flag].to_numpy(bool)))
        for flag in ("alert", "revoke")
    }


def has_setting(settings: Settings, name: str) -> bool:
    """Whether there is a setting `section.name`."""
    section, _, field = name.partition(".")
    return hasattr(getattr(settings, section, None), field)


def changed(settings: Settings, name: str, value: object) -> Settings:
    """The settings with another value of `section.name`, whatever the environment says of it."""
    section, _, field = name.partition(".")
    changed_section = getattr(settings, section).model_copy(update={field: value})
    return settings.model_copy(update={section: changed_section})
