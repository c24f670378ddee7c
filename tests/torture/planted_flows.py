"""The flows on planted secrets, and flows that fail for one: what Prefect keeps of it.

    python -m tests.torture.planted_flows LAKE SETTINGS WRONG_SETTINGS...

Prefect's home and server are those of the environment. The flows run in a process of their own, for
Prefect sets up logging and event loops for the whole of one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

from tests.conftest import ROOT
from tests.torture.planted import Planted, files_under, full_key, jwt, marked, shown_in

FLOWS = ("ingest", "weekly_review", "watch", "deliver", "maintain")
KEPT = (
    b"cases-2026-w40", b"coverage-2026-w40", b"file skipped", b"SettingsError: ",
    b"Task run encountered an exception InputError: ",
    b"Task run encountered an exception SecretError: ",
)  # fmt: skip
"""Artifacts, logs and the states of failed runs and tasks: in Prefect's database afterwards."""


def own_prefect(home: Path) -> dict[str, str]:
    """An environment in which Prefect has a home and a server of its own."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return others | {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }


def run_flows(folder: Path, lake: Path, planted: Planted, env: dict[str, str]) -> int:
    """Run each flow, and watch with settings that are wrong in each way; returns how many ran.

    What they say and write is in `folder`; the settings, with secrets in them, are beside the logs.
    """
    beside = planted.logs.parent
    common = (
        f'[ingest]\nmax_reject_share = 1.0\nplaces = ["{planted.logs}"]\n'
        f'[report]\nfolder = "{folder / "reports"}"\n'
        "[review]\npower_keys = 0\nreplayed_windows = 1\n"
    )
    settings = {
        "right": f'{common}[deliver.channels.file]\nkind = "file"\npath = "{folder}/sent.jsonl"\n',
        "value": f'[scoring]\nfalse_revoke_rate = "{full_key(planted.another("a setting"))}"\n',
        "name": f'[scoring]\n"{jwt(planted.another("the name of a setting"))}" = 1\n',
        "place": f'[ingest]\nplaces = ["{beside}/{full_key(planted.another("a place"))}.jsonl"]\n',
        "secret": f'{common}[deliver.channels.hook]\nkind = "webhook"\n'
        'url = "http://127.0.0.1:9/x"\nsecret = {env = "PLANTED_SECRET"}\n',
        "address": f'{common}[deliver.channels.chat]\nkind = "slack"\n'
        'webhook_url = {env = "PLANTED_ADDRESS"}\n',
    }
    files = [beside / f"{name}.toml" for name in settings]
    for file, text in zip(files, settings.values(), strict=True):
        file.write_text(text)
    env = env | {
        "PLANTED_ADDRESS": f"ftp://example.com/{marked(planted.another('a wrong address'), 24)}",
        "PLANTED_SECRET": f"whsec_{marked(planted.another('a signing secret cut off'), 21)}",
        "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
    }
    with (folder / "said-flows.txt").open("wb") as said:
        subprocess.run(
            [sys.executable, "-m", "tests.torture.planted_flows", lake, *files],
            cwd=folder, env=env, stdout=said, stderr=subprocess.STDOUT, check=True, timeout=900,
        )  # fmt: skip
    return len(FLOWS) + len(settings) - 1


def shown_by_prefect(home: Path, ways: list[str]) -> list[str]:
    """What Prefect's files show, once its server has written all that it was told."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        contents = files_under(home)
        missing = [kept for kept in KEPT if not any(kept in text for text in contents.values())]
        if not missing:
            return shown_in(contents, ways)
        time.sleep(1)
    raise AssertionError(f"not in Prefect's database: {missing}")


def main(lake: str, right: str, *wrong: str) -> None:
    """Run the flows; an error where one ends in another way than it has to."""
    for name in FLOWS:
        state = getattr(import_module(f"flows.{name}"), name)(lake, right, return_state=True)
        assert state.is_completed(), (name, state)
    watch = import_module("flows.watch").watch
    for settings in wrong:
        state = watch(lake, settings, return_state=True)
        assert state.is_failed(), (settings, state)


if __name__ == "__main__":
    main(*sys.argv[1:])
