"""Detectors: content in ``detectors/``, one folder each, run here on a lake."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import cache, cached_property, lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

import pyarrow as pa

from keywatch.content import content_path, folders_of
from keywatch.detect.kinds import KINDS, QUERY_PARAMETERS, expected_endpoints
from keywatch.errors import ContentError, DetectorError, UsageError
from keywatch.lake import Lake, quoted, sql_statements, sql_text
from keywatch.model import ACTIONS, About, Action, Family, GroupKind, Status, Window
from keywatch.text.attack import TECHNIQUE, technique
from keywatch.vendors.catalogue import Endpoint

GRAINS = ("visit", "key_day", "key")
FACT_ACTIONS = ACTIONS[:-1]
HISTORIES = ("none", "own", "owner", "peers")
"""Whose past a detector reads: nobody's, the key's own, also its owner's keys', also its peers'.

How far the log reaches is part of each: that a key is silent shows only as long as there is a log.
"""

_REQUIRED = ("title", "kind", "family", "grain", "status", "technique", "history",
             "known_gaps", "false_positives")  # fmt: skip
_CLOCKS = re.compile(r"\b(now|current_date|current_timestamp|today|random|uuid)\b", re.IGNORECASE)
_MADE = re.compile(r"^CREATE OR REPLACE TEMP (?:TABLE|VIEW) (\w+)", re.MULTILINE)
_WORDS = re.compile(r"\w+")
_PARAMETERS = re.compile(r"\$([a-z_][a-z0-9_]*)")
_STANDARD = {"start", "end"}
_SCRIPTS = ("roll_ups", "span", "prepare")
BY_KEY = (
    "traits", "uses", "peers", "new_endpoints", "arrivals", "baseline_rhythms", "baseline_sessions",
    "key_forms",
)  # fmt: skip
"""Tables that are read of all keys, whichever are scored: small, and each row is one key's."""
OF_KIN = ("baseline_objects",)
"""Tables that are read of an owner's other keys too, beside where these were; rows as `BY_KEY`."""
OF_ALL = ("expected_endpoints", "window_reach", "requests_by_day")
"""Tables that are made of all keys at once."""
MOST_FITTED_KEYS = 10_000
"""A model of so many keys is as good as one of all, and the rows of all fit nowhere."""
_ROLL_UPS = ("known_activity", "span_hours", "span_transitions")
_OF_PLACES = ("known_activity", "known_addresses")
"""What says which places are read; as views they cost nothing."""
_ALWAYS = (*_OF_PLACES, "unknown_credentials")
# To choose most of the places takes longer than to take all.
_ARE_FEW = """
    SELECT 4 * (SELECT approx_count_distinct(address) FROM known_addresses)
        < (SELECT count(*) FROM lake.origins)
"""
# What a verdict says of a prefix may be known by another address of it.
_ADDRESSES = """
    SELECT coalesce(list(DISTINCT address), []) FROM lake.origins
    WHERE coalesce(prefix, address) IN (
        SELECT coalesce(prefix, address) FROM lake.origins
        SEMI JOIN known_addresses USING (address))
"""
_LEAST_BITS = 1e-9  # what rounding makes of nothing
_CONTRACT = {"key_id": "VARCHAR", "day": "DATE", "prefix": "VARCHAR", "bits": "DOUBLE",
             "typical": "VARCHAR", "actual": "VARCHAR", "explanation": "VARCHAR"}  # fmt: skip
"""The columns of every detector's query."""
_NO_EVENTS = Window(datetime(2026, 1, 5), datetime(2026, 1, 12))
_USED_ENDPOINTS = "SELECT key_id, endpoint FROM baseline_endpoints ORDER BY ALL"


