"""The words of the glossary, in all that people read: one word a thing, and the trade's own."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.prose import DOCUMENTS, ROOT

SOURCE = ROOT / "src" / "keywatch"

BANNED = {
    r"somebody|nobody|everybody|anybody|whoever": "someone, no one, or the person: owner, thief",
    r"(?:is|are|was|were|be) told|told (?:of|that|in|again|together)": "notified, reported, sent",
    r"strange\w*": "unusual",
    r"refused calls?|refused requests?|refusals?|let in": "denied; accepted",
    r"judged?|judges|judging": "score, of a computation; verdict, of a person; assess, of keys",
    r"as ever|goes on|go on|in words": "as usual; continues, is active",
    r"o\'clock": "03:00 UTC",
    r"sure:|at the median": "confidence; after a median of",
    r"is no (?!longer|more)\w+ (?:address|file|folder|name|week|expression|day|JSON)": "is not a",
    r"there already|ahead of the clock": "a duplicate; dated in the future",
}
"""What is not said, and what is said in its place."""
IN_DOCUMENTS = {
    r"told|tells?|said|hears?|heard of": "reported, notified, stated",
    r"mend\w*": "fix, repair",
    r"anew|learnt|whom|besides|alike": "again, learned, in addition, the same",
    r"made (?:world|log|theft)s?|oddit\w+": "generated; anomaly",
    r"stands? (?:in|at|there|behind|beside|where|before)": "is in, is at",
    r"speaks? (?:for|against|of)": "supports; is evidence against",
    r"upkeep(?! = true|:)": "key hygiene; maintenance",
    r"of one's own|for who": "of your own; for those who",
}
"""What else documents do not say."""
_ANY = re.compile("|".join(rf"\b(?:{words})(?!\w)" for words in BANNED), re.IGNORECASE)
_IN_DOCUMENTS = re.compile(
    rf"{_ANY.pattern}|" + "|".join(rf"\b(?:{words})(?!\w)" for words in IN_DOCUMENTS),
    re.IGNORECASE,
)
_SQL = re.compile(r"\b(SELECT|FROM|INSERT|UPDATE|DELETE|WHERE|JOIN|sum\()")


def _shown_in(file: Path) -> Iterator[tuple[int, str]]:
    """The strings of a module but docstrings and SQL, with their lines; of the CLI its help too."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    is_help = file == SOURCE / "cli.py"
    docstrings = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and not is_help
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            is_text = " " in node.value.strip() and not _SQL.search(node.value)
            if is_text and id(node) not in docstrings:
                yield node.lineno, node.value


def _found(lines: Iterable[tuple[int, str]], banned: re.Pattern[str] = _ANY) -> list[str]:
    return [
        f"{line}: {hit[0]!r} in {text!r}" for line, text in lines for hit in banned.finditer(text)
    ]


def _prose_of(file: Path) -> Iterator[tuple[int, str]]:
    """The lines of a document, less what stands in code: names and outputs are the code's."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".md":
        text = re.sub(r"```.*?```", lambda m: "\n" * m[0].count("\n"), text, flags=re.DOTALL)
        text = re.sub(r"`[^`\n]*`|\[\w+\]\(tests/\w+\.toml\)", "", text)
    elif file.suffix == ".py":
        text = "\n".join(re.findall(r'mo\.md\("""(.*?)"""\)|title="[^"]*"', text, re.DOTALL))
    elif file.name == "Makefile":
        text = "\n".join(re.findall(r"## (.*)", text))
    else:
        text = "\n".join(re.findall(r"(?:# |[Dd]escription[:=] ?)(.*)", text))
    yield from enumerate(text.splitlines(), 1)


def _docstrings_in(file: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node.lineno, str(node.value.value)


HELP = [
    SOURCE / "__init__.py",
    *(SOURCE / "explore" / f"{name}.py"
      for name in ("notebook", "week", "key", "address", "rule", "lessons", "workbench")),
    *sorted((SOURCE / "settings").glob("*.py")), *sorted((ROOT / "flows").glob("*.py")),
]  # fmt: skip
"""Modules whose docstrings users read: by `help()`, of settings, and on Prefect's pages."""


