"""The flows on a real Prefect server: deployed from prefect.yaml, and one is run by a real worker.

The other runs share a process (`runner`), which takes a tenth of the time of a worker's.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from standardwebhooks import Webhook

from keywatch import pipeline
from keywatch.lake import Lake
from keywatch.lake.key_hash import fingerprint
from keywatch.settings import LakeSettings
from tests.conftest import event
from tests.deliver.receivers import Receiver
from tests.long import long_form
from tests.review.test_watch import of_days, write
from tests.test_pipeline import SETTINGS, crowd, daily, key, theft
from tests.torture.planted import files_under, plant, shown_in
from tests.torture.planted_flows import own_prefect, run_flows, shown_by_prefect

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
SIGNING_KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLw+0"
KEY_HASH = "1e" * 32
FULL_KEY = "ply_live_prod_" + "4f8a2c91" * 4
HOSTILE = "<img src=x onerror=alert(1)> [x](http://evil.example) `rm` | a"

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Server:
    """A server with the deployments of prefect.yaml."""

    home: Path
    url: str
    env: dict[str, str]

    def prefect(self, *commands: str) -> None:
        """Run commands one after another in one process: Prefect takes long to load."""
        code = """
import sys
from importlib.metadata import entry_points
(command,) = entry_points(group="console_scripts", name="prefect")
prefect = command.load()
for words in sys.argv[1:]:
    sys.argv = ["prefect", *words.split()]
    try:
        prefect()
    except SystemExit as e:
        if e.code:
            raise
"""
        done = subprocess.run(
            [sys.executable, "-c", code, *commands],
            capture_output=True, text=True, env=self.env, cwd=ROOT, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    def post(self, path: str, **body: Any) -> Any:
        # On a busy machine the server's SQLite may be locked: 503, try again.
        for _ in range(30):
            answer = httpx.post(f"{self.url}/{path}", json=body, timeout=60)
            if answer.status_code != 503:
                break
            time.sleep(1)
        answer.raise_for_status()
        return answer.json()

    def run(self, flow: str, world: World) -> dict[str, Any]:
        """Have the worker run a deployment; returns the run when it is over."""
        (deployment,) = self.post(
            "deployments/filter", flows={"name": {"any_": [flow]}}
        )  # fmt: skip
        run = self.post(
            f"deployments/{deployment['id']}/create_flow_run",
            parameters={"lake": str(world.lake), "config": str(world.config)},
            idempotency_key=uuid.uuid4().hex,
        )
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            (now,) = self.post("flow_runs/filter", flow_runs={"id": {"any_": [run["id"]]}})
            if now["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
                return dict(now)
            time.sleep(1)
        raise AssertionError(f"{flow} did not end: {now['state_name']}")

    def runs_of(self, flow: str, states: tuple[str, ...]) -> list[dict[str, Any]]:
        """The runs of a flow, as soon as one is in one of the states."""
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            runs = self.post("flow_runs/filter", flows={"name": {"any_": [flow]}})
            if any(run["state_type"] in states for run in runs):
                return list(runs)
            time.sleep(1)
        raise AssertionError(f"{flow}: no run is {states}: {[run['state'] for run in runs]}")

    def alert_events(self) -> list[str]:
        """The names of the events of alerts, as soon as there is one."""
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            found = self.post("events/filter", filter={"event": {"prefix": ["keywatch.alert."]}})
            if found["events"]:
                return [each["event"] for each in found["events"]]
            time.sleep(1)
        raise AssertionError("no event of an alert")

    def question(self, run: dict[str, Any]) -> str:
        """What a suspended run asks."""
        keys = run["state"]["state_details"]["run_input_keyset"]
        return httpx.get(f"{self.url}/flow_runs/{run['id']}/input/{keys['description']}").text

    def tasks(self, run: dict[str, Any]) -> list[tuple[str, str, int]]:
        """Name, state and tries of a run's tasks."""
        found = self.post("task_runs/filter", flow_runs={"id": {"any_": [run["id"]]}})
        return [
            (task["name"].rpartition("-")[0], task["state_type"], task["run_count"])
            for task in found
        ]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("prefect")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = own_prefect(home) | {
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_API_PORT": str(port),
        "PWD": str(ROOT),
    }
    found = Server(home, f"http://127.0.0.1:{port}/api", env)
    process = _start(
        home / "server.log", env, "server", "start", "--host", "127.0.0.1", "--port", f"{port}"
    )
    try:
        _wait_for(found, home / "server.log")
        found.prefect(
            "work-pool create keywatch --type process",
            "work-pool set-concurrency-limit keywatch 1",
            "--no-prompt deploy --all",
        )
        yield found
    finally:
        _stop(process)


