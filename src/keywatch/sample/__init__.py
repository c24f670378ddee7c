"""Made worlds: audit logs with stolen keys in them, the inventory, and the truth.

Teams own the keys; they have offices, clouds, homes and objects of their own, in real networks.
Each key is used by one of twelve habits, a few by two consumers. To these happen, in every week
alike and so in the review week too:

- harmless oddities (`ODDITIES`), as often as a team of some hundred engineers has them: lines,
  offices, clouds and VPN exits change for a key, an owner or all in a region; staff travel, take
  up a VPN, try a service's key by hand; contractors and second consumers come; agents, endpoints
  and volumes change; lines come late or twice; keys are new, rotated, revoked and still used.
  Some bring a second one on the same key, as a migration brings a new agent.
- in the review week, or where they are planned, thefts (`LOUDNESS`). A thief has the key, the
  documentation, what the API answers, and at times the program that leaked with the key, which
  some run as it is; else never the owner's routines, panel of objects or hours. The way in (rented
  machine, home line, VPN, the owner's own provider), the agent, the days and the kind of deed are
  drawn independently, so that each family of evidence fails for some thefts. Some victims are
  young, have an oddity in that week, or new addresses all the time.

Owners and thieves are written by the same code: only behaviour tells them apart. `truth.jsonl`
says for each key its theft, if any, with days (UTC) and addresses, and its oddities: kind, `start`,
`end` (null: for good), and `in_review_week` (it begins in that week, or is passing and lasts into
it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from . import world, write
from .oddities import KINDS as ODDITIES
from .thefts import LOUDNESS, Planned

__all__ = ["LOUDNESS", "ODDITIES", "Planned", "World", "generate"]

DEFAULT_END = date(2026, 10, 5)
LEAST_KEYS, LEAST_WEEKS, MOST_WEEKS = 2, 2, 1000
"""What a world can be made of."""


def can_be_made(keys: int, weeks: int, seed: int) -> bool:
    """Whether there is a world of so many keys and weeks, by this seed."""
    return keys >= LEAST_KEYS and LEAST_WEEKS <= weeks <= MOST_WEEKS and seed >= 0


@dataclass(frozen=True)
class World:
    """Where a made world lies and how much there is of it.

    `events` counts log lines, those written twice included; `theft_events` distinct requests.
    The review week is [`review_start`, `end`).
    """

    out: Path
    logs: tuple[Path, ...]
    inventory: Path
    truth: Path
    keys: int
    events: int
    stolen_keys: int
    theft_events: int
    start: date
    review_start: date
    end: date


def generate(
    out: Path,
    *,
    keys: int = 200,
    weeks: int = 9,
    seed: int = 1,
    thefts: int | Sequence[Planned] | None = None,
    events_per_key_day: float | None = None,
    end: date = DEFAULT_END,
    compress: str = "gz",
    geoip_dir: Path | None = None,
) -> World:
    """Make a world and write it under `out`: `logs/YYYY-MM-DD.jsonl…`, inventory and truth.

    The same arguments give the same bytes before compression. The last 7 days before `end` are
    the review week: all thefts lie in it. `thefts` is the number of stolen keys (None: about
    36 in 1,000, in small worlds up to one of each kind), or those that are planned, of which each
    lies in its own week; one that fits no key does not happen. With `geoip_dir`, the networks the
    addresses are taken from are first compared with the databases there.
    ValueError for numbers that make no world; LookupError when the databases disagree.
    """
    if not can_be_made(keys, weeks, seed) or (isinstance(thefts, int) and not 0 <= thefts <= keys):
        raise ValueError(
            f"a world has {LEAST_KEYS} keys or more, {LEAST_WEEKS} to {MOST_WEEKS} weeks, a seed "
            "of 0 or more, and 0 to `keys` thefts"
        )
    if geoip_dir is not None:
        from .make_networks import compare_networks

        compare_networks(geoip_dir)
    made = world.make(
        keys=keys,
        weeks=weeks,
        seed=seed,
        thefts_wanted=world.default_thefts(keys) if thefts is None else thefts,
        end=end,
        events_per_key_day=events_per_key_day or world.EVENTS_PER_KEY_DAY,
    )
    logs, events = write.write_world(made, out, compress)
    return World(
        out=out,
        logs=tuple(logs),
        inventory=out / "inventory.jsonl",
        truth=out / "truth.jsonl",
        keys=len(made.keys),
        events=events,
        stolen_keys=len(made.thefts),
        theft_events=sum(len(batch) for batch in made.stolen),
        start=end - timedelta(weeks=weeks),
        review_start=end - timedelta(days=world.REVIEW_DAYS),
        end=end,
    )
