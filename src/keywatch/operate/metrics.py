"""Figures for Prometheus: a file for node_exporter's textfile collector, written whole.

Each is a gauge as of the run that wrote it. What is not known (no event yet, no review) is left
out: a 0 would be a time in 1970.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from keywatch import __version__, deliver
from keywatch.lake import Lake
from keywatch.lake.weeks import last_event
from keywatch.model import ACTIONS, HEALTH_CHECKS, HealthFinding
from keywatch.operate.health import ip_data
from keywatch.report.output import write_whole
from keywatch.review import alerts
from keywatch.review.making import WATCH
from keywatch.review.watch import hours_run
from keywatch.settings import Settings

_FOR_EVERYBODY = 0o644
"""Counts and times, no key: the collector runs as a user of its own."""


def write_metrics(
    lake: Lake, settings: Settings, findings: Sequence[HealthFinding], now: datetime
) -> None:
    """Write the figures as of `now` (naive, UTC) into the settings' file, where it names one.

    Raises:
        LakeError: the lake can't be read.
        UsageError: the file can't be written.
    """
    if settings.metrics.file is not None:
        text = metrics_text(lake, settings, findings, now)
        write_whole(settings.metrics.file, text, _FOR_EVERYBODY)


def metrics_text(
    lake: Lake, settings: Settings, findings: Sequence[HealthFinding], now: datetime
) -> str:
    """The figures in Prometheus' text format; every check and action has its line, with 0 too."""
    figures = _Figures()
    figures.add("info", "Version that wrote these metrics.", "version", {__version__: 1})
    figures.add_one("checked_timestamp_seconds", "Time of these metrics.", _seconds(now))
    _add_lake(figures, lake, now)
    standings = deliver.standings(lake, settings.deliver.channels)
    figures.add(
        "outbox_waiting", "Messages not sent yet.", "channel",
        {each.channel: each.waiting for each in standings},
    )  # fmt: skip
    figures.add(
        "outbox_dead", "Messages given up.", "channel",
        {each.channel: each.dead for each in standings},
    )  # fmt: skip
    open_alerts = Counter(alert.action for alert in alerts.not_over(lake))
    figures.add(
        "alerts", "Open alerts.", "action",
        {action: open_alerts[action] for action in ACTIONS if action != "none"},
    )  # fmt: skip
    figures.add(
        "address_data_built_timestamp_seconds",
        "Build time of the address databases.", "database",
        {name: _seconds(built_on) for name, built_on in ip_data(lake).items()},
    )  # fmt: skip
    found = Counter(one.check for one in findings if not one.is_note)
    figures.add(
        "health_findings", "Health findings of keywatch doctor, without notes.", "check",
        {check: found[check] for check in HEALTH_CHECKS},
    )  # fmt: skip
    return figures.text()


class _Figures:
    """Gauges that begin with ``keywatch_``."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()

    def add(self, name: str, words: str, label: str, values: Mapping[str, float]) -> None:
        gauge = Gauge(f"keywatch_{name}", words, [label], registry=self._registry)
        for value_of, value in values.items():
            gauge.labels(value_of).set(value)

    def add_one(self, name: str, words: str, value: float | None) -> None:
        if value is not None:
            Gauge(f"keywatch_{name}", words, registry=self._registry).set(value)

    def text(self) -> str:
        return generate_latest(self._registry).decode("utf-8")


def _add_lake(figures: _Figures, lake: Lake, now: datetime) -> None:
    events, rejected, loaded_at, reviewed_at, weeks = lake.rows(
        """
        SELECT (SELECT coalesce(sum(events), 0)::BIGINT FROM lake.activity),
            (SELECT count(*) FROM lake.rejects),
            (SELECT max(loaded_at) FROM lake.ingested_files),
            (SELECT max(made_at) FROM lake.runs WHERE NOT ends_with(run_id, $watch)),
            (SELECT count(DISTINCT window_start) FROM lake.review_queue)
        """,
        watch=WATCH,
    )[0]
    hours = hours_run(lake)
    times = {
        "last_event": ("Last event of the log.", last_event(lake, now)),
        "last_load": ("Last load of a file.", loaded_at),
        "last_review": ("Last stored review.", reviewed_at),
        "last_watch": ("Hour of the last run of keywatch watch.", hours[-1] if hours else None),
    }
    for name, (words, at) in times.items():
        figures.add_one(f"{name}_timestamp_seconds", words, at and _seconds(at))
    figures.add_one("events", "Events of keys in the lake.", events)
    figures.add_one("rejected_lines", "Log lines rejected as unreadable.", rejected)
    figures.add_one("weeks_to_judge", "Weeks with lines not scored yet.", weeks)


def _seconds(at: date) -> float:
    moment = at if isinstance(at, datetime) else datetime.combine(at, time())
    return (moment - datetime(1970, 1, 1)).total_seconds()