@pytest.fixture(scope="module")
def worker(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A worker of the pool. Nothing runs by itself while the tests look."""
    for deployment in server.post("deployments/filter"):
        server.post(f"deployments/{deployment['id']}/pause_deployment")
    log = tmp_path_factory.mktemp("worker") / "worker.log"
    often = server.env | {"PREFECT_WORKER_QUERY_SECONDS": "2"}
    process = _start(log, often, "worker", "start", "--pool", "keywatch")
    try:
        yield
    finally:
        _stop(process)


@dataclass(frozen=True)
class Runner:
    """One process for many runs (`tests.flows.runner`)."""

    process: subprocess.Popen[str]
    log: Path

    def run(self, flow: str, world: World) -> dict[str, Any]:
        """Run a flow; returns its run's id and state."""
        return self.ask(flow, str(world.lake), str(world.config))

    def ask(self, *words: str) -> dict[str, Any]:
        self.tell(words)
        assert self.process.stdout is not None
        answer = self.process.stdout.readline()
        assert answer, self.log.read_text()[-2000:]
        return dict(json.loads(answer))

    def tell(self, what: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()


@pytest.fixture(scope="module")
def runner(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """A process that runs flows; the secrets of the webhook and of a lake are Prefect blocks."""
    log = tmp_path_factory.mktemp("runner") / "runner.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.flows.runner"], stdin=subprocess.PIPE, text=True,
            stdout=subprocess.PIPE, stderr=errors, cwd=ROOT, env=server.env, start_new_session=True,
        )  # fmt: skip
    with process:
        found = Runner(process, log)
        found.tell({"keywatch-signing": SIGNING_KEY, "keywatch-lake": KEY_HASH})
        try:
            yield found
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[Any]) -> None:
    """End it and what it started, at once: Prefect takes half a minute to stop by itself."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _start(log: Path, env: dict[str, str], *words: str) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        return subprocess.Popen(
            [BIN / "prefect", *words], stdout=out, stderr=subprocess.STDOUT, env=env,
            cwd=log.parent, start_new_session=True,
        )  # fmt: skip


def _wait_for(server: Server, log: Path) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            if httpx.get(f"{server.url}/health", timeout=5).is_success:
                return
        time.sleep(0.5)
    raise AssertionError(f"no server: {log.read_text()[-2000:]}")


@dataclass(frozen=True)
class World:
    folder: Path
    lake: Path
    config: Path
    hook: Receiver


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Logs until Wednesday, later ones with a theft, a webhook whose secret is a Prefect block."""
    logs = tmp_path / "logs"
    logs.mkdir()
    events = daily(date(2026, 8, 1), 66) + crowd()
    write(logs / "until-wednesday.jsonl", of_days(events, date(2026, 8, 1), date(2026, 10, 1)))
    stolen = [event | {"user_agent": HOSTILE} for event in theft()]
    later = [*of_days(events, date(2026, 10, 1), date(2026, 10, 6)), *stolen]
    write(tmp_path / "later.jsonl", later)
    pipeline.import_keys(tmp_path / "lake", write(tmp_path / "keys.jsonl", [key()]), SETTINGS)
    with Receiver().running() as hook:
        config = tmp_path / "keywatch.toml"
        config.write_text(
            f"""
            [ingest]
            places = ["{logs}"]
            [report]
            folder = "{tmp_path / "reports"}"
            [review]
            power_keys = 0
            replayed_windows = 1
            [scoring]
            false_revoke_rate = 0.5
            [deliver.channels.executor]
            kind = "webhook"
            url = "{hook.url}/alert"
            secret = {{ prefect = "keywatch-signing" }}
            """,
            encoding="utf-8",
        )
        yield World(tmp_path, tmp_path / "lake", config, hook)


def test_every_flow_is_deployed_and_scheduled_runs_are_there(server: Server) -> None:
    said = yaml.safe_load((ROOT / "prefect.yaml").read_text("utf-8"))["deployments"]
    found = server.post("deployments/filter")
    assert {each["entrypoint"] for each in found} == {each["entrypoint"] for each in said}
    for deployment in found:
        crons = [each["schedule"]["cron"] for each in deployment["schedules"]]
        (wanted,) = (each for each in said if each["entrypoint"] == deployment["entrypoint"])
        assert crons == [each["cron"] for each in wanted["schedules"]]
        assert deployment["work_pool_name"] == "keywatch"
        limit = deployment["global_concurrency_limit"]
        # Many revocations may wait for their analysts at once.
        assert (limit and limit["limit"]) == (1 if "concurrency_limit" in wanted else None)
    # SQLAlchemy of another version makes none of these and says nothing.
    deadline = time.monotonic() + 120
    scheduled: list[dict[str, Any]] = []
    while time.monotonic() < deadline:
        scheduled = server.post(
            "flow_runs/filter", flow_runs={"state": {"type": {"any_": ["SCHEDULED"]}}},
            flows={"name": {"any_": ["weekly-review"]}},
        )  # fmt: skip
        if scheduled:
            break
        time.sleep(1)
    starts = [datetime.fromisoformat(each["expected_start_time"]) for each in scheduled]
    assert starts
    assert {(start.isoweekday(), start.hour, start.minute) for start in starts} == {(1, 6, 0)}


