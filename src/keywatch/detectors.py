"""Detectors: content in ``detectors/``, one folder each, run here on a lake."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

from keywatch.catalogue import Endpoint
from keywatch.content import content_path
from keywatch.errors import ContentError, DetectorError
from keywatch.kinds import KINDS, QUERY_PARAMETERS, expected_endpoints
from keywatch.lake import Lake, sql_text
from keywatch.model import Family, Window

GRAINS = ("visit", "key_day", "key")
STATUSES = ("draft", "test", "stable")
HISTORIES = ("none", "own", "owner", "peers")
"""Whose past a detector reads: nobody's, the key's own, also its owner's keys', also its peers'."""

_REQUIRED = ("title", "kind", "family", "grain", "status", "technique", "history",
             "known_gaps", "false_positives")  # fmt: skip
_CLOCKS = re.compile(r"\b(now|current_date|current_timestamp|today|random|uuid)\b", re.IGNORECASE)
_PARAMETERS = re.compile(r"\$([a-z_][a-z0-9_]*)")
_STANDARD = {"start", "end"}
_LEAST_BITS = 1e-9  # what rounding makes of nothing
_USED_ENDPOINTS = "SELECT key_id, endpoint FROM baseline_endpoints ORDER BY ALL"


@dataclass(frozen=True)
class Detector:
    """One folder of ``detectors/``; its name is its id."""

    id: str
    title: str
    kind: str
    family: Family
    grain: str
    status: str
    technique: str
    history: str
    hygiene: bool
    """A matter of upkeep: shown, never added to the suspicion."""
    certain_bits: float | None
    """Evidence of at least this much is a fact: no cap, no second family needed."""
    known_gaps: str
    false_positives: str
    params: Mapping[str, float | str]
    sql: str
    folder: Path

    @property
    def parameters(self) -> set[str]:
        """The ``$names`` of its query."""
        return set(_PARAMETERS.findall(_without_comments(self.sql)))


def load_detectors(folder: Path | None = None) -> list[Detector]:
    """All detectors, by id.

    Raises:
        DetectorError: a folder lacks a file, or its ``detector.toml`` a field.
    """
    root = folder or content_path("detectors")
    found = sorted(root.iterdir())
    return [load_detector(path) for path in found if (path / "detector.toml").exists()]


def load_detector(folder: Path) -> Detector:
    """The detector in `folder`, named after it.

    Raises:
        DetectorError: the folder lacks a file, or its ``detector.toml`` a field.
    """
    file = folder / "detector.toml"
    try:
        values: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
        sql = (folder / "detect.sql").read_text(encoding="utf-8")
    except OSError as e:
        raise DetectorError(f"{e.filename}: can't be read ({e.strerror})") from e
    except tomllib.TOMLDecodeError as e:
        raise DetectorError(f"{file}: not valid TOML: {e}") from e
    missing = [name for name in _REQUIRED if not values.get(name)]
    if missing:
        raise DetectorError(f"{file}: {', '.join(missing)} missing; see detectors/README.md")
    return Detector(
        id=folder.name,
        hygiene=bool(values.get("hygiene", False)),
        certain_bits=values.get("certain_bits"),
        params=values.get("params", {}),
        sql=sql,
        folder=folder,
        **{name: values[name] for name in _REQUIRED},
    )


def prepare(lake: Lake, window: Window, baseline_days: int, catalogue: Sequence[Endpoint]) -> None:
    """Make the temporary tables that detectors read, for one window.

    `catalogue` is the endpoints of the API catalogues. For more than one window call
    `prepare_span` once and `prepare_window` for each.
    """
    first_day = window.start.date() - timedelta(days=baseline_days)
    prepare_span(lake, first_day, window.end.date(), catalogue)
    prepare_window(lake, window, baseline_days)


def prepare_span(lake: Lake, start: date, end: date, catalogue: Sequence[Endpoint]) -> None:
    """Make the temporary tables that windows share (``sql/span.sql``).

    ``[start, end)`` must hold each window and its baseline.
    """
    lake.execute(f"SET VARIABLE span_start = DATE '{start}'")
    lake.execute(f"SET VARIABLE span_end = DATE '{end}'")
    lake.execute(sql_text("span"))
    _load_catalogue(lake, catalogue)


def prepare_window(lake: Lake, window: Window, baseline_days: int) -> None:
    """Make the temporary tables of one window (``sql/prepare.sql``) from those of its span.

    They take the place of another window's.
    """
    lake.execute(f"SET VARIABLE window_start = DATE '{window.start.date()}'")
    lake.execute(f"SET VARIABLE window_end = DATE '{window.end.date()}'")
    lake.execute(
        f"SET VARIABLE baseline_start = DATE '{window.start.date()}' - {int(baseline_days)}"
    )
    lake.execute(sql_text("prepare"))
    with lake.registered("expected_rows", expected_endpoints(lake.table(_USED_ENDPOINTS))):
        lake.execute("CREATE OR REPLACE TEMP TABLE expected_endpoints AS FROM expected_rows")
    lake.execute(
        "CREATE OR REPLACE TEMP TABLE evidence (key_id VARCHAR, day DATE, prefix VARCHAR, "
        "detector VARCHAR, family VARCHAR, hygiene BOOLEAN, bits DOUBLE, typical VARCHAR, "
        "actual VARCHAR, explanation VARCHAR)"
    )


