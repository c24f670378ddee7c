"""What the documents name exists: paths, modules, links, commands, options and settings."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from keywatch.cli import app
from keywatch.settings import Settings
from tests.prose import DOCUMENTS, NAMES, ROOT
from tools.reference import filled

_ENDINGS = "py|sql|toml|md|json|csv|yaml|lock|png|mmdb|parquet"
_FOLDERS = "src|tests|docs|detectors|vendors|data|flows|tools|benchmarks|deploy|notebooks"
_PATH = re.compile(rf"`([\w.\-*/<>]+\.(?:{_ENDINGS}))\b|`((?:{_FOLDERS})/[\w.\-*/]*)`")
_MODULE = re.compile(
    # What follows keywatch. and is no module: the settings' file, and names of Prefect's events.
    r"`(?:python -m )?((?!keywatch\.(?:toml|alert|key|action|severity)\b)"
    r"(?:keywatch|tests|benchmarks)(?:\.\w+)+)"
)
_LINK = re.compile(r"\]\((?!https?:)([^)\s]+)\)|src=\"([^\"]+)\"")
_COMMAND = re.compile(r"\bkeywatch ([a-z]+(?: [a-z]+)?)((?: [^`\n#]*)?)")

_NOT_HERE = re.compile(
    r"keywatch\.toml|review\.(?:html|json)|detect(?:or)?\.(?:toml|sql)|vendor\.toml|catalogue\.toml"
    r"|tests/\*\.toml|.*\b(?:NAME|ID)\b.*|.*<id>.*|lake\.sql"
)
"""What a reader makes, lies in a folder that is described, or is a method."""


def text_of(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def places(file: Path) -> list[Path]:
    """Where a path in `file` may start: the checkout, the file's folder, the package, its parts."""
    package = ROOT / "src" / "keywatch"
    return [ROOT, file.parent, package, *(p for p in package.iterdir() if p.is_dir())]


def exists(path: str, file: Path) -> bool:
    return any(next(place.glob(path.rstrip("/")), None) for place in places(file))


@pytest.mark.parametrize("file", DOCUMENTS, ids=NAMES)
def test_each_path_and_module_exists(file: Path) -> None:
    prose = re.sub(r"```.*?```", "", text_of(file), flags=re.DOTALL)
    named = {one or other for one, other in _PATH.findall(prose)}
    named = {path for path in named if not _NOT_HERE.fullmatch(path)}
    assert {path for path in named if not exists(path, file)} == set()
    assert {name for name in _MODULE.findall(text_of(file)) if not is_module(name)} == set()


def is_module(name: str) -> bool:
    """Whether `name` is a module, or something in one."""
    parent, _, last = name.rpartition(".")
    try:
        if importlib.util.find_spec(name) is not None:
            return True
    except ModuleNotFoundError:
        pass
    module = importlib.import_module(parent)
    return hasattr(module, last)


@pytest.mark.parametrize("file", DOCUMENTS, ids=NAMES)
def test_each_link_leads_to_a_file_and_a_heading(file: Path) -> None:
    for target in {one or other for one, other in _LINK.findall(text_of(file))}:
        path, _, heading = target.partition("#")
        page = file.parent / path if path else file
        assert page.exists(), target
        if heading:
            assert heading in headings(page), target


def headings(page: Path) -> set[str]:
    """As GitHub names them in a link, those of the site's generated parts too."""
    text = text_of(page) if page.name == "index.md" else filled(text_of(page))
    found = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in found}


@cache
def commands() -> dict[str, set[str]]:
    """Command → its options, as `--help` shows them."""
    found: dict[str, set[str]] = {}

    def walk(part: Any, path: tuple[str, ...]) -> None:
        for name in part:
            if name.startswith("-"):
                continue
            command = part[name]
            if command.default_command is not None:
                arguments = command.assemble_argument_collection()
                found[" ".join((*path, name))] = {n for a in arguments for n in a.names}
            else:
                walk(command, (*path, name))

    walk(app, ())
    return found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("```\nkeywatch keys import a.jsonl --lake x   # --no\n```", ["keys import --lake"]),
        ("`keywatch review --format\nhtml` and `keywatch lake`", ["review --format"]),
        ("```\nzcat a | keywatch ingest - --map a=b | sort --x\n```", ["ingest --map"]),
        ("keywatch in prose --and this", []),
    ],
)
def test_commands_are_found_in_code(text: str, found: list[str]) -> None:
    named = [f"{command} {option}" for command, option in named_commands(text) if option]
    assert named == found


def test_the_checks_find_what_does_not_exist() -> None:
    assert {"--week", "--fail-on", "--lake"} <= commands()["review"]
    assert not exists("src/keywatch/kinds/", ROOT / "README.md")
    assert exists("prepare.sql", ROOT / "README.md")
    assert not is_module("keywatch.detect.making")
    assert is_module("keywatch.load.origins.ATTRIBUTION")
    assert "measured-quality" in headings(ROOT / "docs/detection.md")


@pytest.mark.parametrize("file", DOCUMENTS, ids=NAMES)
def test_each_target_of_make_exists(file: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", text_of(file), re.MULTILINE)) <= targets


@pytest.mark.parametrize("file", DOCUMENTS, ids=NAMES)
def test_each_command_and_option_exists(file: Path) -> None:
    wrong = [
        f"keywatch {command} {option}"
        for command, option in named_commands(text_of(file))
        if command not in commands() or (option and option not in commands()[command])
    ]
    assert wrong == []


def named_commands(text: str) -> Iterator[tuple[str, str]]:
    """Each command that stands in code, with each option that follows it."""
    fences = re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    code = [block for language, block in fences if not language]
    code += [" ".join(span.split()) for span in re.findall(r"`(keywatch [^`]+)`", text)]
    for part in code:
        for words, rest in _COMMAND.findall(part):
            first, _, second = words.partition(" ")
            groups = {name.split()[0] for name in commands() if " " in name}
            command = f"{first} {second}" if first in groups and second else first
            if command in groups:
                continue  # a group named as such: `keywatch lake`
            rest = rest.partition("|")[0]
            yield command, ""
            for option in re.findall(r"(?<!\S)(--[a-z-]+)", f"{second} {rest}"):
                yield command, option


def test_the_settings_of_the_documents_are_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = [
        (file.name, block)
        for file in DOCUMENTS
        for block in re.findall(r"```toml\n(.*?)```", text_of(file), re.DOTALL)
    ]
    assert len(blocks) >= 5
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine/detectors").mkdir(parents=True)  # a reader's [content] folders
    channels = '[deliver.channels.%s]\nkind = "stdout"\n'
    for name, block in blocks:
        table = tomllib.loads(block)
        deliver = table.get("deliver", {})
        used = {*deliver.get("approved_channels", []), deliver.get("heartbeat", {}).get("channel")}
        for channel in used - {None, *deliver.get("channels", {})}:
            block += channels % channel
        Settings(**tomllib.loads(block))
        assert table, name


def test_each_setting_named_in_prose_exists() -> None:
    sections = Settings.model_fields
    for file in DOCUMENTS:
        for section, names in re.findall(r"`\[(\w+)\]((?: \w+)*)", text_of(file)):
            if section not in sections:
                continue
            model = sections[section].annotation
            assert isinstance(model, type)
            assert issubclass(model, BaseModel)
            assert set(names.split()) <= set(model.model_fields), (file.name, section, names)