@dataclass(frozen=True)
class Detector:
    """One folder of ``detectors/``; its name is its id."""

    id: str
    title: str
    kind: str
    family: Family
    grain: str
    status: Status
    technique: str
    history: str
    question: str
    """Detectors that ask the same question see the same: the strongest of them counts."""
    backstop: bool
    """A rule that decides where too little was ordinary yet to calibrate; it adds no bits."""
    speaks_of_moves: bool
    """What it says for the owner is that the key moved, and not that it behaves as ever."""
    groups_as: GroupKind | None
    """What keys of which it says the same at one place are: one theft, or one move to confirm."""
    needs_other_visits: bool
    """What it says of a visit depends on other visits of the window, the key's or other keys'."""
    hygiene: bool
    """A matter of upkeep: shown, never added to the suspicion."""
    certain_bits: float | None
    """Evidence of at least this much is a fact, which needs no statistics."""
    action: Action | None
    """What such a fact asks for by itself; ``revoke`` says that it is a theft."""
    known_gaps: str
    false_positives: str
    params: Mapping[str, float | str]
    sql: str
    folder: Path

    @cached_property
    def parameters(self) -> set[str]:
        """The ``$names`` of its query."""
        return set(_PARAMETERS.findall(_without_comments(self.sql)))

    @cached_property
    def about(self) -> About:
        """What its author says of it, on one line each."""
        return About(
            title=self.title,
            technique=technique(self.technique),
            false_positives=" ".join(self.false_positives.split()),
            known_gaps=" ".join(self.known_gaps.split()),
        )

    @property
    def is_bundled(self) -> bool:
        """Whether it is one of Keywatch's own, and none of a folder outside."""
        return self.folder.is_relative_to(content_path("detectors"))

    @property
    def may_read_all_keys(self) -> bool:
        """Whether it needs all tables of all keys: of a bundled one it is known what it reads."""
        return self.history == "peers" and not self.is_bundled

    @property
    def counts(self) -> bool:
        """Whether it adds to the suspicion: upkeep and rules don't, nor what is not yet stable."""
        return self.status == "stable" and not self.hygiene and not self.backstop

    @property
    def identity(self) -> tuple[object, ...]:
        """All that its evidence, and what is made of it, depend on."""
        params = tuple(sorted(self.params.items()))
        return (self.id, self.kind, self.family, self.question, self.status, self.hygiene,
                self.backstop, self.speaks_of_moves, self.groups_as, self.needs_other_visits,
                self.certain_bits, self.action, self.sql, params)  # fmt: skip


def load_detectors(outside: Iterable[Path] = ()) -> list[Detector]:
    """All detectors: the bundled ones by id, then those of the folders `outside`.

    Raises:
        DetectorError: a folder lacks a file, or its ``detector.toml`` a field, or has the name of
            another one.
    """
    found: dict[str, Detector] = {}
    for path in folders_of("detectors", outside):
        if other := found.get(path.name):
            raise DetectorError(f"{path}: {other.folder} has this name already; rename the folder")
        found[path.name] = load_detector(path)
    return list(found.values())


def load_detector(folder: Path) -> Detector:
    """The detector in `folder`, named after it.

    Raises:
        DetectorError: the folder lacks a file, or its ``detector.toml`` a field.
    """
    file = folder / "detector.toml"
    try:
        toml = file.read_text(encoding="utf-8")
        sql = (folder / "detect.sql").read_text(encoding="utf-8")
    except OSError as e:
        raise DetectorError(f"{e.filename}: can't be read ({e.strerror})") from e
    return _detector(folder, toml, sql)


