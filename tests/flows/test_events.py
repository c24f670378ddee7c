"""The events of alerts, with Prefect's own recording client in place of a server."""

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
_TRIED = """
import json
import sys
from pathlib import Path
from prefect.events.clients import AssertingEventsClient
from prefect.events.worker import EventsWorker
from flows.events import alert_events
from keywatch.lake import Lake
from keywatch.review import alerts
from keywatch.settings import Settings
from tests.deliver.alerts_of import review_of
from tests.report.reviews import SCANNED
from dataclasses import replace

folder = Path(sys.argv[1])
EventsWorker.set_client_override(AssertingEventsClient)
risen = replace(SCANNED, bits=SCANNED.bits + 50)
exposed = replace(SCANNED, key_id=sys.argv[2])
try:
    with alert_events(folder, Settings()), Lake.open(folder, Settings().storage) as lake:
        for cases in [(risen,), (risen, exposed)]:
            with lake.writing():
                alerts.store(lake, alerts.update(lake, review_of(*cases), 10.0))
        (first,) = (one for one in alerts.not_over(lake) if one.key_ids == (SCANNED.key_id,))
        with lake.writing():
            alerts.store(lake, alerts.approve(lake, first.alert_id, "ana", "not ours"))
        ended = replace(first, change=first.change + 2, state="closed")
        with lake.writing():
            alerts.store(lake, [alerts.Change("resolve", ended)])
        raise ZeroDivisionError
except ZeroDivisionError:
    pass
with alert_events(folder, Settings()):
    pass
EventsWorker.instance().drain()
events = [event for client in AssertingEventsClient.all for event in client.events]
print(json.dumps([event.model_dump(mode="json") for event in events]))
"""


@pytest.fixture(scope="module")
def emitted(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The events of changes that were made while a flow ran, one of which failed."""
    folder = tmp_path_factory.mktemp("events")
    with Lake.open(folder / "lake", Settings().storage, create=True) as lake, lake.writing():
        alerts.store(lake, alerts.update(lake, review_of(SCANNED, DOUBTED), 10.0))
    # In a process of its own: Prefect sets up logging and event loops for the whole of one.
    done = subprocess.run(
        [sys.executable, "-c", _TRIED, str(folder / "lake"), FULL_KEY],
        capture_output=True, text=True, check=False, timeout=300, cwd=ROOT,
        # The recording client asks no server; this one is never reached.
        env=own_prefect(folder / "prefect") | {"PREFECT_API_URL": "http://127.0.0.1:9/api"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout.splitlines()[-1]))


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


def test_the_automation_of_the_document_is_one_of_prefect() -> None:
    page = (ROOT / "docs/events.md").read_text("utf-8")
    (text,) = [block.split("```")[0] for block in page.split("```yaml\n")[1:]]
    code = (
        "import json, sys\n"
        "from prefect.events.schemas.automations import AutomationCore\n"
        "print(AutomationCore.model_validate(json.load(sys.stdin)).trigger.expect)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(yaml.safe_load(text)),
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "keywatch.alert.opened" in done.stdout
