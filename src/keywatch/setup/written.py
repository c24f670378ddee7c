"""What `keywatch init` leaves: the settings file, and the commands that come next."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from keywatch.content import content_path
from keywatch.errors import ContentError
from keywatch.settings import DEFAULT_FILE
from keywatch.setup.channels import Values
from keywatch.text.toml_value import toml_value

Schedule = Literal["cron", "systemd", "none"]
DEFAULT_LAKE = Path("lake")
_UNITS = ("watch.service", "watch.timer", "review.service", "review.timer")


@dataclass(frozen=True)
class Answers:
    """What is to be set up; `geoip` by setting, `channel` as name and values."""

    places: tuple[str, ...]
    lake: Path = DEFAULT_LAKE
    source: str | None = None
    geoip: Mapping[str, Path] = field(default_factory=dict)
    channel: tuple[str, Values] | None = None
    schedule: Schedule = "none"


def settings_text(answers: Answers, file: Path) -> str:
    """The text of the settings file, with comments; its paths are absolute."""
    lines = [
        "# Written by keywatch init. What else can be set: docs/settings.md. Commands",
        "# read this file if it is in the current folder, or with --config FILE.",
        "",
        "[ingest]",
        "# What keywatch ingest and keywatch watch load.",
        f"places = {toml_value([_absolute(place) for place in answers.places])}",
        '# time_zone = "Europe/Berlin"      # of times without an offset',
        '# trusted_proxies = ["10.0.0.0/8"] # your own proxies, as they are in X-Forwarded-For',
        "",
        "[geoip]",
        "# Your own databases take precedence over the bundled DB-IP Lite.",
    ]
    if answers.geoip:
        lines += [
            f"{role} = {toml_value(_absolute(str(path)))}" for role, path in answers.geoip.items()
        ]
    else:
        lines += ['# city = "/data/GeoLite2-City.mmdb"', '# asn = "/data/GeoLite2-ASN.mmdb"']
    lines += [
        "",
        "[report]",
        "# Where keywatch review --missed writes a page for each week.",
        f"folder = {toml_value(_absolute(str(file.parent / 'reports')))}",
        "",
        "# Channels receive every alert, unless [[deliver.routes]] say which: docs/deliver.md.",
    ]
    if answers.channel is None:
        lines += [
            "# [deliver.channels.chat]",
            '# kind = "slack"',
            '# webhook_url = { env = "SLACK_WEBHOOK" }   # secrets are named, never written here',
        ]
    else:
        name, values = answers.channel
        lines.append(f"[deliver.channels.{name}]")
        lines += [f"{key} = {_toml(value)}" for key, value in values.items()]
    return "".join(f"{line}\n" for line in lines)


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml_value(one)}" for key, one in value.items()) + " }"
    return toml_value(value)


def _absolute(place: str) -> str:
    return place if "://" in place else str(Path(place).absolute())


# ------------------------------------------------------------------------------------- what is next


def next_steps(answers: Answers, file: Path) -> list[str]:
    """The commands to run now, then the schedule, as lines of text."""
    options = _options(answers, file)
    source = f" --source {answers.source}" if answers.source else ""
    steps = [
        (f"keywatch ingest{source}{options}", "load the log"),
        (f"keywatch keys import keys.jsonl{options}", "optional: names, owners, scopes"),
        (f"keywatch review{options}", "which keys to revoke, and why"),
    ]
    if answers.channel is not None:
        steps.append((f"keywatch deliver{options}", "send what the review found"))
    width = max(len(command) for command, _ in steps)
    lines = ["Next:", *(f"  {command:{width}}   # {what}" for command, what in steps)]
    match answers.schedule:
        case "cron":
            lines += ["", *_cron(answers, file)]
        case "systemd":
            lines += ["", *_systemd(answers, file)]
        case "none":
            lines += ["", f"Every few minutes, run: keywatch watch{options}"]
            lines.append(f"Every week, run:        keywatch review --missed{options}")
    if answers.source:
        lines += [
            "",
            "keywatch watch takes the format from the content: if it does not recognise this one, "
            "define it with keywatch sources new SAMPLE.",
        ]
    return lines


def _options(answers: Answers, file: Path) -> str:
    options = "" if answers.lake == DEFAULT_LAKE else f" --lake {shlex.quote(str(answers.lake))}"
    return options if file == DEFAULT_FILE else f"{options} --config {shlex.quote(str(file))}"


def _program() -> str:
    beside = Path(sys.executable).parent / "keywatch"
    return str(beside) if beside.is_file() else "keywatch"


def _variables(answers: Answers) -> list[str]:
    """The environment variables that have secrets."""
    values = answers.channel[1].values() if answers.channel is not None else ()
    return [value["env"] for value in values if isinstance(value, dict) and "env" in value]


def _cron(answers: Answers, file: Path) -> Iterator[str]:
    command = f"cd {shlex.quote(str(Path.cwd()))} && {shlex.quote(_program())}"
    options = _options(answers, file)
    yield "Add these lines with crontab -e (they load, score and send; and write the weekly page):"
    for name in _variables(answers):
        yield f"  {name}=…   # cron has no other variables; or use file:PATH for the secret"
    yield f"  */5 * * * *  {command} watch{options}"
    yield f"  0 6 * * 1    {command} review --missed{options}"


def _systemd(answers: Answers, file: Path) -> Iterator[str]:
    """The units of the checkout, with folders, program and user of this machine."""
    folder = Path.cwd()
    try:
        units = shlex.quote(str(content_path("deploy/systemd")))
    except ContentError:
        units = "deploy/systemd"  # of the checkout, which is elsewhere
    outside = {
        str(path)
        for path in (answers.lake.absolute(), file.absolute().parent)
        if not path.is_relative_to(folder)
    }
    changes = [
        f"s|^ExecStart=[^ ]*|ExecStart={_program()}|",
        f"s|^User=.*|User={os.environ.get('USER') or 'keywatch'}|",
        f"s|^WorkingDirectory=.*|WorkingDirectory={folder}|",
        f"s|^ReadWritePaths=.*|ReadWritePaths={' '.join([str(folder), *sorted(outside)])}|",
    ]
    if folder.parts[1:2] in (("home",), ("root",)):
        changes.append("s|^ProtectHome=.*|ProtectHome=no|")
    if options := _options(answers, file):
        changes.append(f"/^ExecStart=/s|$|{options}|")
    yield "Install the units (they load, score and send; and write the weekly page):"
    yield f"  cd {units}"
    yield f"  for unit in {' '.join(_UNITS)}; do"
    yield f"    sed {shlex.quote('; '.join(changes))} keywatch-$unit |"
    yield "      sudo tee /etc/systemd/system/keywatch-$unit >/dev/null"
    yield "  done"
    for name in _variables(answers):
        yield f"  echo '{name}=…' | sudo tee -a /etc/keywatch.env >/dev/null   # with the secret"
    yield "  sudo systemctl daemon-reload"
    yield "  sudo systemctl enable --now keywatch-watch.timer keywatch-review.timer"


def headline(file: Path, problems: Sequence[object]) -> str:
    """That the file was written, and whether something in it has to be fixed."""
    if problems:
        return (
            f"Wrote {file}, although {len(problems)} of the checks failed: fix what is BAD above."
        )
    return f"Wrote {file}."
