"""When a retry helps, and what an artifact shows of hostile text."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

_TRIED = """
import json
from prefect.states import Completed, exception_to_failed_state
from flows.common import patient, plain, retry_helps
from keywatch.errors import InputError, LakeBusyError, SecretError, SettingsError

def helps(error):
    import asyncio
    state = asyncio.run(exception_to_failed_state(error))
    return retry_helps(None, None, state)

print(json.dumps({
    "busy": helps(LakeBusyError("another writer")),
    "settings": helps(SettingsError("wrong")),
    "secret": helps(SecretError("not there")),
    "input": helps(InputError("line 7")),
    "bug": helps(ZeroDivisionError()),
    "pauses": patient()["retry_delay_seconds"](4),
    "text": plain("<img src=x> [a](http://b.example) **c** `d` \\u202e\\x1b[31m | e"),
}))
"""


def test_only_a_busy_lake_is_tried_again_and_text_stays_text() -> None:
    # In a process of its own: Prefect sets up logging and event loops for the whole of one.
    done = subprocess.run(
        [sys.executable, "-c", _TRIED], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    tried = json.loads(done.stdout.splitlines()[-1])
    assert {name for name, helps in tried.items() if helps is True} == {"busy"}
    assert tried["pauses"] == [20, 40, 80, 160]
    text = tried["text"]
    assert "<" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert r"\[a\]\(http\:\/\/b\.example\)" in text
    assert r"\*\*c\*\*" in text
