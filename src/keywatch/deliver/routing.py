"""Which action, and whose upkeep, goes to which channel, and when it waits."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from keywatch.deliver_settings import DeliverSettings, QuietHours
from keywatch.model import SEVERITIES, Action, HygieneFinding, Severity


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
    """When the quiet hours end in which `now` lies; None outside them. Both naive UTC."""
    if quiet is None or quiet.start == quiet.end:
        return None
    zone = ZoneInfo(quiet.time_zone)
    local = now.replace(tzinfo=UTC).astimezone(zone)
    for days in (-1, 0):  # over midnight, they may have begun yesterday
        day = local.date() + timedelta(days=days)
        over_midnight = timedelta(days=int(quiet.end <= quiet.start))
        start = datetime.combine(day, quiet.start, zone)
        end = datetime.combine(day + over_midnight, quiet.end, zone)
        if start <= local < end:
            return end.astimezone(UTC).replace(tzinfo=None)
    return None
