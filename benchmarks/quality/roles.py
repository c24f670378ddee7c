"""A theft of a role's session beside the same theft of a long-lived key.

    python -m benchmarks.quality.roles [--keys 200] [--weeks 9] [--seeds 11 12]

A made world's log is written twice as CloudTrail: once each key is an IAM user's access key
(AKIA…), once each is a role, whose credentials (ASIA…) are new every hour. Nothing else differs, so
the review of the last week should name the same thefts with the same action. The thief uses the
credentials of the hour, as one does who reads them again and again from the workload. Prints both
reviews side by side, and the cases that differ.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.quality.bases import Scored, named, scored_case
from benchmarks.quality.measures import share
from benchmarks.quality.worlds import World
from keywatch import pipeline
from keywatch.content import content_path
from keywatch.model import Window
from keywatch.settings import Settings

ACCOUNT = "111122223333"
_ERRORS = {401: "InvalidClientTokenId", 403: "AccessDenied", 404: "ResourceNotFoundException",
           429: "ThrottlingException"}  # fmt: skip

Identity = Callable[[str, str], dict[str, Any]]
"""Key and time of a request to CloudTrail's ``userIdentity``."""


def long_lived(key_id: str, _: str) -> dict[str, Any]:
    """The key as an IAM user's."""
    return {
        "type": "IAMUser", "accessKeyId": _credential("AKIA", key_id),
        "arn": f"arn:aws:iam::{ACCOUNT}:user/{key_id}",
    }  # fmt: skip


def session(key_id: str, time: str) -> dict[str, Any]:
    """The key as a role, by the session of the hour."""
    hour = time[:13]
    return {
        "type": "AssumedRole", "accessKeyId": _credential("ASIA", key_id, hour),
        "arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/{key_id}/{_digest(key_id, hour)[:17]}",
        "sessionContext": {"sessionIssuer": {"type": "Role", "arn": _role(key_id)}},
    }  # fmt: skip


IDENTITIES: Mapping[str, tuple[Identity, Callable[[str], str]]] = {
    "long-lived keys": (long_lived, lambda key_id: _credential("AKIA", key_id)),
    "roles": (session, lambda key_id: _role(key_id)),
}
"""How the log names who calls, and by what id history is kept."""


def _role(key_id: str) -> str:
    return f"arn:aws:iam::{ACCOUNT}:role/{key_id}"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest().upper()


def _credential(begins: str, *parts: str) -> str:
    return begins + _digest(begins, *parts)[:16]


def calls() -> dict[str, tuple[str, str]]:
    """By endpoint of the sample's API a service and call of AWS that are as sensitive."""
    of_aws: dict[str, list[str]] = {}
    for entry in _endpoints("aws"):
        of_aws.setdefault(entry["sensitivity"], []).append(entry["template"])
    found: dict[str, tuple[str, str]] = {}
    for entry in _endpoints("pulsely"):
        endpoint = f"{entry['method']} {entry['template']}"
        if entry["sensitivity"] == "none":
            name = "".join(part.title() for part in endpoint.replace("{id}", "one").split("/"))
            found[endpoint] = ("app", "".join(filter(str.isalnum, name)))
        else:
            service, _, call = of_aws[entry["sensitivity"]].pop(0).partition(":")
            found[endpoint] = (service, call)
    return found


def _endpoints(vendor: str) -> list[dict[str, Any]]:
    text = content_path(f"vendors/{vendor}/catalogue.toml").read_text(encoding="utf-8")
    entries: list[dict[str, Any]] = tomllib.loads(text)["endpoints"]
    return entries


def write_trail(world: World, identity: Identity, file: Path) -> None:
    """The world's log as CloudTrail's records, one a line, gzip."""
    names = calls()
    with gzip.open(file, "wt", encoding="utf-8", compresslevel=1) as out:
        for event in _events(world):
            endpoint, object_ = _templated(event["method"], event["endpoint"])
            service, call = names.get(endpoint, ("app", "Other"))
            record = {
                "eventVersion": "1.09", "eventTime": event["timestamp"],
                "eventID": event["request_id"], "eventSource": f"{service}.amazonaws.com",
                "eventName": call, "awsRegion": "eu-central-1", "sourceIPAddress": event["ip"],
                "userAgent": event["user_agent"],
                "userIdentity": identity(event["key_id"], event["timestamp"]),
            }  # fmt: skip
            if object_:
                record["resources"] = [{"ARN": object_}]
            if (status := event["status"]) >= 400:
                record["errorCode"] = _ERRORS.get(status, "InternalFailure")
            if (size := event.get("response_bytes")) is not None:
                record["additionalEventData"] = {"bytesTransferredOut": size}
            out.write(json.dumps(record) + "\n")