@lru_cache(maxsize=256)
def _detector(folder: Path, toml: str, sql: str) -> Detector:
    """The detector of these texts; a review loads the same ones twice."""
    file = folder / "detector.toml"
    try:
        values: dict[str, Any] = tomllib.loads(toml)
    except tomllib.TOMLDecodeError as e:
        raise DetectorError(f"{file}: not valid TOML: {e}") from e
    missing = [name for name in _REQUIRED if not values.get(name)]
    if missing:
        raise DetectorError(f"{file}: {', '.join(missing)} missing; see detectors/README.md")
    return Detector(
        id=folder.name,
        question=values.get("question", folder.name),
        backstop=values.get("backstop", False),
        speaks_of_moves=values.get("speaks_of_moves", False),
        groups_as=values.get("groups_as"),
        needs_other_visits=values.get("needs_other_visits", False),
        hygiene=values.get("hygiene", False),
        certain_bits=values.get("certain_bits"),
        action=values.get("action"),
        params=values.get("params", {}),
        sql=sql,
        folder=folder,
        **{name: values[name] for name in _REQUIRED},
    )


def detectors_under(folder: Path) -> list[Detector]:
    """The detectors of a folder: it is one, or has them in it, or in its ``detectors/``.

    Raises:
        DetectorError: there is none, or one lacks a file or a field.
    """
    places = [folder, *sorted(folder.glob("*")), *sorted(folder.glob("detectors/*"))]
    found = [load_detector(each) for each in places if (each / "detector.toml").is_file()]
    if not found:
        raise DetectorError(
            f"{folder}: no detector there; name the folder of one (with its detector.toml), or "
            "the folder that contains them"
        )
    return found


def with_others(loaded: Iterable[Detector], others: Iterable[Detector]) -> list[Detector]:
    """`loaded` with `others` added, or in the place of those of the same ids.

    The others count as if they were stable.
    """
    found = {each.id: each for each in loaded}
    return [*(found | {each.id: replace(each, status="stable") for each in others}).values()]


def prepare(
    lake: Lake,
    window: Window,
    baseline_days: int,
    catalogue: Sequence[tuple[str, Endpoint]],
    *,
    only: Detector | None = None,
) -> None:
    """Make the temporary tables that detectors read, for one window.

    `catalogue` has the endpoints by log format (`catalogue_by_source`); with `only`, the tables are
    those that this detector's query rests on. For more than one window call `prepare_span` once
    and `prepare_window` for each.
    """
    first_day = window.start.date() - timedelta(days=baseline_days)
    tables = None if only is None else rests_on(only.sql)
    prepare_span(lake, first_day, window.end.date(), catalogue, tables)
    prepare_window(lake, window, baseline_days, tables)


def prepare_span(
    lake: Lake,
    start: date,
    end: date,
    catalogue: Sequence[tuple[str, Endpoint]],
    tables: Set[str] | None = None,
) -> None:
    """Make the temporary tables that windows share, or those of `tables`.

    ``[start, end)`` must hold each window and its baseline. These are ``detect/roll_ups.sql`` and
    ``detect/span.sql``.
    """
    begin_span(lake, start, end, tables)
    if lake.folder is not None:
        _keep_small(lake, tables)
    _make(lake, "span", tables)
    if tables is None or "source_catalogue" in tables:
        _load_catalogue(lake, catalogue)


def prepare_keys(
    lake: Lake,
    key_ids: Sequence[str],
    window: Window,
    baseline_days: int,
    catalogue: Sequence[tuple[str, Endpoint]],
    *,
    sql: str | None = None,
) -> None:
    """Make the temporary tables of some keys, those that `sql` reads or all.

    Of other keys they have those of their owners and their predecessors alone (`kin`): what is
    usual for the keys rests on these. What rests on keys at large is left out.
    """
    tables = None if sql is None else rests_on(sql)
    start, end = window.start.date(), window.end.date()
    first_day = start - timedelta(days=baseline_days)
    prepare_span_of_keys(lake, kin(lake, key_ids), first_day, end, catalogue, tables)
    prepare_window(lake, window, baseline_days, tables)


