"""The flows without a server: when a retry helps, what an error and an artifact show, the events.

All of it is tried in one process (`tests.flows.tried`).
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import yaml

from keywatch.lake import Lake
from keywatch.review import alerts
from keywatch.settings import Settings
from tests.deliver.alerts_of import review_of
from tests.prose import ROOT
from tests.report.reviews import DOUBTED, SCANNED
from tests.torture.planted_flows import own_prefect

pytestmark = pytest.mark.slow

FULL_KEY = "ply_live_prod_4f8a2cDDDDbbbbcccc9e1d"


def automation() -> Any:
    """The automation that docs/events.md shows."""
    page = (ROOT / "docs/events.md").read_text("utf-8")
    (text,) = [block.split("```")[0] for block in page.split("```yaml\n")[1:]]
    return yaml.safe_load(text)


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("tried")
    with Lake.open(folder / "lake", Settings().storage, create=True) as lake, lake.writing():
        alerts.store(lake, alerts.update(lake, review_of(SCANNED, DOUBTED), 10.0))
    # In a process of its own: Prefect sets up logging and event loops for the whole of one.
    done = subprocess.run(
        [sys.executable, "-m", "tests.flows.tried", str(folder / "lake"), FULL_KEY,
         json.dumps(automation())],
        capture_output=True, text=True, check=False, timeout=300, cwd=ROOT,
        # The recording client asks no server; this one is never reached.
        env=own_prefect(folder / "prefect") | {"PREFECT_API_URL": "http://127.0.0.1:9/api"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def errors(tried: Any) -> Any:
    return tried["errors"]


@pytest.fixture(scope="module")
def emitted(tried: Any) -> list[dict[str, Any]]:
    """The events of changes that were made while a flow ran, one of which failed."""
    return list(tried["events"])


# ------------------------------------------------------------------------------ errors and text


def test_only_a_busy_lake_is_tried_again_and_text_stays_text(errors: Any) -> None:
    assert {name for name, helps in errors["helps"].items() if helps is True} == {"busy"}
    assert errors["pauses"] == [20, 40, 80, 160]
    text = errors["text"]
    assert "<" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert r"\[a\]\(http\:\/\/b\.example\)" in text
    assert r"\*\*c\*\*" in text


def test_an_error_that_prefect_keeps_tells_no_secret(errors: Any) -> None:
    assert errors["steps"] == 14
    assert errors["careless"] == []
    told = errors["told"]
    assert not [word for word in ("DDDD", "hunter2", "\x1b") if word in json.dumps(told)]
    assert told["input"][:2] == ["InputError", "ply_live_prod_4f8a2c…9e1d: no log\\x1b[2J"]
    assert told["file"][:2] == ["KeywatchError", "ply_live_prod_4f8a2c…9e1d: No such file"]
    kind, said, _ = told["bug"]
    assert kind == "KeywatchError"
    assert said.startswith("internal error in Keywatch: ValueError at tried.py:")
    assert told["prefect"][0] == "ObjectNotFound"


# --------------------------------------------------------------------------- the events of alerts


def test_each_change_of_an_alert_is_an_event_once(emitted: list[dict[str, Any]]) -> None:
    assert [event["event"] for event in emitted] == [
        "keywatch.alert.raised", "keywatch.alert.opened", "keywatch.alert.acknowledged",
        "keywatch.alert.closed",
    ]  # fmt: skip
    raised, opened, acknowledged, closed = emitted
    assert len({event["id"] for event in emitted}) == 4
    alert = raised["resource"]["prefect.resource.id"]
    assert alert == f"keywatch.alert.{raised['payload']['alert_id']}"
    assert alert == acknowledged["resource"]["prefect.resource.id"]
    assert alert == closed["resource"]["prefect.resource.id"]
    assert alert != opened["resource"]["prefect.resource.id"]
    assert raised["resource"]["keywatch.action"] == "revoke"
    assert raised["payload"]["keys"] == [SCANNED.key_id]
    assert {
        "prefect.resource.id": f"keywatch.key.{SCANNED.key_id}", "prefect.resource.role": "key",
    } in raised["related"]  # fmt: skip


def test_no_event_has_a_key_in_full_or_text_of_the_log(emitted: list[dict[str, Any]]) -> None:
    text = json.dumps(emitted)
    assert "DDDD" not in text
    assert emitted[1]["payload"]["keys"] == ["ply_live_prod_4f8a2c…9e1d"]
    assert "why" not in emitted[0]["payload"]


def test_the_automation_of_the_document_is_one_of_prefect(tried: Any) -> None:
    assert tried["expected"] == ["keywatch.alert.opened", "keywatch.alert.raised"]
