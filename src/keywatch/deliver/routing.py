"""Which action goes to which channel, from what severity, and when it waits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from keywatch.deliver_settings import DeliverSettings, QuietHours
from keywatch.model import SEVERITIES, Action, Severity


def channels_for(settings: DeliverSettings, action: Action, severity: Severity) -> list[str]:
    """The channels that the routes name for such an alert, in the settings' order.

    Those that wait for an analyst's approval are never among them.
    """
    if not settings.routes:
        return [name for name in settings.channels if name not in settings.approved_channels]
    named = {
        name
        for route in settings.routes
        if action in route.actions
        and SEVERITIES.index(severity) <= SEVERITIES.index(route.severity)
        for name in route.channels
    }
    return [name for name in settings.channels if name in named]


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
