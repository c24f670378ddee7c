"""`tools/mutants.py`: the mistakes it makes, and how it tells whether a test noticed."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT


def load() -> Any:
    spec = importlib.util.spec_from_file_location("mutants", ROOT / "tools" / "mutants.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutants"] = module
    spec.loader.exec_module(module)
    return module


mutants = load()

CODE = '''
"""A docstring of 1."""
def f(a: Literal[3] = 2) -> int:
    if a < 2 and not b:
        run("SELECT x FROM t WHERE a = 5 -- 7")
    return f"{a + 1}é" if a else a - 1
'''


def test_each_mistake_is_made_once_and_where_it_belongs() -> None:
    found = mutants.mutants_of("f.py", CODE)
    assert {(one.line, one.before, one.after) for one in found} == {
        (3, "2", "(3)"),
        (4, "a < 2 and not b", "(a < 2 or not b)"),
        (4, "a < 2 and not b", "(not (a < 2 and (not b)))"),
        (4, "a < 2", "(a <= 2)"),
        (4, "2", "(3)"),
        (4, "not b", "(b)"),
        (5, 'run("SELECT x FROM t WHERE a = 5 -- 7")', "pass"),
        (5, "=", "<>"),
        (5, "5", "6"),
        (6, 'return f"{a + 1}é" if a else a - 1', "return None"),
        (6, 'f"{a + 1}é" if a else a - 1', "(a - 1 if a else f'{a + 1}é')"),
        (6, "a - 1", "(a + 1)"),
        (6, "1", "(2)"),
    }
    for one in found:
        ast.parse(one.applied(CODE))


@pytest.mark.parametrize("name", mutants.STEPS)
def test_every_step_has_code_to_change_and_tests_to_run(name: str) -> None:
    step = mutants.STEPS[name]
    assert all((ROOT / test).is_file() for test in step.tests)
    found = mutants.sample(step, 10_000, 1)
    assert len(found) > 100
    assert {one.file for one in found} == set(step.code)
    for one in (one for one in found[:20] if one.file.endswith(".py")):
        ast.parse(one.applied((ROOT / one.file).read_text(encoding="utf-8")))
    assert mutants.sample(step, 5, 7) == mutants.sample(step, 5, 7)


def test_a_mutant_is_killed_by_a_test_that_fails_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "src").mkdir()
    code = tmp_path / "src" / "doubled.py"
    code.write_text("def doubled(n):\n    return n * 2\n")
    (tmp_path / "test_it.py").write_text(
        "from doubled import doubled\n\ndef test():\n    assert doubled(2) == 4\n"
    )
    (tmp_path / "test_no.py").write_text("")
    copies = mutants.Copies.__new__(mutants.Copies)
    copies._free = mutants.SimpleQueue()
    copies._free.put(tmp_path)
    step = mutants.Step(("src/doubled.py",), ("test_it.py",))
    before = code.read_text()
    by_after = {one.after: one for one in mutants.mutants_of("src/doubled.py", before)}
    assert set(by_after) == {"(n / 2)", "(3)", "return None"}
    assert copies.survives(step, None, 300)
    assert not copies.survives(step, by_after["(3)"], 300)
    with pytest.raises(RuntimeError, match=r"no tests were run: test_no\.py"):
        copies.survives(mutants.Step((), ("test_no.py",)), None, 300)
    assert code.read_text() == before
