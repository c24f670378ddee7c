"""Build a release of the commit that is checked out: `make release`.

In dist/: the sdist and the wheel, the hashes of the packages to install with it, the packages with
versions and licences (CycloneDX), what changed, and SHA256SUMS of all. The same commit gives the
same bytes. `--snapshot` builds a commit without a tag, or with changes, to try it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.lock import locked  # noqa: E402
from tools.sbom import sbom  # noqa: E402


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Build a release of this commit.")
    parser.add_argument("--snapshot", action="store_true", help="without a tag, or with changes")
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="a new folder; dist")
    options = parser.parse_args(arguments)
    try:
        version = _output(sys.executable, "-m", "hatchling", "version")
        if not options.snapshot:
            check_commit(version)
        notes = notes_of(None if options.snapshot else version)
        if options.output.exists():
            raise ValueError(f"{options.output} exists: remove it, or name another with --output")
        build(version, notes, options.output)
    except ValueError as e:
        print(f"release: {e}", file=sys.stderr)
        return 2
    print(f"release: {version} in {options.output}")
    return 0


def check_commit(version: str) -> None:
    """Refuse what no tag names: raises ValueError."""
    if changed := _output("git", "status", "--porcelain"):
        raise ValueError(f"there are changes that no commit has:\n{changed}")
    if f"v{version}" not in _output("git", "tag", "--points-at", "HEAD").split():
        raise ValueError(f"no tag names this commit, {version}: tag it, or try --snapshot")


def notes_of(version: str | None) -> str:
    """The CHANGELOG's section of `version`, dated, or else its first: raises ValueError."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    title = r".*" if version is None else re.escape(version) + r" \(\d{4}-\d\d-\d\d\)"
    found = re.search(rf"^## {title}\n.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if not found:
        raise ValueError(f"CHANGELOG.md has no section '## {version} (YYYY-MM-DD)'")
    return found[0].strip() + "\n"


def build(version: str, notes: str, folder: Path) -> None:
    """Make all files of a release in a new folder."""
    made_at = _output("git", "log", "-1", "--format=%ct")
    folder.mkdir(parents=True)
    to = str(folder.resolve())
    _output(sys.executable, "-m", "hatchling", "build", "-d", to, SOURCE_DATE_EPOCH=made_at)
    (wheel,) = folder.glob("*.whl")
    name = f"keywatch-{version}"
    shutil.copyfile(ROOT / "deploy/requirements.lock", folder / f"{name}-requirements.txt")
    document = sbom(wheel, locked(), int(made_at))
    (folder / f"{name}.cdx.json").write_text(document, encoding="utf-8")
    (folder / f"{name}-notes.md").write_text(notes, encoding="utf-8")
    sums = [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n"
        for file in sorted(folder.iterdir())
    ]
    (folder / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")


def _output(*command: str | Path, **env: str) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | env, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ValueError(f"{' '.join(map(str, command))} failed:\n{done.stderr}")
    return done.stdout.rstrip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
