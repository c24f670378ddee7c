"""The figures of several worlds as tables of 100 columns, or as Markdown."""

from __future__ import annotations

import argparse
import json
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.quality.contenders import CONTENDERS
from benchmarks.quality.evaluate import Figures
from benchmarks.quality.measures import share


@dataclass(frozen=True)
class Table:
    """Words; the first column is what the others are about."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def text(self) -> str:
        """Columns as wide as they must be, the first to the left."""
        widths = [max(map(len, column)) for column in zip(self.header, *self.rows, strict=True)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
            for row in (self.header, *self.rows)
        ]
        return "\n".join([self.title, *lines])

    def markdown(self) -> str:
        lines = [self.header, ("---", *("---:" for _ in self.header[1:])), *self.rows]
        return "\n".join([f"{self.title}\n", *(f"| {' | '.join(line)} |" for line in lines)])


def tell(tables: Iterable[Table], figures: object, given: argparse.Namespace) -> None:
    """Print the tables, `markdown` for docs/detection.md; `json` is a file for the figures."""
    for table in tables:
        print(f"\n{table.markdown() if given.markdown else table.text()}")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def contenders(group: str, worlds: list[Figures]) -> Table:
    """One row a contender: the table of docs/detection.md."""
    columns = {
        "avg. precision": "average_precision",
        "recall at 1‰": "recall_at_budget",
        "alert prec.": "alert_precision",
        "alert recall": "alert_recall",
        "false/1,000": "false_alerts_per_1000",
    }
    rows = [
        (
            CONTENDERS[name].title,
            *(spread(world["contenders"][name][field] for world in worlds)
              for field in columns.values()),
        )
        for name in worlds[0]["contenders"]
    ]  # fmt: skip
    title = (
        f"{group}: mean and least–most of the worlds (at 1‰: at one false alarm in\n"
        "1,000 keys; false/1,000: innocent keys alerted, per 1,000 keys and week)"
    )
    return Table(title, ("", *columns), rows)


def by_kind(group: str, worlds: list[Figures]) -> Table:
    """Recall of each kind of theft, all worlds together."""
    names = list(worlds[0]["contenders"])
    found: dict[str, dict[str, list[float]]] = {name: {} for name in names}
    for world in worlds:
        for name in names:
            for kind, counts in world["contenders"][name]["kinds"].items():
                so_far = found[name].get(kind, [0.0, 0.0, 0.0])
                found[name][kind] = [a + b for a, b in zip(so_far, counts, strict=True)]
    rows = []
    for kind in sorted(found[names[0]]):
        counts = [found[name][kind] for name in names]
        shown = (f"{at_budget / n:.0%}/{alert / n:.0%}" for at_budget, alert, n in counts)
        rows.append((kind, f"{counts[0][2]:.0f}", *shown))
    header = ("", "thefts", *(CONTENDERS[name].short for name in names))
    return Table(f"{group}: recall by kind, at 1‰ and of alerts",
                 header, rows)  # fmt: skip


def actions(group: str, worlds: list[Figures]) -> Table:
    """What Keywatch's `revoke` and alerts are worth, with and without thefts."""
    ours = [world["contenders"]["keywatch"] for world in worlds]
    rows = [
        (
            name,
            spread(each[f"{flag}_precision"] for each in ours),
            spread(each[f"{flag}_recall"] for each in ours),
            spread(each[f"false_{flag}s_per_1000"] for each in ours),
            spread(world["quiet"][f"{flag}s_per_1000"] for world in worlds if "quiet" in world),
        )
        for name, flag in (("revoke", "revoke"), ("revoke or investigate", "alert"))
    ]
    header = ("", "precision", "recall", "false/1,000 keys", "no theft: per 1,000 keys")
    return Table(f"{group}: Keywatch's actions in a week", header, rows)