@pytest.mark.parametrize("file", HELP, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_no_docstring_that_users_read_has_them(file: Path) -> None:
    found = list(_docstrings_in(file))
    assert found
    assert _found(iter(found), _IN_DOCUMENTS) == []
    assert _found(_shown_in(file)) == []


@pytest.mark.parametrize("name", ["text/review.schema.json", "deliver/message.schema.json"])
def test_no_description_of_a_schema_has_them(name: str) -> None:
    text = (SOURCE / name).read_text(encoding="utf-8")
    found = re.findall(r'"description": "((?:[^"\\]|\\.)*)"', text)
    assert len(found) > 40
    assert _found(enumerate(found), _IN_DOCUMENTS) == []


DEPLOYED = ("Containerfile", "compose.yaml", "keywatch.toml")
READ = [
    *DOCUMENTS, *sorted(ROOT.glob("notebooks/*.py")), *sorted(ROOT.glob("deploy/systemd/*")),
    *sorted(ROOT.glob("deploy/*.sh")), *(ROOT / "deploy" / name for name in DEPLOYED),
    ROOT / "Makefile", ROOT / "prefect.yaml",
]  # fmt: skip


@pytest.mark.parametrize("file", READ, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_no_document_has_them(file: Path) -> None:
    lines = list(_prose_of(file))
    assert lines
    assert _found(iter(lines), _IN_DOCUMENTS) == []


@pytest.mark.parametrize(
    "text", ["Somebody tries it", "is told of it", "16 refused calls", "judged"]
)
def test_the_words_are_found(text: str) -> None:
    assert _found(iter([(1, text)]))


@pytest.mark.parametrize(
    "text", ["the server refused the mail", "1 event", "no longer in use", "Stranger Inc. GmbH"[9:]]
)
def test_other_words_are_left_alone(text: str) -> None:
    assert _found(iter([(1, text)])) == []


@pytest.mark.parametrize(
    "package", sorted({path.parent.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py")})
)
def test_the_code_shows_none_of_them(package: str) -> None:
    if package.startswith("sample"):
        pytest.skip("a simulator: what it makes is a log")
    found = {
        file.name: hits
        for file in (SOURCE / package).glob("*.py")
        if (hits := _found(_shown_in(file)))
    }
    assert found == {}


CONTRACT = {"judged", "judged_benign", "judged_by", "weeks_to_judge"}
"""Names of fields, columns and a metric that others read."""


def test_the_code_scores_windows_and_people_give_verdicts() -> None:
    files = [file for file in SOURCE.rglob("*") if file.suffix in (".py", ".sql", ".j2", ".css")]
    words = {
        word.lower()
        for file in files
        for word in re.findall(r"\w*judg\w*", file.read_text(encoding="utf-8"), re.IGNORECASE)
    }
    assert words == CONTRACT


def test_detectors_and_vendors_show_none_of_them() -> None:
    found = {}
    for file in [*ROOT.glob("detectors/*/detector.toml"), *ROOT.glob("vendors/pulsely/*.toml")]:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
        texts = [value for value in table.values() if isinstance(value, str)]
        texts += [entry.get("why", "") for entry in table.get("endpoints", [])]
        texts += [value for value in table.get("runbook", {}).values() if isinstance(value, str)]
        found[f"{file.parent.name}/{file.name}"] = _found((0, text) for text in texts)
    for file in ROOT.glob("detectors/*/detect.sql"):
        literals = re.findall(r"'((?:[^']|'')*)'", re.sub(r"--[^\n]*", "", file.read_text("utf-8")))
        found[f"{file.parent.name}/{file.name}"] = _found((0, text) for text in literals)
    assert len(found) > 75
    assert {name: hits for name, hits in found.items() if hits} == {}


@pytest.mark.parametrize("file", sorted((SOURCE / "report" / "templates").glob("*.j2")), ids=str)
def test_the_pages_show_none_of_them(file: Path) -> None:
    text = re.sub(
        r"\{[{%#].*?[}%#]\}|<[^>]*>", " ", file.read_text(encoding="utf-8"), flags=re.DOTALL
    )
    assert _found((n, line) for n, line in enumerate(text.splitlines(), 1)) == []


def test_each_word_of_the_glossary_has_one_row() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    glossary = text.partition("## Words")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in glossary.splitlines() if line.startswith("| ")][2:]
    words = [word.strip() for row in rows for word in row.split(",")]
    assert sorted(set(words)) == sorted(words)
    needed = {"score", "verdict", "case", "test", "backtest", "replay", "group", "origin", "denied"}
    assert needed | {"request", "stored", "row", "hygiene"} <= set(words)
