"""The first ten minutes: from a log and nothing else to a channel that hears of the theft in it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from keywatch.setup import Given, set_up
from tests.command import keywatch
from tests.deliver.receivers import Receiver

SIGNING = "whsec_c2VjcmV0LXRoYXQtbXVzdC1uZXZlci1iZS1zaG93bg=="
MOST_ANSWERS = 6


@pytest.mark.slow
def test_six_answers_lead_from_the_demo_s_log_to_an_alert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WEBHOOK_SECRET", SIGNING)
    assert keywatch("demo", "--keys", "20", "--weeks", "6", "--keep", "demo").code == 0
    sample = tmp_path / "demo" / "sample"
    truth = map(json.loads, (sample / "truth.jsonl").read_text("utf-8").splitlines())
    stolen = {row["key_id"] for row in truth if row["theft"]}
    assert stolen

    with Receiver().running() as receiver:
        answers = ["demo/sample/logs", "", f"webhook {receiver.url}", "", ""]
        assert len(answers) <= MOST_ANSWERS
        heard: list[str] = []
        set_up(Given(), Path("keywatch.toml"), heard.append, lambda _: answers.pop(0))
        said = "\n".join(heard)
        assert "BAD" not in said
        commands = [line for line in said.splitlines() if line.startswith("  keywatch ")]
        assert len(commands) == 4
        for line in commands:
            _, *words = shlex.split(
                line.replace("keys.jsonl", str(sample / "inventory.jsonl")), comments=True
            )
            ran = keywatch(*words)
            assert (ran.code, ran.err) == (0, ""), line
    test, *alerts = [request.json for request in receiver.requests]
    assert test["kind"] == "test"
    assert alerts
    assert {alert["kind"] for alert in alerts} == {"trigger"}
    assert stolen & {key["key_id"] for alert in alerts for key in alert["keys"]}
