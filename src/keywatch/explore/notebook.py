"""The lake for notebooks: weeks, cases, keys and SQL, read-only.

    import keywatch

    lake = keywatch.open("lake")
    week = lake.week("2026-W40")
    week.cases()
    key = lake.key("key_0700353")
    key.timeline_chart()
    lake.sql("SELECT count(*) FROM lake.events WHERE key_id = $key", key="key_0700353")

Tables are pandas data frames, or ``frames="arrow"`` or ``"polars"``. Each call opens the lake,
reads one snapshot and closes it, so writers never wait; the data of a week and a key do not change
after they were read. Text in tables is as it was logged and was chosen by the caller of the API: do
not run or trust it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from keywatch import pipeline
from keywatch.errors import UsageError
from keywatch.explore.address import AddressView
from keywatch.explore.common import NEWEST_RUNS
from keywatch.explore.key import KeyView, key_id_of
from keywatch.explore.lessons import LessonsView
from keywatch.explore.rule import Rule, RuleView
from keywatch.explore.week import WeekView
from keywatch.hints import to_install
from keywatch.lake import Lake, utc_now, weeks
from keywatch.model import Response, Review, Window
from keywatch.review import response
from keywatch.text.phrases import iso_week, minute

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from keywatch.explore.common import Frame
    from keywatch.explore.workbench import DetectorView
    from keywatch.model import Verdict
    from keywatch.review.verdicts import VerdictReport
    from keywatch.settings import Settings

Frames = Literal["pandas", "arrow", "polars"]

__all__ = ["Frames", "KeyView", "LakeView", "VerdictLake", "WeekView"]

_MOST_SHOWN = 20


class LakeView:
    """A read-only lake, opened by `keywatch.open`.

    Raises:
        LakeError: there is no lake in `folder`.
        UsageError: `frames` is not one of the kinds above.
    """

    def __init__(self, folder: Path, settings: Settings, frames: Frames = "pandas") -> None:
        if frames not in get_args(Frames):
            raise UsageError(f"frames={frames!r}: available: {', '.join(get_args(Frames))}")
        if frames != "arrow" and find_spec(frames) is None:
            raise UsageError(
                f"frames={frames!r} needs {frames}: {to_install('notebooks')}, or use "
                "frames='arrow'"
            )
        self.folder = folder
        self.frames: Frames = frames
        self._settings = settings
        self._open: Lake | None = None
        with self._reading():
            pass

    def __repr__(self) -> str:
        return f"keywatch.open({str(self.folder)!r}, frames={self.frames!r})"

    def _repr_html_(self) -> str:
        from keywatch.report.html import render_card

        with self._reading() as lake:
            events, first, last, keys = lake.rows(
                "SELECT coalesce(sum(events), 0)::BIGINT, min(first_ts), max(last_ts), "
                "count(DISTINCT key_id) FROM lake.activity"
            )[0]
            weeks = _weeks(lake).to_pylist()
        facts = [
            ("requests", f"{events:,}"),
            ("keys", f"{keys:,}"),
            ("from", minute(first) if first else "–"),
            ("to", minute(last) if last else "–"),
        ]
        return render_card(
            "lake",
            folder=str(self.folder),
            facts=facts,
            weeks=weeks[:_MOST_SHOWN],
            attribution=Review.attribution,
        )

    @contextmanager
    def one_snapshot(self) -> Iterator[None]:
        """All that is asked in the block is of one snapshot; the lake is opened once for it.

        Without it each answer is as of when it was asked. Not for more than one thread.
        """
        with self._reading() as self._open:
            try:
                yield
            finally:
                self._open = None

    @contextmanager
    def _reading(self) -> Iterator[Lake]:
        """A read-only snapshot."""
        if self._open is not None:
            yield self._open
            return
        with Lake.open(self.folder, self._settings.storage) as lake:
            yield lake.look()

    def _frame(self, table: pa.Table) -> Frame:
        return _frame(table, self.frames)

    def _key(self, key: str, window: Window) -> KeyView:
        with self._reading() as lake:
            return self._key_of(lake, key, window)

    def _key_of(self, lake: Lake, key: str, window: Window) -> KeyView:
        days = self._settings.review.baseline_days
        return KeyView(lake, self._frame, self.sql, key_id_of(lake, key), window, days)

    def with_frames(self, frames: Frames) -> LakeView:
        """The same lake, with tables of another kind (``pandas``, ``arrow`` or ``polars``)."""
        return LakeView(self.folder, self._settings, frames)

    def sql(self, query: str, **given: object) -> Frame:
        """The rows of a query over the tables ``lake.…`` (see ``lake/schema.sql``).

        Keyword arguments are values for its ``$names`` (text, numbers, dates, lists of these), or
        tables that it reads by name: data frames of pandas or Polars, or Arrow tables.

            lake.sql("SELECT owner, count(*) FROM cases GROUP BY ALL", cases=lake.cases())

        Raises:
            UsageError: it is not one SELECT, or uses a function that reads outside the tables.
            duckdb.Error: the query is wrong.
        """
        tables = {
            name: table for name, value in given.items() if (table := _arrow(value)) is not None
        }
        parameters = {name: value for name, value in given.items() if name not in tables}
        with self._reading() as lake, ExitStack() as registered:
            for name, table in tables.items():
                registered.enter_context(lake.registered(name, table))
            return self._frame(lake.select(query, **parameters))

    def tables(self) -> Frame:
        """The lake's tables and their columns."""
        return self.sql(
            "SELECT table_name, column_name, data_type FROM duckdb_columns() "
            "WHERE database_name = 'lake' AND schema_name = 'main' "
            "ORDER BY table_name, column_index"
        )

    def weeks(self) -> Frame:
        """The reviewed windows, latest first, with the counts of their latest run."""
        with self._reading() as lake:
            return self._frame(_weeks(lake))

    def week(self, week: str | None = None) -> WeekView:
        """A reviewed week such as ``2026-W40``; by default the latest reviewed window.

        Raises:
            UsageError: the week does not exist or was not reviewed.
        """
        with self._reading() as lake:
            window = weeks.week_window(week) if week else None
            return WeekView(lake, self._frame, window, self.folder, self._key)

    def cases(self) -> Frame:
        """The cases of the latest reviewed window; see `WeekView.cases`."""
        return self.week().cases()

    def new_networks(self, week: str | None = None) -> Frame:
        """Networks that were new to a key in a reviewed week; see `WeekView.new_networks`."""
        return self.week(week).new_networks()

    def alerts(self) -> Frame:
        """The alerts that are not closed, the most urgent first: who works on each, since when.

        `response` has the figures: times to detect and to close, and how often alerts were thefts.
        """
        import pyarrow as pa

        text = ("alert_id", "kind", "action", "severity", "state", "story", "assignee", "comment")
        texts = ("key_ids", "names")
        columns = [(name, pa.string()) for name in text]
        columns += [(name, pa.list_(pa.string())) for name in texts]
        columns += [("opened_at", pa.timestamp("us")), ("week", pa.string())]
        rows = [
            {name: getattr(one, name) for name in (*text, *texts, "opened_at")}
            | {"week": iso_week(one.window)}
            for one in self.response().open
        ]
        return self._frame(pa.Table.from_pylist(rows, schema=pa.schema(columns)))

    def response(self) -> Response:
        """The alerts that are not closed, and how fast and how rightly alerts are answered."""
        with self._reading() as lake:
            return response.response(lake, utc_now())

    def keys(self) -> Frame:
        """Every key in the inventory and the log, with the first and last day of its use."""
        return self.sql(
            """
            WITH seen AS (
                SELECT key_id, min(day) AS first_day, max(day) AS last_day,
                    sum(events)::BIGINT AS requests
                FROM lake.activity GROUP BY key_id
            )

            SELECT key_id, i.name, i.owner, i.environment, i.scopes, i.created_at, i.expires_at,
                i.revoked_at, i.replaces, s.first_day, s.last_day,
                coalesce(s.requests, 0)::BIGINT AS requests
            FROM inventory_in_force() AS i
            FULL JOIN seen AS s USING (key_id)
            ORDER BY key_id
            """
        )

    def key(self, key: str, week: str | None = None) -> KeyView:
        """One key, by its id, masked form or name, in a week and the baseline before it.

        The default is the latest reviewed window, otherwise the last full week of the lake.

        Raises:
            UsageError: no key, or several keys, have this name; or the week does not exist.
        """
        with self._reading() as lake:
            return self._key_of(lake, key, _window_of(lake, week))

    def address(self, place: str | None = None, week: str | None = None) -> AddressView:
        """Which keys were used from an address, and which of them are cases.

        `place` is an address, a prefix (``192.0.2.0/24``, of any length) or a network
        (``AS64496``); by default the prefix of the most suspicious case, otherwise of the most
        requests. The default week is that of `key`.

        Raises:
            UsageError: `place` is none of these, or the week does not exist.
        """
        with self._reading() as lake:
            days = self._settings.review.baseline_days
            return AddressView(lake, self._frame, place, _window_of(lake, week), days)

    def rule(
        self,
        classes: str | Iterable[str] = (),
        *,
        countries: str | Iterable[str] = (),
        networks: str | Iterable[str] = (),
        new: bool = False,
        week: str | None = None,
    ) -> RuleView:
        """The keys that a rule on networks would alert on, beside Keywatch's own cases.

        The rule hits a request whose network is of one of the `classes` (hosting, vpn, proxy, tor,
        relay, isp, unknown), in one of the `countries` (two letters) and one of the `networks`
        (``AS64496``); an empty list is no condition. With `new`, only networks that the key had
        never used before, in all of the lake. The default week is that of `key`.

        Raises:
            UsageError: the rule has no condition, a class or the week does not exist.
        """
        rule = Rule.of(classes, countries, networks, new)
        with self._reading() as lake:
            days = self._settings.review.baseline_days
            return RuleView(lake, self._frame, rule, _window_of(lake, week), days)

    def lessons(self, month: str | None = None) -> LessonsView:
        """What the verdicts of a month taught: thefts, false alarms, and which evidence was wrong.

        `month` is that in which they were given (UTC), such as ``2026-09``; by default the latest
        with a verdict.

        Raises:
            UsageError: it is not a month.
        """
        with self._reading() as lake:
            return LessonsView(lake, self._frame, month)

    def detectors(self) -> Frame:
        """The detectors: id, family, grain, status, hygiene, title, history."""
        import pyarrow as pa

        from keywatch.detect.detectors import load_detectors

        names = ("id", "family", "grain", "status", "hygiene", "title", "history")
        found = load_detectors(self._settings.content.folders)
        rows = [{name: getattr(one, name) for name in names} for one in found]
        return self._frame(pa.Table.from_pylist(rows))

    def detector(self, name: str | Path, week: str | None = None) -> DetectorView:
        """A detector to try on a week, by its id or by the path of its folder.

        The default is the latest reviewed window, otherwise the last full week of the lake.

        Raises:
            UsageError: the detector or the week does not exist.
            DetectorError: its folder lacks a file or a field.
        """
        from keywatch.explore.workbench import DetectorView, detector_of

        found = detector_of(name, self._settings)
        with self._reading() as lake:
            window = _window_of(lake, week)
        return DetectorView(found, self.folder, window, self._settings, self._frame)


