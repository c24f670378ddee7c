"""Time zones by their IANA names."""

from __future__ import annotations

from zoneinfo import ZoneInfo


def is_time_zone(name: str) -> bool:
    """Whether `name` is a zone, such as ``Europe/Berlin`` or ``UTC``."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown; no name of a zone; a folder of zones
        return False
    return True