def prepare_part(
    lake: Lake,
    key_ids: Sequence[str],
    beside: Sequence[str],
    window: Window,
    baseline_days: int,
    catalogue: Sequence[tuple[str, Endpoint]],
    others: Mapping[str, pa.Table],
) -> None:
    """Make the temporary tables of some keys, with what else they rest on.

    Of `beside`, the keys' other kin, the tables have where they were before the window.
    `others` has other keys' rows in ``keys_in_use`` and the tables of `BY_KEY` and `OF_KIN`, and
    the tables of `OF_ALL` as they are.
    """
    start, end = window.start.date(), window.end.date()
    first_day = start - timedelta(days=baseline_days)
    prepare_span_of_keys(lake, key_ids, first_day, end, catalogue, beside=beside)
    prepare_window(lake, window, baseline_days, others=others)


def prepare_span_of_keys(
    lake: Lake,
    key_ids: Sequence[str],
    start: date,
    end: date,
    catalogue: Sequence[tuple[str, Endpoint]],
    tables: Set[str] | None = None,
    *,
    beside: Sequence[str] = (),
    alone: bool = False,
) -> None:
    """As `prepare_span`, of these keys, whose kin are among them or `beside` (`prepare_part`).

    `alone`: the inventory's other keys are left out of the windows' ``keys``.
    """
    begin_span(lake, start, end, tables)
    of_keys, of_kin = _among(key_ids), _among([*key_ids, *beside])
    if beside:
        _keep_rows(lake, "known_addresses", f"WHERE key_id {of_kin}")
        lake.execute("SET VARIABLE beside_keys = $key_ids::VARCHAR[]", key_ids=list(beside))
    for name in _ROLL_UPS:
        if tables is None or name in {*tables, *_OF_PLACES}:
            _keep_rows(lake, name, f"WHERE key_id {of_keys}")
    lake.execute(
        "CREATE OR REPLACE TEMP VIEW span_events AS FROM lake.events "
        f"WHERE day >= DATE '{start}' AND day < DATE '{end}' "
        f"AND (key_id {of_kin} OR principal {of_kin})"
    )
    if lake.value(_ARE_FEW):
        lake.execute(f"SET VARIABLE span_addresses = ({_ADDRESSES})")
    _make(lake, "span", tables)
    _load_catalogue(lake, catalogue)
    if alone:
        lake.execute("SET VARIABLE only_keys = $key_ids::VARCHAR[]", key_ids=list(key_ids))


def of_whole_window(lake: Lake, window: Window) -> dict[str, pa.Table]:
    """``window_reach`` and ``requests_by_day`` of all keys, from the roll-ups."""
    named = {"first": window.start.date(), "end": window.end.date()}
    of_window = (
        "FROM lake.activity ANTI JOIN unknown_credentials_until($end::DATE) USING (key_id) "
        "WHERE day >= $first AND day < $end"
    )
    return {
        "window_reach": lake.table(f"SELECT max(last_ts) AS last_ts {of_window}", **named),
        "requests_by_day": lake.table(
            f"SELECT day, sum(events)::BIGINT AS events {of_window} GROUP BY day", **named
        ),
    }


def kin(lake: Lake, key_ids: Sequence[str]) -> list[str]:
    """These keys and all whose past may count for them, by key (``detect/kin.sql``)."""
    found = lake.rows(sql_text("kin", __package__), key_ids=list(key_ids))
    return [key_id for (key_id,) in found]


def begin_span(lake: Lake, start: date, end: date, tables: Set[str] | None = None) -> None:
    """Make the views of the log and its roll-ups in ``[start, end)``, or those of `tables`."""
    lake.execute(f"SET VARIABLE span_start = DATE '{start}'")
    lake.execute(f"SET VARIABLE span_end = DATE '{end}'")
    lake.execute("SET VARIABLE span_addresses = NULL::VARCHAR[]")
    lake.execute("SET VARIABLE only_keys = NULL::VARCHAR[]")
    lake.execute("SET VARIABLE beside_keys = NULL::VARCHAR[]")
    show_roll_ups(lake, tables)


