"""What the command line says of itself: an example for each command, and completion."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclopts import App

from keywatch.cli import app
from tests.command import keywatch

WIDTH = 80 - len("  ")


def commands(part: App = app, path: tuple[str, ...] = ()) -> Iterator[tuple[str, App]]:
    """Each command and group, by the words that call it; all of them is the empty text."""
    yield " ".join(path), part
    for name in part:
        if name not in {*part.help_flags, *part.version_flags}:
            yield from commands(part[name], (*path, name))


def examples(part: App) -> list[str]:
    head, _, lines = (part.help_epilogue or "").partition("\n\n")
    assert head == "Examples:"
    return [line.removeprefix("    ") for line in lines.splitlines()]


COMMANDS = dict(commands())
EXAMPLES = [(name, line) for name, part in COMMANDS.items() for line in examples(part)]


def words(line: str) -> list[str]:
    """The words of an example, less its comment and where its output goes."""
    split = shlex.split(line, comments=True)
    return [word for word in split if not word.startswith(">")]


def test_all_commands_are_looked_at() -> None:
    assert {"", "review", "keys", "keys import", "lake maintain", "--completion"} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_one_to_three_examples_of_its_own(name: str) -> None:
    lines = examples(COMMANDS[name])
    assert 1 <= len(lines) <= 3
    assert all(line.startswith(f"keywatch {name}".strip()) for line in lines)
    assert max(map(len, lines)) <= WIDTH


@pytest.mark.parametrize(("name", "line"), EXAMPLES, ids=[line for _, line in EXAMPLES])
def test_an_example_can_be_parsed(name: str, line: str) -> None:
    program, *given = words(line)
    assert program == "keywatch"
    command, bound, _ = app.parse_args(given, exit_on_error=False, print_error=False)
    assert bound.signature
    if COMMANDS[name].default_command is not None:
        assert command is COMMANDS[name].default_command


def test_an_example_is_in_the_help() -> None:
    ran = keywatch("lake", "forget", "--help")
    assert (ran.code, ran.err) == (0, "")
    assert "keywatch lake forget key_0700353 --yes" in ran.out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_has_all_commands_and_calls_none(shell: str, tmp_path: Path) -> None:
    ran = keywatch("--completion", shell)
    assert (ran.code, ran.err) == (0, "")
    names = [name.split()[-1] for name in COMMANDS if name and not name.startswith("-")]
    assert [name for name in names if name not in ran.out] == []
    assert "$(keywatch" not in ran.out
    if program := shutil.which(shell):
        file = tmp_path / "script"
        file.write_text(ran.out, encoding="utf-8")
        subprocess.run([program, "-n", file], check=True)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("rev", ["review"]),
        ("review --for", ["--format"]),
        ("review --format j", ["json"]),
        ("lake m", ["move", "maintain"]),
        ("keys list --sort l", ["last-use"]),
    ],
)
def test_bash_completes(typed: str, offered: list[str], tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    file = tmp_path / "script"
    file.write_text(keywatch("--completion", "bash").out, encoding="utf-8")
    asked = (
        f'source "{file}"; COMP_WORDS=(keywatch {typed}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); '
        "_keywatch; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run([bash, "-c", asked], check=True, capture_output=True, text=True)
    assert sorted(done.stdout.split()) == sorted(offered)


def test_completion_for_an_unknown_shell_names_the_known_ones() -> None:
    ran = keywatch("--completion", "tcsh")
    assert (ran.code, ran.out) == (2, "")
    assert '"bash", "zsh", "fish"' in ran.err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["reveiw"], 'Did you mean "review"?'),
        (["review", "--wek", "2026-W40"], "Did you mean --week?"),
        (["detectors", "check", "dormant_wak"], "; did you mean 'dormant_wake'?"),
        (["ingest", "a.jsonl", "--source", "pulsley"], "; did you mean 'pulsely'?"),
    ],
)
def test_an_unknown_name_gets_the_one_that_was_meant(
    given: list[str], said: str, tmp_path: Path
) -> None:
    (tmp_path / "a.jsonl").write_text("{}\n", encoding="utf-8")
    ran = keywatch(*given, cwd=tmp_path)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
