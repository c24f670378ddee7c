"""The tests beside what a change touches, without the slow ones: `make quick`.

A module's tests lie as it does: ``src/keywatch/review/alerts.py`` has
``tests/review/test_alerts.py``, or else all of ``tests/review``; a detector has its cases and a
vendor its tests. What is touched is what differs from the branch ``main``, or from the last commit
where that is the branch.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def touched() -> list[Path]:
    """The files that differ, relative to the checkout, and those that git does not know yet."""
    base = _git("merge-base", "HEAD", "main") or _git("rev-parse", "HEAD")
    listed = [*_git("diff", "--name-only", *base).splitlines(),
              *_git("ls-files", "--others", "--exclude-standard").splitlines()]  # fmt: skip
    return [Path(name) for name in listed]


def beside(files: Iterable[Path]) -> list[str]:
    """What pytest is to run for these files, each once; empty where no test lies beside them."""
    found: dict[str, None] = {}
    for file in files:
        for test in _beside_one(file):
            found[test] = None
    return list(found)


def _beside_one(file: Path) -> list[str]:
    match file.parts:
        case ("tests", *_) if file.name.startswith("test_") and (ROOT / file).exists():
            return [str(file)]
        case ("src", "keywatch", *folders, name):
            folder = Path("tests", *folders)
            test = folder / f"test_{Path(name).stem.strip('_')}.py"
            if (ROOT / test).exists():
                return [str(test)]
            return [str(folder)] if folders and (ROOT / folder).is_dir() else []
        case ("detectors" | "vendors" as content, *_):
            return [f"tests/{content}"]
        case ("flows", *_):
            return ["tests/flows"]
    return []


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def main() -> int:
    """Run them; pytest's exit code, 0 where there are none."""
    tests = beside(touched())
    if not tests:
        print("quick: no tests lie beside what has changed")
        return 0
    print(f"quick: {', '.join(tests)}", flush=True)
    words = ["-m", "pytest", "-q", "-m", "not slow", "-n", "auto", *tests, *sys.argv[1:]]
    code = subprocess.run([sys.executable, *words], cwd=ROOT, check=False).returncode
    return 0 if code == 5 else code  # all of them are slow ones


if __name__ == "__main__":
    sys.exit(main())
