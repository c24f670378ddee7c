"""Make requirements.lock again from pyproject.toml: `make lock`, or `make lock ARGS=--upgrade`.

One file for every Python that pyproject.toml admits and every platform: the run-time packages, the
extras, the developers' tools and the build backend, each with the hashes of all of its published
files. Versions already locked are kept unless `--upgrade` or `--upgrade-package NAME` is given.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def find_uv(scratch: Path) -> Path:
    """The uv on PATH, else one installed for this run in a scratch environment."""
    if found := shutil.which("uv"):
        return Path(found)
    print("lock: no uv on PATH; fetching one for this run", flush=True)
    venv.create(scratch, with_pip=True)
    subprocess.run([scratch / "bin/python", "-m", "pip", "install", "-qq", "uv"], check=True)
    return scratch / "bin/uv"


def main(options: list[str]) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        command = [
            str(find_uv(Path(scratch))),
            "pip",
            "compile",
            "--quiet",
            "--no-config",
            "--universal",
            "--python-version=3.11",
            # One version of a package for all Pythons: what is tested on one is what runs on each.
            "--fork-strategy=fewest",
            "--all-extras",
            "--group=dev",
            "--generate-hashes",
            "--no-emit-index-url",
            "--no-emit-find-links",
            "--annotation-style=line",
            "--custom-compile-command=make lock",
            "--output-file=requirements.lock",
            *options,
            "pyproject.toml",
        ]
        return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
