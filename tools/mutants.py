"""Mutation testing by sample: does a test fail where the code is wrong?

    make mutants                                  200 mutants of each step; hours
    make mutants ARGS="outbox --count 40 --seed 7 --jobs 2"

A mutant is the code with one small mistake: a comparison, a constant, a condition, a statement, a
word of SQL. Each runs the tests of its step in a copy of this checkout; one that no test notices
has survived, and is named. The libraries mutate whole packages against one suite and know no SQL.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).resolve().parent.parent
LEAST_SECONDS = 300
"""A mutant gets as long, or ten times what the tests take: what goes on is killed by that."""


@dataclass(frozen=True)
class Step:
    """Code, and the tests that have to notice its mistakes."""

    code: tuple[str, ...]
    tests: tuple[str, ...]


STEPS = {
    "scoring": Step(
        ("src/keywatch/detect/scoring.py", "src/keywatch/detect/calibration.py"),
        ("tests/detect/test_scoring.py",),
    ),
    "ingest": Step(
        ("src/keywatch/load/ingest.py", "src/keywatch/load/activity.py",
         "src/keywatch/vendors/parser.py", "src/keywatch/vendors/redacted.sql",
         "src/keywatch/vendors/source.py"),
        ("tests/load/test_activity.py", "tests/load/test_hostile_input.py",
         "tests/load/test_ingest.py", "tests/load/test_ahead.py", "tests/text/test_secrets.py"),
    ),
    "alerts": Step(("src/keywatch/review/alerts.py",), ("tests/review/test_alerts.py",)),
    "outbox": Step(
        ("src/keywatch/deliver/outbox.py",),
        ("tests/deliver/test_outbox.py",),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A file with `before`, which stands at the character `start`, made `after`."""

    file: str
    line: int
    start: int
    before: str
    after: str

    def __str__(self) -> str:
        shown = (" ".join(text.split())[:80] for text in (self.before, self.after))
        return f"{self.file}:{self.line}: {' → '.join(shown)}"

    def applied(self, text: str) -> str:
        """The file's text with the mistake in it."""
        end = self.start + len(self.before)
        assert text[self.start : end] == self.before, f"{self}: the file is another by now"
        return text[: self.start] + self.after + text[end:]


# -------------------------------------------------------------------------------------- mistakes

_SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.And: ast.Or,
    ast.Or: ast.And, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr, ast.FloorDiv: ast.Mult,
}  # fmt: skip
_SQL_WORDS = re.compile(r"\b(?:SELECT|FROM|WHERE|UPDATE|DELETE|INSERT|CASE WHEN)\b")
_SQL_SWAPS = {
    r"<=": "<", r">=": ">", r"(?<![<>=-])<(?![=>])": "<=", r"(?<![<>=-])>(?!=)": ">=",
    r"(?<![<>=!:])=(?![=>])": "<>", r"<>": "=", r"\bAND\b": "OR", r"\bOR\b": "AND",
    r"\bmin\(": "max(", r"\bmax\(": "min(", r"\bIS NULL\b": "IS NOT NULL",
    r"\bIS NOT NULL\b": "IS NULL", r"\bSEMI JOIN\b": "ANTI JOIN", r"\bANTI JOIN\b": "SEMI JOIN",
    r"\bLEFT JOIN\b": "JOIN", r"\bIS NOT DISTINCT FROM\b": "=", r"\bDESC\b": "",
    r"\bNOT IN\b": "IN",
    r"\bNOT (?!NULL|IN|DISTINCT)": "", r" - ": " + ", r" \+ ": " - ",
}  # fmt: skip
_SQL_NUMBER = re.compile(r"(?<![\w.$'])\d+(?![\w.])")
_SQL_COMMENT = re.compile(r"--.*")


def mutants_of(file: str, text: str) -> list[Mutant]:
    """All mutants of a Python or SQL file, as they stand in it."""
    edits = _of_sql(text, 0) if file.endswith(".sql") else _of_python(text)
    return sorted(
        {
            Mutant(file, text.count("\n", 0, start) + 1, start, before, after)
            for start, before, after in edits
            if before != after
        },
        key=lambda one: (one.start, one.after),
    )


def _of_sql(text: str, offset: int) -> Iterator[tuple[int, str, str]]:
    text = _SQL_COMMENT.sub(lambda m: " " * len(m[0]), text)
    for pattern, after in _SQL_SWAPS.items():
        for found in re.finditer(pattern, text):
            yield offset + found.start(), found[0], after
    for found in _SQL_NUMBER.finditer(text):
        yield offset + found.start(), found[0], str(int(found[0]) + 1)


class _Code:
    """The text of a Python file by the places of its nodes."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._lines = [0]
        for line in text.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))

    def _at(self, line: int, column: int) -> int:
        start = self._lines[line - 1]
        # Columns of the tree are bytes of UTF-8.
        return start + len(self.text[start : self._lines[line]].encode()[:column].decode())

    def edit(self, node: ast.expr | ast.stmt, after: str) -> tuple[int, str, str]:
        """`node` replaced."""
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = self._at(node.lineno, node.col_offset)
        return start, self.text[start : self._at(node.end_lineno, node.end_col_offset)], after


def _of_python(text: str) -> Iterator[tuple[int, str, str]]:
    code = _Code(text)
    for node in _nodes(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            start, before, _ = code.edit(node, "")
            if _SQL_WORDS.search(node.value):
                yield from _of_sql(before, start)
        elif isinstance(node, ast.expr):
            for mistaken in _expressions(node):
                yield code.edit(node, f"({ast.unparse(mistaken)})")
        elif isinstance(node, (ast.If, ast.While)):
            yield code.edit(node.test, f"(not ({ast.unparse(node.test)}))")
        elif isinstance(node, ast.Return) and node.value is not None:
            yield code.edit(node, "return None")
        elif isinstance(node, (ast.Expr, ast.AugAssign, ast.Raise, ast.Continue, ast.Break)):
            yield code.edit(node, "pass")


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes that do something: no docstrings, annotations, decorators or f-strings."""
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for node in value if isinstance(value, list) else [value]:
            if not isinstance(node, ast.AST) or isinstance(node, (ast.JoinedStr, ast.Import)):
                continue
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                continue
            yield node
            yield from _nodes(node)