class VerdictLake(LakeView):
    """A lake that also records verdicts: ``keywatch.open(…, verdicts=True, by="ana")``.

    A verdict is one short transaction. It waits for another writer (`[storage] wait_seconds`).

    Raises:
        UsageError: `by` is empty.
    """

    def __init__(
        self, folder: Path, settings: Settings, by: str, frames: Frames = "pandas"
    ) -> None:
        if not by.strip():
            raise UsageError("verdicts=True needs by=…, the name recorded with verdicts")
        super().__init__(folder, settings, frames)
        self.by = by

    def __repr__(self) -> str:
        return f"keywatch.open({str(self.folder)!r}, frames={self.frames!r}, verdicts=True, by=…)"

    def with_frames(self, frames: Frames) -> VerdictLake:
        """The same lake, with tables of another kind (``pandas``, ``arrow`` or ``polars``)."""
        return VerdictLake(self.folder, self._settings, self.by, frames)

    def verdict(
        self,
        key: str,
        verdict: Verdict,
        because: str,
        *,
        until: date | None = None,
        week: str | None = None,
        origins: Iterable[str] = (),
        families: Iterable[str] = (),
    ) -> VerdictReport:
        """Record a verdict on a key, as ``keywatch verdict`` does; returns what it changed.

        The default week is that of the key's latest alert, otherwise the last reviewed one.
        `origins` (addresses, prefixes, networks) limit what the verdict is about; by default it is
        the flagged visits. `until` and `families` apply to *expected* only.

        Raises:
            UsageError: the key was not used there, the reason is missing, or `until` is too late.
            LakeError: another writer did not finish in time.
        """
        window = weeks.week_window(week) if week else None
        return pipeline.give_verdict(
            self.folder, key, verdict, self._settings, by=self.by, because=because, until=until,
            window=window, origins=origins, families=families,
        )  # fmt: skip

    def undo(self, key: str, because: str, *, week: str | None = None) -> VerdictReport:
        """Withdraw the latest verdict on a key; the one before it, if any, is in force again.

        The default is the week of the latest verdict. `KeyView.verdicts` keeps both.

        Raises:
            UsageError: no verdict on such a key is in force, or no reason is given.
            LakeError: another writer did not finish in time.
        """
        window = weeks.week_window(week) if week else None
        return pipeline.undo_verdict(
            self.folder, key, self._settings, by=self.by, because=because, window=window
        )

    def assign(self, alert: str, to: str) -> None:
        """Record who works on an open alert, named by its id or a key of it; empty: no one.

        Raises:
            UsageError: there is no such alert.
            LakeError: another writer did not finish in time.
        """
        pipeline.note_alert(self.folder, alert, self._settings, "assigned", to, by=self.by)

    def comment(self, alert: str, text: str) -> None:
        """Comment on an open alert, named as for `assign`.

        Raises:
            UsageError: there is no such alert, or the comment is empty.
            LakeError: another writer did not finish in time.
        """
        pipeline.note_alert(self.folder, alert, self._settings, "comment", text, by=self.by)

    def approve(self, alert: str, because: str) -> list[str]:
        """Approve the revocation of an open alert, as ``keywatch approve`` does.

        Raises:
            UsageError: there is no such alert to revoke, or no reason is given.
            LakeError: another writer did not finish in time.
        """
        return pipeline.decide_revocation(
            self.folder, alert, self._settings, approved=True, by=self.by, because=because
        )