def show_roll_ups(lake: Lake, tables: Set[str] | None = None) -> None:
    """Make the views of the log and its roll-ups in the span, or those of `tables`."""
    _make(lake, "roll_ups", None if tables is None else {*tables, *_ALWAYS})


def _among(key_ids: Iterable[str]) -> str:
    return f"IN ({', '.join(map(quoted, key_ids)) or 'NULL'})"


def _keep_rows(lake: Lake, view: str, chosen: str = "") -> None:
    """Read a view's rows once, those that are `chosen`."""
    lake.execute(f"CREATE OR REPLACE TEMP TABLE kept_{view} AS FROM {view} {chosen}")
    lake.execute(f"CREATE OR REPLACE TEMP VIEW {view} AS FROM kept_{view}")


def prepare_window(
    lake: Lake,
    window: Window,
    baseline_days: int,
    tables: Set[str] | None = None,
    others: Mapping[str, pa.Table] | None = None,
) -> None:
    """Make the temporary tables of one window (``detect/prepare.sql``) from those of its span.

    They take the place of another window's. With `tables`, only those are made; `others` are as of
    `prepare_part`.
    """
    set_window(lake, window, baseline_days)
    _make(lake, "prepare", tables, others or {})
    if tables is None or "expected_endpoints" in tables:
        expect_endpoints(lake, (others or {}).get("expected_endpoints"))
    begin_evidence(lake)


def set_window(lake: Lake, window: Window, baseline_days: int) -> None:
    """Set the variables that ``detect/prepare.sql`` reads."""
    lake.execute(f"SET VARIABLE window_start = DATE '{window.start.date()}'")
    lake.execute(f"SET VARIABLE window_end = DATE '{window.end.date()}'")
    lake.execute(
        f"SET VARIABLE baseline_start = DATE '{window.start.date()}' - {int(baseline_days)}"
    )


def expect_endpoints(lake: Lake, expected: pa.Table | None = None) -> None:
    """Make ``expected_endpoints``, by default of what all keys in use have called before."""
    if expected is None:
        expected = expected_endpoints(lake.table(_USED_ENDPOINTS))
    put_in_place(lake, "expected_endpoints", expected)


def begin_evidence(lake: Lake) -> None:
    """Make ``evidence``, which `run` adds to; nothing is in it."""
    lake.execute(
        "CREATE OR REPLACE TEMP TABLE evidence (key_id VARCHAR, day DATE, prefix VARCHAR, "
        "detector VARCHAR, family VARCHAR, hygiene BOOLEAN, status VARCHAR, bits DOUBLE, "
        "typical VARCHAR, actual VARCHAR, explanation VARCHAR, subject VARCHAR, due_on DATE, "
        "rotate BOOLEAN)"
    )


def make_again(
    lake: Lake, tables: Iterable[str], others: Mapping[str, pa.Table] | None = None
) -> None:
    """Make these of a window's tables anew, of what those they are made of contain now.

    `others` are as of `prepare_part`.
    """
    _make(lake, "prepare", frozenset(tables), others or {})


@cache
def tables_of_window() -> Mapping[str, bool]:
    """The tables and views that ``detect/prepare.sql`` makes, and whether each is a table."""
    statements = sql_statements("prepare", __package__)
    return {made[1]: "TABLE" in made[0] for each in statements if (made := _MADE.search(each))}


def _keep_small(lake: Lake, tables: Set[str] | None) -> None:
    """Read small roll-ups once: to ask the lake's catalogue for their files takes longer."""
    if not lake.is_small():
        return
    for name in _ROLL_UPS:
        if tables is None or name in tables:
            _keep_rows(lake, name)


