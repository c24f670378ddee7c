"""A lake with a key that looks stolen, whose owner is asked in Slack, and a log of the channels."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from keywatch import deliver, pipeline
from keywatch.lake import Lake, utc_now
from keywatch.model import Review
from keywatch.settings import Settings
from tests.deliver.receivers import Answer, Receiver, Request
from tests.test_pipeline import NO_REPLAY, WEEK, crowd, daily, key, lake_of, theft

BOT_TOKEN, APP_TOKEN = "xoxb-secret-of-the-bot", "xapp-secret-of-the-app"
OWNER = "U0123456789"
ISP, SECOND_ISP, HOSTING = "91.64.10.7", "84.114.10.7", "45.153.78.122"
BASE = "https://keys.example.com"
CODE = re.compile(r"ask_[0-9a-f]{24}\.[0-9a-f]+\.[A-Za-z0-9_-]{43}")


@dataclass
class Asking:
    """The lake in `folder`, and the messages that arrived: to the owner, and to the channels."""

    folder: Path
    settings: Settings
    slack: Receiver
    sent: list[Request] = field(default_factory=list)

    @property
    def lake(self) -> Path:
        return self.folder / "lake"

    def review(self) -> Review:
        return pipeline.review(self.lake, WEEK, self.settings)

    def deliver(self, after: timedelta = timedelta(0)) -> deliver.DeliveryReport:
        """Send what is due so much later."""
        with patch("keywatch.deliver.run.utc_now", lambda: utc_now() + after):
            return pipeline.deliver_due(self.lake, self.settings)

    def asked(self) -> list[dict[str, Any]]:
        """The bodies of the questions in Slack."""
        return [request.json for request in self.slack.requests]

    def code(self) -> str:
        """The code of the last question."""
        found = CODE.search(self.slack.requests[-1].body.decode())
        assert found
        return found[0]

    def told(self) -> list[dict[str, Any]]:
        """The messages to the channel of the analysts."""
        file = self.folder / "alerts.jsonl"
        return (
            [json.loads(line) for line in file.read_text("ascii").splitlines()]
            if (file.exists())
            else []
        )

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with Lake.open(self.lake) as lake:
            return lake.rows(sql)

    def every_byte(self) -> bytes:
        """All that is stored beside the log: the lake, its journals, and the messages."""
        return b"".join(each.read_bytes() for each in self.folder.rglob("*") if each.is_file())


@contextmanager
def asking(
    folder: Path,
    ip: str = HOSTING,
    *,
    action: str = "investigate",
    name: str = "",
    channels: dict[str, Any] | None = None,
    **owners: Any,
) -> Iterator[Asking]:
    """A key of team-a that was used from `ip`, after its review and before a delivery."""
    with (
        Receiver(
            lambda _: Answer(body='{"ok": true, "channel": "D01", "ts": "1.2"}')
        ).running() as slack,
        patch.dict(os.environ, {"TEST_BOT": BOT_TOKEN, "TEST_APP": APP_TOKEN}),
    ):
        bot = {
            "kind": "slack", "token": {"env": "TEST_BOT"}, "conversation": "C01",
            "api_url": f"{slack.url}/api/",
        }  # fmt: skip
        log = {"kind": "file", "path": folder / "alerts.jsonl"}
        values = {"channel": "bot", "people": {"team-a": {"slack": OWNER}}, "base_url": BASE}
        settings = Settings.model_validate(
            {
                "storage": NO_REPLAY.storage,
                "review": NO_REPLAY.review,
                "scoring": scoring(action),
                "deliver": {
                    "channels": {"bot": bot, "log": log} | (channels or {}),
                    "routes": [{"channels": ["log"]}],
                    "first_pause_seconds": 100_000,  # what fails is left to the next run
                },
                "owners": values | owners,
            }
        )
        made = Asking(folder, settings, slack)
        kept = (
            Path(_REVIEWED.name)
            / hashlib.sha256(repr((ip, action, name, owners)).encode()).hexdigest()
        )
        if not kept.exists():
            events = daily(date(2026, 8, 1), 65) + [each | {"ip": ip} for each in theft()]
            lake_of(folder, events + crowd(10), [key(**({"name": name} if name else {}))])
            made.review()
            shutil.copytree(made.lake, kept)
        elif not made.lake.exists():
            shutil.copytree(kept, made.lake)
        yield made


_REVIEWED = TemporaryDirectory(prefix="keywatch-tests-")
"""Lakes as they are after the review, which takes longest."""


def scoring(action: str) -> dict[str, Any]:
    if action == "revoke":
        return {"false_revoke_rate": 0.5}
    return {
        "false_revoke_rate": 0.5, "revoke_bits": 1000, "unfamiliar_place": "investigate",
        "investigate_bits": 5,
    }  # fmt: skip


def in_days(days: int) -> date:
    return (datetime.now().astimezone() + timedelta(days=days)).date()
