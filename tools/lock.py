"""Make the locks again from pyproject.toml: `make lock`, or `make lock ARGS=--upgrade`.

requirements.lock is for every Python that pyproject.toml admits and every platform: the run-time
packages, the extras, the developers' tools and the build backend, each with the hashes of all of
its published files. Versions already locked are kept unless `--upgrade` or `--upgrade-package NAME`
is given. The locks in deploy/, for the image, have those packages of it that an image needs.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
DEVELOPERS = "requirements.lock"
SLOW = ("rfc3987-syntax", "lark")
"""Left out: jsonschema checks a format with them that nothing here uses, if they are there, and
takes a second for it whenever it is imported: in each notebook, chart and flow."""
LOCKS = {
    DEVELOPERS: [
        "pyproject.toml", "--all-extras", "--group=dev",
        *(f"--no-emit-package={name}" for name in SLOW),
    ],
    "deploy/requirements.lock": [
        "pyproject.toml", "--extra=shared", "--extra=cluster", "--extra=flows", "--extra=triage",
        "--extra=slack",
    ],
    "deploy/build.lock": ["--group=build"],
}  # fmt: skip
"""Each lock with what it is made of, the first one first: the others have its versions."""


class Locked(NamedTuple):
    """A package's entry in a lock."""

    version: str
    hashes: list[str]
    """SHA-256 of each of its files, in hexadecimal."""


def locked(lock: Path = ROOT / DEVELOPERS) -> dict[str, Locked]:
    """Each package of a lock; ValueError for a line that is no entry, hash or comment."""
    entries: dict[str, Locked] = {}
    name = ""
    for line in lock.read_text(encoding="utf-8").splitlines():
        if entry := re.match(r"([a-z0-9-]+)==([^ ;]+)", line):
            name = entry[1]
            if name in entries:
                raise ValueError(f"{lock}: {name} is locked twice")
            entries[name] = Locked(entry[2], [])
        elif hashed := re.match(r"    --hash=sha256:([0-9a-f]{64})(?: \\)?$", line):
            entries[name].hashes.append(hashed[1])
        elif line and not line.lstrip().startswith("#"):
            raise ValueError(f"{lock}: neither entry, hash nor comment: {line!r}")
    return entries


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
        compile_lock = [
            str(find_uv(Path(scratch))),
            "pip",
            "compile",
            "--quiet",
            "--no-config",
            "--universal",
            "--python-version=3.11",
            # One version of a package for all Pythons: what is tested on one is what runs on each.
            "--fork-strategy=fewest",
            "--generate-hashes",
            "--no-emit-index-url",
            "--no-emit-find-links",
            "--annotation-style=line",
            "--custom-compile-command=make lock",
        ]
        for lock, chosen in LOCKS.items():
            given = options if lock == DEVELOPERS else ["--constraints", DEVELOPERS]
            command = [*compile_lock, f"--output-file={lock}", *chosen, *given]
            if code := subprocess.run(command, cwd=ROOT, check=False).returncode:
                return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
