"""Which action, and whose upkeep, goes to which channel, and when it waits."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from keywatch.model import SEVERITIES, Action, HygieneFinding, Severity
from keywatch.settings.deliver import DeliverSettings, QuietHours

LONGEST_WAIT = timedelta(hours=25)
"""No quiet hours, and no pause that a receiver may ask for, are longer: a day has 25 hours once."""


def channels_for(
    settings: DeliverSettings,
    action: Action,
    severity: Severity,
    owners: Collection[str | None],
) -> list[str]:
    """The channels that the routes name for such an alert, in the settings' order.

    `owners` are those of its keys, None for a key without one: a route is for the alert where it is
    for one of them. Channels that wait for an analyst's approval are never among them.
    """
    routes = [route for route in settings.routes if not route.upkeep]
    if not routes:
        return [name for name in settings.channels if name not in settings.approved_channels]
    named = {
        name
        for route in routes
        if action in route.actions
        and SEVERITIES.index(severity) <= SEVERITIES.index(route.severity)
        and any(route.is_for(owner) for owner in owners)
        for name in route.channels
    }
    return [name for name in settings.channels if name in named]


def upkeep_for(
    settings: DeliverSettings, findings: Sequence[HygieneFinding]
) -> dict[str, list[HygieneFinding]]:
    """What each channel that the routes name gets of the week's upkeep, in the settings' order."""
    found = {
        name: [
            finding
            for finding in findings
            if any(
                route.upkeep and name in route.channels and route.is_for(finding.owner)
                for route in settings.routes
            )
        ]
        for name in settings.channels
    }
    return {name: some for name, some in found.items() if some}


def held_until(quiet: QuietHours | None, now: datetime) -> datetime | None:
    """When the quiet hours end in which `now` lies; None outside them. Both naive UTC.

    Where a clock that is set back shows their start or end twice, they begin with the first and end
    with the second time.
    """
    if quiet is None or quiet.start == quiet.end:
        return None
    zone = ZoneInfo(quiet.time_zone)
    local = now.replace(tzinfo=UTC).astimezone(zone)
    for days in (-1, 0):  # over midnight, they may have begun yesterday
        day = local.date() + timedelta(days=days)
        over_midnight = timedelta(days=int(quiet.end <= quiet.start))
        start = min(_both_readings(datetime.combine(day, quiet.start, zone)))
        end = max(_both_readings(datetime.combine(day + over_midnight, quiet.end, zone)))
        if start <= now < end:
            return end
    return None


def _both_readings(local: datetime) -> list[datetime]:
    """The moment, naive UTC, before and after the clock is set, where it is set then."""
    return [local.replace(fold=fold).astimezone(UTC).replace(tzinfo=None) for fold in (0, 1)]