def _load_catalogue(lake: Lake, catalogue: Sequence[Endpoint]) -> None:
    lake.execute(
        "CREATE OR REPLACE TEMP TABLE catalogue AS SELECT unnest($names::VARCHAR[]) AS endpoint, "
        "unnest($scopes::VARCHAR[]) AS scope, unnest($sensitivities::VARCHAR[]) AS sensitivity, "
        "unnest($whys::VARCHAR[]) AS why",
        names=[entry.name for entry in catalogue],
        scopes=[entry.scope for entry in catalogue],
        sensitivities=[entry.sensitivity for entry in catalogue],
        whys=[entry.why for entry in catalogue],
    )


def run(lake: Lake, detector: Detector, window: Window) -> None:
    """Add what `detector` says to the temporary table ``evidence``; rows of 0 bits are left out.

    Less than 0 bits speaks for the owner.

    Raises:
        DetectorError: its query fails or gives other columns than the contract's.
    """
    given: dict[str, object] = {"start": window.start, "end": window.end, **detector.params}
    try:
        query = {name: given[name] for name in detector.parameters}
        evidence = KINDS[detector.kind]
        if evidence is None:
            _add(lake, detector, f"({detector.sql})", query)
        else:
            rows = evidence(lake.table(detector.sql, **query), detector.params)
            with lake.registered(f"said_by_{detector.id}", rows):
                _add(lake, detector, f"said_by_{detector.id}", {})
    except (lake.Error, KeyError) as e:
        raise DetectorError(f"{detector.folder / 'detect.sql'}: {e}") from e


def _add(lake: Lake, detector: Detector, rows: str, parameters: Mapping[str, object]) -> None:
    lake.execute(
        "INSERT INTO evidence SELECT key_id, day::DATE, prefix, $detector_id, $detector_family, "
        "$detector_hygiene, bits, typical, actual, explanation "
        f"FROM {rows} WHERE abs(bits) > $least_bits ORDER BY ALL",
        **parameters,
        detector_id=detector.id,
        detector_family=detector.family,
        detector_hygiene=detector.hygiene,
        least_bits=_LEAST_BITS,
    )


def check(detector: Detector) -> list[str]:
    """What is wrong with a detector's folder, a sentence each; empty when nothing is."""
    wrong = []
    for name, value, allowed in (
        ("kind", detector.kind, tuple(KINDS)),
        ("family", detector.family, get_args(Family)),
        ("grain", detector.grain, GRAINS),
        ("status", detector.status, STATUSES),
        ("history", detector.history, HISTORIES),
    ):
        if value not in allowed:
            wrong.append(f"{name} is {value!r}; allowed are {', '.join(allowed)}")
    sql = _without_comments(detector.sql)
    if _CLOCKS.search(sql):
        wrong.append("detect.sql reads a clock or a random source; windows are arguments")
    if not detector.sql.lstrip().startswith("-- grain:"):
        wrong.append("detect.sql must open with '-- grain: …; reads …'")
    unknown = detector.parameters - set(detector.params) - _STANDARD
    if unknown:
        wrong.append(f"detect.sql uses {', '.join(sorted(unknown))}, which [params] does not set")
    unused = set(detector.params) - detector.parameters - QUERY_PARAMETERS[detector.kind]
    if unused:
        wrong.append(f"[params] sets {', '.join(sorted(unused))}, which detect.sql does not use")
    if not (detector.folder / "README.md").exists():
        wrong.append("README.md is missing")
    cases = sorted((detector.folder / "cases").glob("*.toml"))
    if len(cases) < 2:
        wrong.append("cases/ needs a positive and a negative case at least")
    return wrong + _check_columns(detector)


def _check_columns(detector: Detector) -> list[str]:
    window = Window(datetime(2026, 1, 5), datetime(2026, 1, 12))
    with Lake.in_memory() as lake:
        prepare(lake, window, 90, [])
        try:
            run(lake, detector, window)
        except DetectorError as e:
            return [str(e)]
    return []


def _without_comments(sql: str) -> str:
    return re.sub(r"--[^\n]*", "", sql)


__all__ = [
    "ContentError",
    "Detector",
    "check",
    "load_detector",
    "load_detectors",
    "prepare",
    "prepare_span",
    "prepare_window",
    "run",
]