def _make(
    lake: Lake,
    script: str,
    tables: Set[str] | None,
    others: Mapping[str, pa.Table] = MappingProxyType({}),
) -> None:
    if tables is None and not others:
        lake.execute(sql_text(script, __package__))
        return
    for statement in sql_statements(script, __package__):
        made = _MADE.search(statement)
        if made is None:
            lake.execute(statement)
        elif tables is not None and made[1] not in tables:
            continue
        elif made[1] in OF_ALL and made[1] in others:
            put_in_place(lake, made[1], others[made[1]])
        else:
            lake.execute(statement)
            if made[1] in others:
                with lake.registered(f"others_{made[1]}", others[made[1]]):
                    lake.execute(f"INSERT INTO {made[1]} BY NAME FROM others_{made[1]}")


def put_in_place(lake: Lake, name: str, rows: pa.Table) -> None:
    """Have the temporary table `name` contain these rows."""
    with lake.registered(f"rows_of_{name}", rows):
        lake.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS FROM rows_of_{name}")


def rename(
    lake: Lake, names: Iterable[str], old: str, new: str, *, missing_ok: bool = False
) -> None:
    """Rename temporary tables; `old` and `new` hold ``{}`` for the name.

    What had the new name is dropped. With `missing_ok` a table may not be there.
    """
    if_exists = "IF EXISTS " if missing_ok else ""
    lake.execute(
        "".join(
            f"DROP TABLE IF EXISTS {new.format(name)}; "
            f"ALTER TABLE {if_exists}{old.format(name)} RENAME TO {new.format(name)};"
            for name in names
        )
    )


@cache
def rests_on(sql: str) -> frozenset[str]:
    """The prepared tables that a query reads, and those that they are made of in turn."""
    scripts = [each for name in _SCRIPTS for each in sql_statements(name, __package__)]
    made_by: dict[str, str] = {made[1]: each for each in scripts if (made := _MADE.search(each))}
    made_by |= {"expected_endpoints": _USED_ENDPOINTS, "source_catalogue": ""}
    found: set[str] = set()
    texts = [sql]
    while texts:
        words = set(_WORDS.findall(_without_comments(texts.pop())))
        new = words & made_by.keys() - found
        found |= new
        texts += [made_by[name] for name in new]
    return frozenset(found)


def _load_catalogue(lake: Lake, catalogue: Sequence[tuple[str, Endpoint]]) -> None:
    put_in_place(lake, "source_catalogue", _catalogue_rows(tuple(catalogue)))


@lru_cache(maxsize=4)
def _catalogue_rows(catalogue: tuple[tuple[str, Endpoint], ...]) -> pa.Table:
    columns = {
        "endpoint": ("name", pa.string()),
        "scope": ("scope", pa.string()),
        "sensitivity": ("sensitivity", pa.string()),
        "why": ("why", pa.string()),
        "any_key": ("any_key", pa.bool_()),
        "requests_per_minute": ("requests_per_minute", pa.int64()),
    }
    return pa.table(
        {"source": pa.array([source for source, _ in catalogue], pa.string())}
        | {
            column: pa.array([getattr(endpoint, field) for _, endpoint in catalogue], kind)
            for column, (field, kind) in columns.items()
        }
    )


def run(
    lake: Lake,
    detector: Detector,
    window: Window,
    fitted: dict[str, Any] | None = None,
    drawn: Set[str] | None = None,
) -> None:
    """Add what `detector` says to the temporary table ``evidence``; rows of 0 bits are left out.

    Less than 0 bits speaks for the owner. `fitted` has the models of earlier runs by detector, and
    gets those that are fitted here, to the keys that are `drawn` (`keys_to_fit`) or to all.

    Raises:
        DetectorError: its query fails or gives other columns than the contract's.
    """
    try:
        lake.check_select(detector.sql)
        query = _values(detector, window)
        kind = KINDS[detector.kind]
        if kind is None:
            _add(lake, detector, f"({detector.sql})", query)
        else:
            known = {} if fitted is None else fitted
            asked = lake.table(detector.sql, **query)
            read = kind.read(asked)
            if known.get(detector.id) is None:
                learned = read if drawn is None else kind.read(_of_keys(asked, drawn))
                known[detector.id] = kind.fit(learned, detector.params)
            rows = kind.evidence(read, detector.params, known[detector.id])
            with lake.registered(f"said_by_{detector.id}", rows):
                _add(lake, detector, f"said_by_{detector.id}", {})
    except (lake.Error, UsageError, KeyError) as e:
        raise DetectorError(f"{detector.folder / 'detect.sql'}: {e}") from e