def _frame(table: pa.Table, frames: Frames) -> Frame:
    if frames == "arrow":
        return table
    if frames == "pandas":
        frame: pd.DataFrame = table.to_pandas(date_as_object=False)
        return frame
    import polars as pl

    made = pl.from_arrow(table)
    assert isinstance(made, pl.DataFrame)
    return made


def _arrow(value: object) -> pa.Table | None:
    """A data frame as an Arrow table; None for other values."""
    import pyarrow as pa

    if isinstance(value, pa.Table):
        return value
    if hasattr(value, "to_arrow"):
        return value.to_arrow()
    if hasattr(value, "columns") and hasattr(value, "dtypes"):
        return pa.Table.from_pandas(value, preserve_index=False)
    return None


def _weeks(lake: Lake) -> pa.Table:
    import pyarrow as pa

    table = lake.table(
        f"""
        WITH runs AS ({NEWEST_RUNS})

        SELECT window_start AS start, window_end AS "end", run_id, made_at,
            (coverage ->> 'keys')::BIGINT AS keys, (coverage ->> 'assessed')::BIGINT AS assessed,
            count(*) FILTER (c.action = 'revoke') AS revoke,
            count(*) FILTER (c.action = 'rotate') AS rotate,
            count(*) FILTER (c.action = 'investigate') AS investigate
        FROM runs
        LEFT JOIN lake.cases AS c USING (run_id)
        GROUP BY ALL
        ORDER BY window_start DESC, window_end DESC
        """
    )
    windows = zip(table["start"].to_pylist(), table["end"].to_pylist(), strict=True)
    names = [iso_week(Window(start, end)) for start, end in windows]
    return table.add_column(0, "week", pa.array(names, pa.string()))


def _newest_window(lake: Lake) -> Window | None:
    rows = lake.rows(
        "SELECT window_start, window_end FROM lake.runs "
        "ORDER BY window_start > $now, window_start DESC, window_end DESC LIMIT 1",
        now=utc_now(),
    )
    return Window(*rows[0]) if rows else None


def _window_of(lake: Lake, week: str | None) -> Window:
    """The named week; otherwise the latest reviewed window, or the last full week of the lake."""
    window = weeks.week_window(week) if week else _newest_window(lake)
    return window or weeks.last_full_week(lake)