@pytest.mark.usefixtures("worker")
def test_the_feed_and_the_review_reach_the_receiver_once(
    server: Server, runner: Runner, world: World
) -> None:
    first = runner.run("watch", world)
    assert first["state_type"] == "COMPLETED", first["state"]
    assert world.hook.requests == []

    (world.folder / "later.jsonl").rename(world.folder / "logs" / "later.jsonl")
    for run in (long_form(server.run, runner.run), runner.run):
        ran = run("watch", world)
        assert ran["state_type"] == "COMPLETED", ran["state"]
    (request,) = world.hook.requests
    message = Webhook(SIGNING_KEY).verify(request.body, request.headers)
    assert message["keys"][0]["key_id"] == "key_1"
    assert "keywatch.alert.opened" in server.alert_events()

    for _ in range(2):
        ran = runner.run("weekly-review", world)
        assert ran["state_type"] == "COMPLETED", ran["state"]
    assert len(world.hook.requests) == 1
    page = world.folder / "reports" / "2026-W40.html"
    assert "key_1" in page.read_text("utf-8")
    artifacts = {each["key"]: each for each in server.post("artifacts/filter")}
    table = json.loads(artifacts["cases-2026-w40"]["data"])
    assert [row["action"] for row in table] == [message["action"]]
    coverage = artifacts["coverage-2026-w40"]["data"]
    assert "## Coverage" in coverage
    assert "<img" not in json.dumps(table) + coverage

    ran = runner.run("maintain", world)
    assert ran["state_type"] == "COMPLETED", ran["state"]


def test_a_failed_step_fails_the_flow_and_wrong_settings_are_not_tried_again(
    server: Server, runner: Runner, world: World
) -> None:
    text = world.config.read_text("utf-8")
    world.config.write_text(text.replace("keywatch-signing", "no-such-block"), "utf-8")
    ran = runner.run("deliver", world)
    assert ran["state_type"] == "FAILED"
    assert server.tasks(ran) == [("send due messages", "FAILED", 1)]
    world.config.write_text("[scoring]\nfalse_revoke_rate = 7\n", "utf-8")
    ran = runner.run("weekly-review", world)
    assert ran["state_type"] == "FAILED"
    assert server.tasks(ran) == []


def test_the_machines_of_a_shared_lake_have_its_secret_from_a_block(
    runner: Runner, tmp_path: Path
) -> None:
    place = {
        "catalog": f"sqlite:{tmp_path / 'catalog.sqlite'}",
        "data_path": f"{tmp_path / 'data'}",
    }
    for name in ("a", "b"):
        log = write(tmp_path / f"{name}.jsonl", [event(request_id=name, key=FULL_KEY)])
        config = tmp_path / f"{name}.toml"
        config.write_text(
            f"""
            [ingest]
            places = ["{log}"]
            [storage]
            catalog = "{place["catalog"]}"
            data_path = "{place["data_path"]}"
            key_hash_secret = {{ prefect = "keywatch-lake" }}
            """,
            encoding="utf-8",
        )
        ran = runner.ask("ingest", str(tmp_path / name), str(config))
        assert ran["state_type"] == "COMPLETED", ran["state"]
    with Lake.open(tmp_path / "a", LakeSettings.model_validate(place)) as lake:
        assert lake.rows("SELECT count(*), count(DISTINCT key) FROM lake.events") == [(2, 1)]
        assert lake.secret_fingerprint == fingerprint(bytes.fromhex(KEY_HASH))
    assert not list(tmp_path.rglob("key-hash.secret"))
    written = [*files_under(tmp_path).values(), runner.log.read_bytes()]
    assert not any(KEY_HASH.encode() in each for each in written)


@pytest.mark.usefixtures("worker")
def test_a_revocation_waits_for_an_analyst(server: Server, runner: Runner, world: World) -> None:
    text = world.config.read_text("utf-8")
    approved = '[deliver]\napproved_channels = ["executor"]\n[deliver.channels.executor]'
    world.config.write_text(text.replace("[deliver.channels.executor]", approved), "utf-8")
    runner.run("ingest", world)
    (world.folder / "later.jsonl").rename(world.folder / "logs" / "later.jsonl")
    for _ in range(2):
        assert runner.run("watch", world)["state_type"] == "COMPLETED"
    assert world.hook.requests == []

    (asked,) = server.runs_of("approve", ("PAUSED",))
    question = server.question(asked)
    assert "status board" in question
    assert "<img" not in question
    server.post(
        f"flow_runs/{asked['id']}/resume",
        run_input={"decision": "approve", "by": "ana", "because": "we know nothing of it"},
    )
    (done,) = server.runs_of("approve", ("COMPLETED", "FAILED"))
    assert done["state_type"] == "COMPLETED", done["state"]
    (request,) = world.hook.requests
    message = Webhook(SIGNING_KEY).verify(request.body, request.headers)
    assert (message["kind"], message["action"]) == ("trigger", "revoke")
    assert "approved by ana" in message["why"]
    runner.run("watch", world)
    assert len(world.hook.requests) == 1


def test_nothing_planted_is_in_what_prefect_keeps(server: Server, tmp_path: Path) -> None:
    random.seed(5)
    planted = plant(tmp_path / "in", 1)
    out = tmp_path / "out"
    out.mkdir()
    run_flows(out, out / "lake", planted, server.env)
    assert shown_by_prefect(server.home, planted.ways) == []
    assert shown_in(files_under(out), planted.ways) == []
