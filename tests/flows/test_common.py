"""When a retry helps, what an artifact shows of hostile text, and what an error tells."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

pytestmark = pytest.mark.slow

_TRIED = """
import json
import traceback
from importlib import import_module
from prefect import Flow, Task
from prefect.exceptions import ObjectNotFound
from prefect.states import exception_to_failed_state
from flows.common import patient, plain, retry_helps, tells_no_token
from keywatch.errors import InputError, LakeBusyError, SecretError, SettingsError
from tests.torture.planted_flows import FLOWS

KEY = "ply_live_prod_4f8a2cDDDDbbbbcccc9e1d"

def helps(error):
    import asyncio
    state = asyncio.run(exception_to_failed_state(error))
    return retry_helps(None, None, state)

def told(error):
    def fail():
        raise error
    try:
        tells_no_token(fail)()
    except Exception as e:
        return type(e).__name__, str(e), "".join(traceback.format_exception(e))

steps = [
    each
    for name in (*FLOWS, "approve")
    for each in vars(import_module(f"flows.{name}")).values()
    if isinstance(each, Flow | Task)
]
print(json.dumps({
    "steps": len({step.name for step in steps}),
    "careless": [step.name for step in steps if step.fn.__code__ != tells_no_token(print).__code__],
    "told": {
        "input": told(InputError(f"{KEY}: no log\\x1b[2J")),
        "file": told(FileNotFoundError(2, "No such file", KEY)),
        "bug": told(ValueError(f"password=hunter2hunter2 {KEY}")),
        "prefect": told(ObjectNotFound(None, "no deployment approve/keywatch")),
    },
    "busy": helps(LakeBusyError("another writer")),
    "settings": helps(SettingsError("wrong")),
    "secret": helps(SecretError("not there")),
    "input": helps(InputError("line 7")),
    "bug": helps(ZeroDivisionError()),
    "pauses": patient()["retry_delay_seconds"](4),
    "text": plain("<img src=x> [a](http://b.example) **c** `d` \\u202e\\x1b[31m | e"),
}))
"""


@pytest.fixture(scope="module")
def tried() -> Any:
    # In a process of its own: Prefect sets up logging and event loops for the whole of one.
    done = subprocess.run(
        [sys.executable, "-c", _TRIED], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_only_a_busy_lake_is_tried_again_and_text_stays_text(tried: Any) -> None:
    assert {name for name, helps in tried.items() if helps is True} == {"busy"}
    assert tried["pauses"] == [20, 40, 80, 160]
    text = tried["text"]
    assert "<" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert r"\[a\]\(http\:\/\/b\.example\)" in text
    assert r"\*\*c\*\*" in text


def test_an_error_that_prefect_keeps_tells_no_secret(tried: Any) -> None:
    assert tried["steps"] == 14
    assert tried["careless"] == []
    told = tried["told"]
    assert not [word for word in ("DDDD", "hunter2", "\x1b") if word in json.dumps(told)]
    assert told["input"][:2] == ["InputError", "ply_live_prod_4f8a2c…9e1d: no log\\x1b[2J"]
    assert told["file"][:2] == ["KeywatchError", "ply_live_prod_4f8a2c…9e1d: No such file"]
    kind, said, _ = told["bug"]
    assert kind == "KeywatchError"
    assert said.startswith("internal error in Keywatch: ValueError at <string>:")
    assert told["prefect"][0] == "ObjectNotFound"