def shared_tables(loaded: Iterable[Detector]) -> list[str]:
    """Those of `BY_KEY` that these detectors read, and ``uses``, which peers are learned from."""
    read = {"uses"}.union(*(_WORDS.findall(_without_comments(each.sql)) for each in loaded))
    return [name for name in BY_KEY if name in read]


def to_fit(loaded: Iterable[Detector]) -> list[Detector]:
    """Those that score by a model of all keys."""
    return [each for each in loaded if KINDS[each.kind] is not None]


def keys_to_fit(lake: Lake) -> Set[str] | None:
    """The keys that models are fitted to: of many some, drawn by their hash; None: all."""
    rows = lake.rows(
        "SELECT key_id FROM span_activity UNION SELECT key_id FROM inventory_in_force()"
    )
    if len(rows) <= MOST_FITTED_KEYS:
        return None
    by_hash = sorted((hashlib.sha256(key_id.encode()).digest(), key_id) for (key_id,) in rows)
    return frozenset(key_id for _, key_id in by_hash[:MOST_FITTED_KEYS])


def rows_to_fit(lake: Lake, detector: Detector, window: Window, drawn: Set[str] | None) -> pa.Table:
    """The rows of its query of the keys that are drawn (`keys_to_fit`)."""
    return _of_keys(lake.table(detector.sql, **_values(detector, window)), drawn)


def fitted_to(detector: Detector, rows: pa.Table) -> Any:
    """Its model of `rows`, which are as of `rows_to_fit`, in whatever order."""
    kind = KINDS[detector.kind]
    assert kind is not None
    in_order = rows.sort_by([(name, "ascending") for name in rows.column_names[:2]])
    return kind.fit(kind.read(in_order), detector.params)


def _of_keys(rows: pa.Table, key_ids: Set[str] | None) -> pa.Table:
    import pyarrow.compute as pc

    if key_ids is None:
        return rows
    return rows.filter(pc.is_in(rows["key_id"], pa.array(sorted(key_ids), pa.string())))


def _values(detector: Detector, window: Window) -> dict[str, object]:
    """The values of the query's ``$names``."""
    given: dict[str, object] = {"start": window.start, "end": window.end, **detector.params}
    return {name: given[name] for name in detector.parameters}


def _add(lake: Lake, detector: Detector, rows: str, parameters: Mapping[str, object]) -> None:
    # By name: `subject`, `due_on` and `rotate` are given by some detectors only.
    contract = ", ".join(f"{name}::{kind} AS {name}" for name, kind in _CONTRACT.items())
    lake.execute(
        f"INSERT INTO evidence BY NAME SELECT * REPLACE ({contract}), $detector_id AS detector, "
        "$detector_family AS family, $detector_hygiene AS hygiene, $detector_status AS status "
        f"FROM {rows} WHERE abs(bits) > $least_bits ORDER BY ALL",
        **parameters,
        detector_id=detector.id,
        detector_family=detector.family,
        detector_hygiene=detector.hygiene,
        detector_status=detector.status,
        least_bits=_LEAST_BITS,
    )