def _events(world: World) -> Iterator[dict[str, Any]]:
    for file in sorted((world.folder / "logs").iterdir()):
        opened = gzip.open if file.suffix == ".gz" else open
        with opened(file, "rt", encoding="utf-8") as lines:
            yield from map(json.loads, lines)


def _templated(method: str, path: str) -> tuple[str, str]:
    """The endpoint of a request to the sample's API, and the id in its path."""
    segments = path.partition("?")[0].split("/")
    ids = [n for n, segment in enumerate(segments) if any(map(str.isdigit, segment)) and n > 1]
    object_ = "/".join(segments[n] for n in ids)
    for n in ids:
        segments[n] = "{id}"
    return f"{method} {'/'.join(segments)}", object_


@dataclass(frozen=True)
class Reviewed:
    """A review of the world's last week, its cases by the world's own key ids."""

    events: int
    cases: dict[str, Scored]

    def named(self, keys: set[str]) -> set[str]:
        """Of these keys, those to revoke or to investigate."""
        return keys & named(self.cases.values())

    def action(self, key: str) -> str:
        return self.cases[key]["action"] if key in self.cases else "none"

    def bits(self, key: str) -> float:
        return self.cases[key]["bits"] if key in self.cases else 0.0


def review(world: World, name: str, settings: Settings) -> Reviewed:
    """Load the world in one of the `IDENTITIES` and review its last week."""
    identity, principal = IDENTITIES[name]
    with tempfile.TemporaryDirectory(prefix="keywatch-roles-") as scratch:
        folder = Path(scratch)
        write_trail(world, identity, folder / "trail.json.gz")
        inventory = folder / "inventory.jsonl"
        rows = [
            json.loads(line)
            for line in (world.folder / "inventory.jsonl").read_text("utf-8").splitlines()
        ]
        ids = {row["key_id"]: principal(row["key_id"]) for row in rows}
        with inventory.open("w", encoding="utf-8") as out:
            for row in rows:
                replaces = ids.get(row.get("replaces"))
                row |= {"key_id": ids[row["key_id"]], "key": ids[row["key_id"]], "scopes": None}
                out.write(json.dumps(row | {"replaces": replaces}) + "\n")
        loaded = pipeline.ingest(folder / "lake", [str(folder / "trail.json.gz")], settings)
        pipeline.import_keys(folder / "lake", inventory, settings)
        window = Window(world.review_start, world.end)
        answer = pipeline.review(folder / "lake", window, settings, keep=False, whole=True)
    own = {id_: key for key, id_ in ids.items()}
    found = [scored_case(case) for case in answer.cases]
    for case in found:
        case["key_id"] = own[case["key_id"]]
    cases = {case["key_id"]: case for case in found}
    return Reviewed(loaded.total("events"), cases)


def report(world: World, settings: Settings) -> list[str]:
    """Both reviews of a world side by side, and what differs."""
    keys, roles = (review(world, name, settings) for name in IDENTITIES)
    stolen = set(world.truth.index[world.truth.stolen])
    innocent = set(world.truth.index) - stolen
    lines = [f"seed {world.seed}: {len(stolen)} thefts, {keys.events:,} requests"]
    for name, found in zip(IDENTITIES, (keys, roles), strict=True):
        revoked = [key for key in stolen if found.action(key) == "revoke"]
        lines.append(
            f"  {name:16} named {len(found.named(stolen))}, to revoke {len(revoked)}; "
            f"innocent named {len(found.named(innocent))}"
        )
    lines.append(
        f"  thefts named of roles beside those of keys: "
        f"{share(len(roles.named(stolen)), len(keys.named(stolen))):.2f}"
    )
    for key in sorted(stolen | innocent):
        if keys.action(key) != roles.action(key):
            side = "stolen" if key in stolen else "innocent"
            lines.append(
                f"  {side} {key}: key {keys.action(key)} ({keys.bits(key):.1f} bits), "
                f"role {roles.action(key)} ({roles.bits(key):.1f} bits)"
            )
    return lines


def main() -> None:
    """Print a report of each world."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.roles")
    parser.add_argument("--keys", type=int, default=200)
    parser.add_argument("--weeks", type=int, default=9)
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12])
    given = parser.parse_args()
    for seed in given.seeds:
        world = World(seed, given.keys, given.weeks)
        print("\n".join(report(world, Settings().without_power())), flush=True)


if __name__ == "__main__":
    main()
