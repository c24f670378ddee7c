"""The documentation site: it builds without a warning, loads nothing, and is complete."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from keywatch.cli import app
from keywatch.detect.detectors import load_detectors
from keywatch.settings import Settings
from keywatch.vendors.registry import vendors
from tests.prose import ROOT
from tools import reference

GENERATED = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)
LOADED = re.compile(r"(?:\bsrc=|srcset=|@import |url\(|<link[^>]*href=)[\"']?(?:https?:)?//\S+")
"""What a browser fetches by itself; links and names of namespaces are not."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    words = re.search(r"python (-m sphinx .*) -d ", (ROOT / "Makefile").read_text("utf-8"))
    assert words
    done = subprocess.run(
        [sys.executable, *words[1].split(), "-d", folder / "doctrees", "-b", "html", "-c", "docs",
         ".", folder / "html"],
        cwd=ROOT, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "html"


@pytest.mark.slow
def test_the_site_has_each_page_and_begins_with_the_readme(site: Path) -> None:
    pages = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    documents = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert {f"docs/{name}.html" for name in documents} <= pages
    assert {f"detectors/{one.id}/README.html" for one in load_detectors()} <= pages
    assert {"SECURITY.html", "ARCHITECTURE.html", "vendors/README.html"} <= pages
    assert "url=docs/index.html" in (site / "index.html").read_text("utf-8")
    assert "which keys look stolen" in " ".join((site / "docs/index.html").read_text().split())


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    files = [path for path in site.rglob("*") if path.suffix in (".html", ".css", ".js")]
    assert len(files) > 60
    found = {
        path.name: hits
        for path in files
        if (hits := LOADED.findall(path.read_text(encoding="utf-8")))
    }
    assert found == {}


@pytest.mark.parametrize(
    "text", ['<img src="https://a.example/x">', "@import '//a.example/y'", "url(https://a.example)"]
)
def test_what_is_loaded_from_elsewhere_would_be_found(text: str) -> None:
    assert LOADED.search(text)


@pytest.mark.slow
def test_what_is_generated_is_on_the_pages(site: Path) -> None:
    for name, needed in {
        "commands": "keywatch keys import", "settings": "KEYWATCH_SCORING__FALSE_REVOKE_RATE",
        "schemas": "lake_snapshot", "detectors": "unfamiliar_origin", "sources": "cloudtrail_",
    }.items():  # fmt: skip
        page = (site / "docs" / f"{name}.html").read_text(encoding="utf-8")
        text = re.sub(r"<[^>]*>", "", page)
        assert needed.rstrip("_") in text, name
        assert "generated:" not in page


def test_each_marker_names_a_part_and_each_part_is_used() -> None:
    pages = [path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")]
    named = [name for page in pages for name in GENERATED.findall(page)]
    assert sorted(named) == sorted([*reference.PARTS, "readme"])


def test_each_setting_states_its_meaning() -> None:
    assert reference.undescribed() == []


def test_the_reference_of_the_settings_has_each_section_and_variable() -> None:
    text = reference.settings()
    assert {name for name in Settings.model_fields if f"\n## {name}\n" not in f"\n{text}"} == set()
    assert "`KEYWATCH_STORAGE__S3__ENDPOINT`" in text
    assert "| `false_revoke_rate` | number, more than 0, less than 1 | `0.05` |" in text
    assert "| `routing_key` | [secret](#secrets) | required |" in text


def test_the_reference_of_the_commands_has_each_command_with_its_options() -> None:
    text = reference.commands()
    sections = dict(re.findall(r"^##+ (keywatch .*)\n((?:(?!^##).*\n)*)", text, re.MULTILINE))
    assert set(sections) == {f"keywatch {' '.join(words)}" for words, _ in reference.walk(app)}
    for words, part in reference.walk(app):
        section = sections[f"keywatch {' '.join(words)}"]
        assert f"\nkeywatch {' '.join(words)}" in section  # its usage or an example
        if part.default_command is not None:
            names = {name for one in part.assemble_argument_collection() for name in one.names[:1]}
            shared = {"--lake", "--config", "*"}
            known = section.lower()
            assert {n for n in names - shared if n.lower().lstrip("-") not in known} == set(), words


def test_the_reference_of_detectors_has_what_each_states() -> None:
    text = reference.detectors()
    for one in load_detectors():
        section = text.partition(f"\n## {one.id}\n")[2].partition("\n## ")[0]
        assert reference.plain(one.title) in section
        assert reference.plain(one.about.known_gaps) in section
        assert reference.plain(one.about.false_positives) in section
        assert one.technique in section
        assert "Tactics: " in section
        assert {name for name in one.params if f"`{name} = " not in section} == set()


def test_the_reference_of_sources_has_each_form() -> None:
    text = reference.sources()
    names = [each.name for one in vendors() for each in one.sources]
    names += [each.name for one in vendors() for each in (*one.inventories, *one.leak_reports)]
    assert len(names) > 20
    assert [name for name in names if f"`{name}`" not in text] == []


def test_the_fields_of_the_documents_are_described() -> None:
    rows = [line.split(" | ") for line in reference.schemas().splitlines() if line[:3] == "| `"]
    assert len(rows) > 200
    assert [row for row in rows if len(row) != 3 or len(row[2].strip(" |")) < 4] == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see --schema for a_b | *", "see `--schema` for a\\_b \\| \\*"),
        ("``x|y`` and `z`, then", "`x\\|y` and `z`, then"),
    ],
)
def test_text_of_the_code_becomes_markdown(text: str, shown: str) -> None:
    assert reference.marked(text) == shown