def check(detector: Detector) -> list[str]:
    """What is wrong with a detector's folder, a sentence each; empty when nothing is."""
    wrong = []
    for name, value, allowed in (
        ("kind", detector.kind, tuple(KINDS)),
        ("family", detector.family, get_args(Family)),
        ("grain", detector.grain, GRAINS),
        ("status", detector.status, get_args(Status)),
        ("history", detector.history, HISTORIES),
    ):
        if value not in allowed:
            wrong.append(f"{name} is {value!r}; allowed are {', '.join(allowed)}")
    if not TECHNIQUE.fullmatch(detector.technique):
        wrong.append(f"technique is {detector.technique!r}; an ATT&CK id such as T1078.004")
    wrong += _check_roles(detector) + _check_facts(detector)
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
    if len(test_files(detector.folder)) < 2:
        wrong.append("tests/ needs at least one positive and one negative test")
    return wrong + _check_columns(detector)


def test_files(folder: Path) -> list[Path]:
    """The tests in a detector's folder, by name; also those in ``cases/``, its earlier name."""
    return sorted(
        (file for name in ("tests", "cases") for file in (folder / name).glob("*.toml")),
        key=lambda file: file.name,
    )


def _check_roles(detector: Detector) -> list[str]:
    """What is wrong with the fields that say how its evidence is used."""
    wrong = []
    flags = ("hygiene", "backstop", "speaks_of_moves")
    for name in (*flags, "needs_other_visits"):
        value = getattr(detector, name)
        if not isinstance(value, bool):
            wrong.append(f"{name} is {value!r}; true or false is expected")
    question: object = detector.question
    if not isinstance(question, str) or not question.strip():
        wrong.append(
            f"question is {question!r}; use a string shared by detectors of the same question"
        )
    kinds = get_args(GroupKind)
    if detector.groups_as not in (None, *kinds):
        wrong.append(f"groups_as is {detector.groups_as!r}; allowed are {', '.join(kinds)}")
    if detector.groups_as is not None and detector.grain != "visit":
        wrong.append(f"groups_as needs grain = 'visit', which has a place; here {detector.grain!r}")
    roles = [name for name in flags if getattr(detector, name) is True]
    if len(roles) > 1:
        wrong.append(f"{' and '.join(roles)} exclude each other: only one can be true")
    if detector.backstop is True and detector.certain_bits is not None:
        wrong.append("backstop and certain_bits exclude each other: a rule is not a fact")
    return wrong


def _check_facts(detector: Detector) -> list[str]:
    """What is wrong with `certain_bits` and the `action` of such evidence."""
    bits, action = detector.certain_bits, detector.action
    if bits is None and action is None:
        return []
    if bits is None or action is None:
        there, missing = ("action", "certain_bits") if bits is None else ("certain_bits", "action")
        return [f"{there} needs {missing}: from how many bits evidence is certain, and what then"]
    wrong = []
    # TOML's true is a number to Python.
    if isinstance(bits, bool) or not isinstance(bits, int | float) or bits <= 0:
        wrong.append(f"certain_bits is {bits!r}; a number above 0 is expected")
    if action not in FACT_ACTIONS:
        wrong.append(f"action is {action!r}; allowed are {', '.join(FACT_ACTIONS)}")
    if detector.hygiene:
        wrong.append("hygiene and action exclude each other: key hygiene is never urgent")
    return wrong


def _check_columns(detector: Detector) -> list[str]:
    lake = _without_events()
    try:
        run(lake, detector, _NO_EVENTS)
    except DetectorError as e:
        return [str(e)]
    given = lake.table(detector.sql, **_values(detector, _NO_EVENTS)).column_names
    if detector.groups_as == "campaign" and "subject" not in given:
        return ["detect.sql gives no subject, the address or prefix that a campaign's keys share"]
    return []


@cache
def _without_events() -> Lake:
    """A prepared lake that has no events: only whether a query runs on it is of interest."""
    lake = Lake.in_memory()
    prepare(lake, _NO_EVENTS, 90, [])
    return lake


def _without_comments(sql: str) -> str:
    return re.sub(r"--[^\n]*", "", sql)


__all__ = [
    "ContentError",
    "Detector",
    "check",
    "load_detector",
    "load_detectors",
    "prepare",
    "prepare_keys",
    "prepare_span",
    "prepare_window",
    "run",
]
