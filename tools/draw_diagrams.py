"""Draw the diagrams of the documents: docs/packages.svg, docs/cluster.svg and docs/evidence.svg.

    python tools/draw_diagrams.py

A diagram is boxes on a grid and arrows between them. The pictures are SVG, so that a forge and the
site show them without a script, and they have their own paper, in light and in dark.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Literal

DOCS = Path(__file__).resolve().parents[1] / "docs"

LINE_HEIGHT = 17
CHARACTER_WIDTH = 6.7
"""Pixels; of a wide sans-serif of 13 pixels, in the mean."""
_PADDING = 9
_MARGIN = 16
_STYLE = """
  .paper { fill: #ffffff } text { fill: #2d333f; font: 13px system-ui, sans-serif }
  .name { font-weight: 600 } .note { fill: #5a6372 }
  .box { fill: #f1f4f9; stroke: #9aa7bb } .input { fill: #fdf3e3; stroke: #c9a15c }
  .result { fill: #e6f2e9; stroke: #7dae8b } .arrow { fill: none; stroke: #68748a }
  .head { fill: #68748a }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #171b22 } text { fill: #dfe4ec } .note { fill: #a7b0bf }
    .box { fill: #252c38; stroke: #56637a } .input { fill: #3a2f1c; stroke: #8d7343 }
    .result { fill: #1f3527; stroke: #548364 } .arrow { stroke: #97a3b8 }
    .head { fill: #97a3b8 }
  }
"""

Kind = Literal["box", "input", "result"]


@dataclass(frozen=True)
class Box:
    """A box whose middle is at `column` and `row` of the grid; `notes` are lines below its name."""

    column: float
    row: float
    name: str
    notes: tuple[str, ...] = ()
    kind: Kind = "box"


@dataclass(frozen=True)
class Arrow:
    """From a box to another, by their ids.

    Straight from bottom to top; or with one bend: first *down*, then to the other's side, or first
    *across* from its own side, then to the other's top. *side*: from side to side.
    """

    start: str
    end: str
    way: Literal["straight", "down", "across", "side"] = "straight"


@dataclass(frozen=True)
class Diagram:
    """Boxes by id, and arrows; columns and rows in pixels."""

    title: str
    boxes: Mapping[str, Box]
    arrows: tuple[Arrow, ...]
    column: int
    row: int
    box_width: int
    headings: tuple[tuple[float, str], ...] = ()
    """Names of columns, above the first row."""


def chain(*ids: str) -> tuple[Arrow, ...]:
    """Arrows from each to the next."""
    return tuple(Arrow(start, end) for start, end in pairwise(ids))


PACKAGES = Diagram(
    "The packages, in the order of imports",
    {
        "cli": Box(2, 0, "cli", ("commands",)),
        "flows": Box(0, 1.2, "flows/", ("Prefect",)),
        "explore": Box(1, 1.2, "explore/", ("notebooks, workbench,", "triage page, answers")),
        "feed": Box(2, 1.2, "feed", ("the alert feed,", "once or standing")),
        "setup": Box(3, 1.2, "setup/", ("keywatch init",)),
        "pipeline": Box(1.5, 2.5, "pipeline", ("what commands and", "flows call")),
        "operate": Box(1.5, 3.6, "operate/", ("health, doctor, metrics,", "maintain, repair")),
        "deliver": Box(1.5, 4.7, "deliver/", ("outbox, sender, one", "module per channel")),
        "report": Box(1.5, 5.8, "report/", ("text, page, charts,", "OCSF, STIX")),
        "review": Box(1.5, 6.9, "review/", ("cases, verdicts,", "alerts, the feed")),
        "detect": Box(1.5, 8, "detect/", ("detectors, scoring,", "calibration, replay, power")),
        "load": Box(1.5, 9.1, "load/", ("ingest, roll-ups,", "origins, inventory")),
        "vendors": Box(1.5, 10.2, "vendors/", ("log formats, catalogues,", "runbook")),
        "engine": Box(2.6, 11.3, "engine/", ("tasks in this process", "or on Dask")),
        "lake": Box(1.5, 11.3, "lake/", ("tables, locks, copies,", "weeks")),
        "text": Box(1.5, 12.4, "text/", ("phrases, safe text,", "redaction, the contract")),
        "settings": Box(1.5, 13.5, "settings/", ("settings, content",)),
        "model": Box(1.5, 14.5, "model", ("errors, hints, notices",)),
    },
    (
        *(Arrow("cli", each) for each in ("explore", "feed", "setup")),
        Arrow("flows", "pipeline", "down"),
        Arrow("explore", "pipeline"),
        Arrow("feed", "pipeline"),
        Arrow("setup", "operate", "down"),
        *chain(
            "pipeline", "operate", "deliver", "report", "review", "detect", "load", "vendors",
            "lake", "text", "settings", "model",
        ),
        Arrow("load", "engine", "across"),
        Arrow("engine", "settings", "down"),
    ),
    column=210,
    row=80,
    box_width=190,
)  # fmt: skip

CLUSTER = Diagram(
    "A review on a cluster",
    {
        "driver": Box(0, 0, "buckets", ("which windows to score,", "and buckets of kin")),
        "shares": Box(1, 1, "tables", ("of each window, and what", "others need of its keys")),
        "large": Box(0, 2, "keys at large", ("counts, peers, forest,", "leaked and exposed keys")),
        "evidence": Box(1, 3, "evidence", ("of the detectors",)),
        "score": Box(0, 4, "scores", ("replays, calibration,", "groups, actions")),
        "cases": Box(1, 5, "cases", ("hygiene, new networks,", "injected thefts")),
        "stored": Box(0, 6, "transaction", ("verdicts, order, coverage",)),
    },
    tuple(
        Arrow(start, end, "across")
        for start, end in pairwise(
            ("driver", "shares", "large", "evidence", "score", "cases", "stored")
        )
    ),
    column=300,
    row=62,
    box_width=210,
    headings=((0, "once, in the command"), (1, "each bucket, on a worker")),
)

EVIDENCE = Diagram(
    "How evidence becomes a recommendation",
    {
        "baseline": Box(
            0, 0, "baseline", ("90 days of the key, its", "owner and its peers,",
                               "without flagged visits"), "input",
        ),
        "visit": Box(1, 0, "visit", ("a key on a day", "from a prefix"), "input"),
        "detectors": Box(1, 1.3, "detectors", ("evidence in bits,", "against or for the owner")),
        "replays": Box(
            2, 1.3, "replays", ("up to eight earlier weeks,", "scored in the same way,",
                                "without thefts"),
        ),
        "calibration": Box(
            1, 2.4, "calibration", ("how rare this much is in", "replayed weeks, by detector")
        ),
        "score": Box(
            1, 3.5, "score of the visit", ("place + move +", "log2(π + (1 − π) · 2^B)")
        ),
        "case": Box(1, 4.6, "case", ("the suspicious visits", "of the key in the window")),
        "rule": Box(
            0, 4.6, "unfamiliar place rule", ("such as Tor, or a new VPN", "beside the owner"),
            "input",
        ),
        "p": Box(1, 5.7, "p-value", ("rank among the replayed", "cases, then a fitted tail")),
        "facts": Box(
            0, 5.7, "facts", ("a honey key, a revoked,", "leaked or exposed one"), "input"
        ),
        "revoke": Box(
            0, 7.1, "revoke or rotate", ("q-value within the rate, and", "two findings; or a fact"),
            "result",
        ),
        "investigate": Box(
            1, 7.1, "investigate", ("p-value within the budget;", "or a fact"), "result"
        ),
        "none": Box(2, 7.1, "no action", ("explained all the same", "by keywatch case"), "result"),
    },
    (
        Arrow("baseline", "detectors", "down"),
        Arrow("replays", "calibration", "down"),
        Arrow("replays", "p", "down"),
        *chain("visit", "detectors", "calibration", "score", "case", "p", "investigate"),
        Arrow("rule", "p", "side"),
        Arrow("p", "revoke"),
        Arrow("p", "none"),
        Arrow("facts", "revoke"),
        Arrow("facts", "investigate"),
    ),
    column=250,
    row=78,
    box_width=210,
)  # fmt: skip

DIAGRAMS = {"packages": PACKAGES, "cluster": CLUSTER, "evidence": EVIDENCE}


def svg(diagram: Diagram) -> str:
    """The diagram as SVG, of whole pixels."""
    boxes = diagram.boxes
    width = round(max(box.column for box in boxes.values()) * diagram.column)
    height = round(max(_y(diagram, box) + _half(box) for box in boxes.values())) + _MARGIN
    width += diagram.box_width + 2 * _MARGIN
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img">',
        f"<title>{escape(diagram.title)}</title>",
        f"<style>{_STYLE}</style>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
        'markerHeight="8" orient="auto"><path class="head" d="M0 0 8 4 0 8z"/></marker></defs>',
        f'<rect class="paper" width="{width}" height="{height}" rx="8"/>',
    ]
    for column, heading in diagram.headings:
        drawn.append(_text(_x(diagram, column), _MARGIN + 12, heading, "note"))
    for arrow in diagram.arrows:
        path = _path(diagram, arrow)
        drawn.append(f'<path class="arrow" marker-end="url(#head)" d="{path}"/>')
    for box in boxes.values():
        drawn += _box(diagram, box)
    return "\n".join([*drawn, "</svg>", ""])


def _x(diagram: Diagram, column: float) -> int:
    return round(column * diagram.column) + diagram.box_width // 2 + _MARGIN


def _y(diagram: Diagram, box: Box) -> int:
    first = max(_half(each) for each in diagram.boxes.values() if each.row == 0)
    above = _MARGIN + (LINE_HEIGHT + _PADDING if diagram.headings else 0)
    return round(box.row * diagram.row) + above + first


def _half(box: Box) -> int:
    """Half of its height."""
    return ((1 + len(box.notes)) * LINE_HEIGHT) // 2 + _PADDING


def _text(x: int, y: int, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x}" y="{y}" text-anchor="middle">{escape(text)}</text>'


def _box(diagram: Diagram, box: Box) -> Iterable[str]:
    x, y, half = _x(diagram, box.column), _y(diagram, box), _half(box)
    yield (
        f'<rect class="{box.kind}" x="{x - diagram.box_width // 2}" y="{y - half}" '
        f'width="{diagram.box_width}" height="{2 * half}" rx="6"/>'
    )
    for line, text in enumerate((box.name, *box.notes)):
        kind = "note" if line else "name"
        yield _text(x, y - half + _PADDING + 13 + line * LINE_HEIGHT, text, kind)


def _path(diagram: Diagram, arrow: Arrow) -> str:
    start, end = diagram.boxes[arrow.start], diagram.boxes[arrow.end]
    x1, x2 = _x(diagram, start.column), _x(diagram, end.column)
    y1, y2 = _y(diagram, start), _y(diagram, end)
    toward = diagram.box_width // 2 * (1 if x2 > x1 else -1)
    if arrow.way == "down":
        return f"M{x1} {y1 + _half(start)}V{y2}H{x2 - toward}"
    if arrow.way == "across":
        return f"M{x1 + toward} {y1}H{x2}V{y2 - _half(end)}"
    if arrow.way == "side":
        return f"M{x1 + toward} {y1}L{x2 - toward} {y2}"
    return f"M{x1} {y1 + _half(start)}L{x2} {y2 - _half(end)}"


def main() -> int:
    for name, diagram in DIAGRAMS.items():
        (DOCS / f"{name}.svg").write_text(svg(diagram), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
