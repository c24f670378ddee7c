"""`keywatch deliver` of many alerts to a webhook, beside bare posts of the same bodies.

`python -m benchmarks.deliver` puts alerts into the outbox of a new lake, sends them to a receiver
on the loopback (a process of its own) and then has a bare httpx client post what arrived once more;
each is a whole process. It also prints what keeping one outcome costs: a line of the journal, and a
commit of its own to the lake, which is what the journal stands in for.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

from keywatch.deliver import Outbox, outbox
from keywatch.deliver.journal import Journal, Record
from keywatch.lake import Lake, utc_now
from keywatch.model import BlastRadius, Case, Coverage, Evidence, Origin, Review, Run, Window
from keywatch.review import alerts
from keywatch.settings import load_settings

SECRET = "whsec_YSBiZW5jaG1hcmsncyBzaWduaW5nIHNlY3JldA=="
WEEK = Window(datetime(2026, 9, 28), datetime(2026, 10, 5))
BARE = """
import json, sys, time
import httpx
bodies = [line.encode() for line in open(sys.argv[1], encoding="ascii")]
with httpx.Client() as client:
    for body in bodies:
        client.post(sys.argv[2], content=body).raise_for_status()
"""


def review_of(count: int) -> Review:
    """A review that says of `count` keys to revoke them, each with three reasons."""
    seen = (datetime(2026, 10, 1, 3), datetime(2026, 10, 1, 4))
    origin = Origin("45.153.78.122", "45.153.78.0/24", 9009, "M247 Europe SRL", "RO", "hosting",
                    *seen, 412)  # fmt: skip
    evidence = tuple(
        Evidence(name, "origin", 9.5, "1 network on 64 days", "another network", f"{name} it is")
        for name in ("unfamiliar_origin", "anonymous_network", "unfamiliar_agent")
    )
    cases = tuple(
        Case(
            key_id=f"key_{n:06}", key="ply_live_prod_4f8a2c…9e1d", name=f"name {n}", owner="team-a",
            environment="prod", standing="assessed", action="revoke", bits=20 + n % 40,
            p_value=None, q_value=None, summary="three things are strange", origins=(origin,),
            evidence=evidence, blast_radius=BlastRadius(requests_suspicious=412), impact=None,
            steps=("Revoke it", "Replace it", "Switch its consumers"), events_query="",
        )
        for n in range(count)
    )  # fmt: skip
    coverage = Coverage(count, count, 0, 0, 0, 0, 0)
    return Review(WEEK, Run("run", 1, "settings", "version"), coverage, cases)


def receive(file: Path, port: Connection) -> None:
    """Answer every request, and keep what the first `keywatch deliver` sends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if "webhook-id" in self.headers:
                with file.open("ab") as out:
                    out.write(body + b"\n")
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    port.send(server.server_address[1])
    with suppress(KeyboardInterrupt):
        server.serve_forever()


def seconds_of(command: list[str], env: dict[str, str]) -> float:
    begun = time.perf_counter()
    subprocess.run(command, check=True, env=env, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def each_ms(act: Callable[[int], object], count: int) -> float:
    """The median of `count` calls, in milliseconds."""
    taken = []
    for n in range(count):
        begun = time.perf_counter()
        act(n)
        taken.append(1000 * (time.perf_counter() - begun))
    return statistics.median(taken)


def keep_costs(lake: Lake, folder: Path) -> tuple[float, float]:
    """Milliseconds of a line of the journal, and of a commit to the lake, for one outcome."""
    journal = Journal(folder)

    def outcome(n: int) -> Record:
        return Record(f"msg_{n}", utc_now(), "sent", 1)

    def commit(n: int) -> None:
        with lake.writing():
            outbox.record(lake, [outcome(n)])

    return each_ms(lambda n: journal.add(outcome(n)), 100), each_ms(commit, 20)


def main(count: int, folder: Path) -> int:
    spawn = get_context("spawn")
    here, there = spawn.Pipe()
    bodies = folder / "bodies.jsonl"
    receiver = spawn.Process(target=receive, args=(bodies, there), daemon=True)
    receiver.start()
    url = f"http://127.0.0.1:{here.recv()}"
    config = folder / "keywatch.toml"
    config.write_text(
        f'[deliver.channels.hook]\nkind = "webhook"\nurl = "{url}"\n'
        'secret = { env = "SIGNING" }\n',
        encoding="utf-8",
    )
    settings = load_settings(config).deliver
    with Lake.open(folder / "lake", create=True) as lake:
        review = review_of(count)
        begun = time.perf_counter()
        with lake.writing():
            Outbox(settings).tell(lake, alerts.update(lake, review, settings.grow_bits))
        put = time.perf_counter() - begun
        line_ms, commit_ms = keep_costs(lake, folder)
    env = os.environ | {"SIGNING": SECRET}
    command = [sys.executable, "-m", "keywatch", "deliver", "--lake", str(folder / "lake")]
    ours = seconds_of([*command, "--config", str(config)], env)
    idle = seconds_of([*command, "--config", str(config)], env)
    bare = seconds_of([sys.executable, "-c", BARE, str(bodies), url], env)
    arrived = {json.loads(line)["id"] for line in bodies.read_text("ascii").splitlines()}
    receiver.terminate()
    print(f"{count:,} alerts, {len(arrived):,} arrived")
    print(f"put into the outbox, in one transaction   {put:6.2f} s")
    print(f"keywatch deliver, whole process           {ours:6.2f} s")
    print(f"bare httpx posts of the same, likewise    {bare:6.2f} s   {ours / bare:.1f} times")
    print(f"keywatch deliver with nothing due         {idle:6.2f} s")
    print(f"an outcome: a line of the journal {line_ms:.1f} ms, a commit {commit_ms:.1f} ms")
    return int(len(arrived) != count)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    with tempfile.TemporaryDirectory(prefix="keywatch-") as scratch:
        raise SystemExit(main(parser.parse_args().count, Path(scratch)))