def rates(group: str, worlds: list[Figures]) -> Table:
    """The share of revokes that are false, all worlds together, beside the configured rate."""
    rows = []
    for nominal in worlds[0].get("rates", {}):
        each = [world["rates"][nominal] for world in worlds]
        revokes, false = (sum(one[what] for one in each) for what in ("revokes", "false_revokes"))
        rows.append((nominal, f"{share(false, revokes):.3f}", f"{false} of {revokes}",
                     spread(one["recall"] for one in each)))  # fmt: skip
    return Table(f"{group}: false revokes", ("nominal", "realised", "false", "recall"), rows)


def detection(group: str, worlds: list[Figures]) -> Table:
    """How soon a review after each day names a stolen key."""
    thefts = [theft for world in worlds for theft in world.get("detection", [])]
    kinds = sorted({theft["theft"] for theft in thefts})
    rows = []
    for kind in [*kinds, *(["all"] if kinds else [])]:
        these = [theft for theft in thefts if kind in ("all", theft["theft"])]
        named = [theft for theft in these if theft["days"] is not None]
        first = [theft for theft in named if theft["days"] == 0]
        rows.append((
            kind, str(len(these)), f"{share(len(named), len(these)):.2f}",
            f"{share(len(first), len(these)):.2f}",
            _median(theft["requests"] for theft in named),
            _median(theft["theft_requests"] for theft in named),
        ))  # fmt: skip
    header = ("", "thefts", "named", "on day one", "requests until then", "of the theft's")
    return Table(f"{group}: Keywatch's requests until detection (medians of those named)",
                 header, rows)  # fmt: skip


def ablation(group: str, worlds: list[Figures]) -> Table:
    """Keywatch with one family of evidence less."""
    rows = []
    whole = [world["contenders"]["keywatch"] for world in worlds]
    for family in worlds[0].get("ablation", {}):
        less = [world["ablation"][family] for world in worlds]
        row = [f"without {family}"]
        for field in ("average_precision", "recall_at_budget", "alert_recall"):
            change = _mean(one[field] for one in less) - _mean(one[field] for one in whole)
            row += [spread(one[field] for one in less), f"{change:+.3f}"]
        rows.append(tuple(row))
    header = ("", "avg. precision", "change", "recall at 1‰", "change", "alert recall",
              "change")  # fmt: skip
    return Table(f"{group}: Keywatch with less evidence", header, rows)


def innocent(group: str, worlds: list[Figures], what: str) -> Table:
    """Keywatch's false alarms by habit or oddity (`what`), the most alarming first."""
    total: dict[str, Counter[str]] = {}
    for world in worlds:
        for name, (keys, alerted, revoked) in world["innocent"][what].items():
            counts = {"keys": keys, "alerted": alerted, "revoked": revoked}
            total.setdefault(name, Counter()).update(counts)
    order = sorted(total, key=lambda name: (-total[name]["alerted"], name))
    rows = [
        (name, *(str(total[name][column]) for column in ("keys", "alerted", "revoked")))
        for name in order
    ]
    return Table(f"{group}: innocent keys by {what}", ("", "keys", "alerted", "revoked"), rows)


def all_tables(group: str, worlds: list[Figures]) -> list[Table]:
    """Every table that the figures have something for."""
    tables = [contenders(group, worlds)]
    if "keywatch" in worlds[0]["contenders"]:
        ours: list[Callable[[str, list[Figures]], Table]]
        ours = [actions, rates, detection, ablation]
        tables += [make(group, worlds) for make in ours]
        tables += [innocent(group, worlds, what) for what in ("habit", "oddity")]
    tables.insert(2, by_kind(group, worlds))
    return [table for table in tables if table.rows]


def spread(values: Iterable[float]) -> str:
    """Mean and extremes; of one world just its value, of none a dash."""
    known = [value for value in values if not np.isnan(value)]
    if not known:
        return "–"
    digits = 2 if max(known) <= 1 else 1 if max(known) < 100 else 0
    mean, least, most = (
        f"{value:.{digits}f}" for value in (statistics.fmean(known), min(known), max(known))
    )
    return mean if len(known) == 1 else f"{mean} {least}–{most}"


def _mean(values: Iterable[float]) -> float:
    return float(np.nanmean(list(values)))


def _median(values: Iterable[float]) -> str:
    known = list(values)
    return f"{statistics.median(known):.0f}" if known else "–"