def _expressions(node: ast.expr) -> Iterator[ast.expr]:
    """`node` with each mistake that can be made in it."""
    if isinstance(node, ast.Compare):
        for nth, one in enumerate(node.ops):
            if swap := _SWAPS.get(type(one)):
                mistaken = copy.deepcopy(node)
                mistaken.ops[nth] = swap()  # type: ignore[call-overload]
                yield mistaken
    elif isinstance(node, (ast.BoolOp, ast.BinOp)):
        if swap := _SWAPS.get(type(node.op)):
            mistaken_op = copy.deepcopy(node)
            mistaken_op.op = swap()  # type: ignore[assignment]
            yield mistaken_op
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node.operand
    elif isinstance(node, ast.IfExp):
        yield ast.IfExp(node.test, node.orelse, node.body)
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield ast.Constant(not node.value)
        elif isinstance(node.value, (int, float)):
            yield ast.Constant(node.value + 1)


# --------------------------------------------------------------------------------------- the tests


class Copies:
    """Copies of this checkout, one a job, in which mutants are tried."""

    def __init__(self, folder: Path, jobs: int) -> None:
        self._free: SimpleQueue[Path] = SimpleQueue()
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        for nth in range(jobs):
            place = folder / f"copy{nth}"
            for name in filter(None, listed.split("\0")):
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, place / name)
            self._free.put(place)

    def survives(self, step: Step, mutant: Mutant | None, seconds: float) -> bool:
        """Whether all tests of the step pass, with the mutant in place.

        Raises:
            RuntimeError: there were no tests to run.
        """
        place = self._free.get()
        file = place / mutant.file if mutant else None
        text = file.read_text(encoding="utf-8") if file else ""
        try:
            if file and mutant:
                file.write_text(mutant.applied(text), encoding="utf-8")
            code = self._tests(step, place, seconds)
        finally:
            if file:
                file.write_text(text, encoding="utf-8")
            self._free.put(place)
        if code in (4, 5):
            raise RuntimeError(f"no tests were run: {' '.join(step.tests)}")
        return code == 0

    def _tests(self, step: Step, place: Path, seconds: float) -> int | None:
        """The exit code of pytest; None where it took too long."""
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider",
             *step.tests],
            cwd=place,
            # No bytecode: a file is changed twice within the second that tells its versions apart.
            env=os.environ | {"PYTHONPATH": f"{place / 'src'}{os.pathsep}{place}",
                              "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()
            return None


def sample(step: Step, count: int, seed: int) -> list[Mutant]:
    """`count` of the step's mutants, the same for the same seed and code."""
    found = [
        mutant
        for file in step.code
        for mutant in mutants_of(file, (ROOT / file).read_text(encoding="utf-8"))
    ]
    return random.Random(seed).sample(found, min(count, len(found)))


def try_step(name: str, copies: Copies, mutants: list[Mutant], jobs: int) -> list[Mutant]:
    """Print what became of the mutants of a step; returns those that survived.

    Raises:
        RuntimeError: its tests fail without a mutant too.
    """
    step, began = STEPS[name], time.monotonic()
    if not copies.survives(step, None, 3600):
        raise RuntimeError(f"{name}: its tests fail as the code is: {' '.join(step.tests)}")
    seconds = max(LEAST_SECONDS, 10 * (time.monotonic() - began))
    survivors = []
    with ThreadPoolExecutor(jobs) as threads:
        tried = threads.map(lambda one: copies.survives(step, one, seconds), mutants)
        for mutant, survived in zip(mutants, tried, strict=True):
            if survived:
                survivors.append(mutant)
                print(f"  survived: {mutant}", flush=True)
    killed = len(mutants) - len(survivors)
    print(f"{name}: {killed} of {len(mutants)} killed ({killed / len(mutants):.0%})", flush=True)
    return survivors


def main() -> int:
    """Try the mutants of the steps; 1 where fewer are killed than asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("steps", nargs="*", choices=[*STEPS, []], help="all if none is named")
    parser.add_argument("--count", type=int, default=200, help="mutants of a step")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--least", type=float, default=0.85, help="the share that is to be killed")
    given = parser.parse_args()
    print(f"mutants: seed {given.seed}", flush=True)
    enough = True
    with tempfile.TemporaryDirectory(prefix="keywatch-mutants-") as name:
        copies = Copies(Path(name), given.jobs)
        for step in given.steps or STEPS:
            mutants = sample(STEPS[step], given.count, given.seed)
            survivors = try_step(step, copies, mutants, given.jobs)
            enough &= 1 - len(survivors) / len(mutants) >= given.least
    return 0 if enough else 1


if __name__ == "__main__":
    sys.exit(main())
