"""What the flows' own parts do without a server, in one process: Prefect takes long to load.

    python -m tests.flows.tried LAKE FULL_KEY AUTOMATION

Prints, as JSON, what errors say, the events of alerts that change while a flow runs, and what the
automation (JSON) waits for.
"""

from __future__ import annotations

import asyncio
import json
import sys
import traceback
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from prefect import Flow, Task
from prefect.events.clients import AssertingEventsClient
from prefect.events.schemas.automations import AutomationCore
from prefect.events.worker import EventsWorker
from prefect.exceptions import ObjectNotFound
from prefect.states import exception_to_failed_state

from flows.common import patient, plain, retry_helps, tells_no_token
from flows.events import alert_events
from keywatch.errors import InputError, LakeBusyError, SecretError, SettingsError
from keywatch.lake import Lake
from keywatch.review import alerts
from keywatch.settings import Settings
from tests.deliver.alerts_of import review_of
from tests.report.reviews import SCANNED
from tests.torture.planted_flows import FLOWS


def helps(error: Exception) -> bool:
    task: Any = None
    state = asyncio.run(exception_to_failed_state(error))
    return retry_helps(task, task, state)


def told(error: Exception) -> tuple[str, str, str]:
    def fail() -> None:
        raise error

    try:
        tells_no_token(fail)()
    except Exception as e:  # noqa: BLE001 - whatever it makes of it
        return type(e).__name__, str(e), "".join(traceback.format_exception(e))
    raise AssertionError("nothing was raised")


def of_errors(key: str) -> dict[str, Any]:
    steps = [
        each
        for name in (*FLOWS, "approve")
        for each in vars(import_module(f"flows.{name}")).values()
        if isinstance(each, Flow | Task)
    ]
    careful = tells_no_token(print).__code__
    return {
        "steps": len({step.name for step in steps}),
        "careless": [step.name for step in steps if step.fn.__code__ != careful],
        "told": {
            "input": told(InputError(f"{key}: no log\x1b[2J")),
            "file": told(FileNotFoundError(2, "No such file", key)),
            "bug": told(ValueError(f"password=hunter2hunter2 {key}")),
            "prefect": told(ObjectNotFound(None, "no deployment approve/keywatch")),  # type: ignore[arg-type]
        },
        "helps": {
            "busy": helps(LakeBusyError("another writer")),
            "settings": helps(SettingsError("wrong")),
            "secret": helps(SecretError("not there")),
            "input": helps(InputError("line 7")),
            "bug": helps(ZeroDivisionError()),
        },
        "pauses": patient()["retry_delay_seconds"](4),
        "text": plain("<img src=x> [a](http://b.example) **c** `d` \u202e\x1b[31m | e"),
    }


def of_alerts(folder: Path, key: str) -> list[dict[str, Any]]:
    """The events of changes that are made while a flow runs, which then fails."""
    EventsWorker.set_client_override(AssertingEventsClient)
    risen = replace(SCANNED, bits=SCANNED.bits + 50)
    exposed = replace(SCANNED, key_id=key)
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
    return [event.model_dump(mode="json") for event in events]


def main(lake: str, key: str, automation: str) -> None:
    trigger: Any = AutomationCore.model_validate(json.loads(automation)).trigger
    found = {
        "errors": of_errors(key),
        "events": of_alerts(Path(lake), key),
        "expected": sorted(trigger.expect),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
