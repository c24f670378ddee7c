"""Make the locks again from pyproject.toml: `make lock`, or `make lock ARGS=--upgrade`.

requirements.lock is for every Python that pyproject.toml admits and every platform: the run-time
packages, the extras, the developers' tools and the build backend, each with the hashes of all of
its published files. Versions already locked are kept unless `--upgrade` or `--upgrade-package NAME`
is given. The locks in deploy/, for the image, have those packages of it that an image needs.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEVELOPERS = "requirements.lock"
LOCKS = {
    DEVELOPERS: ["pyproject.toml", "--all-extras", "--group=dev"],
    "deploy/requirements.lock": [
        "pyproject.toml", "--extra=shared", "--extra=cluster", "--extra=flows", "--extra=triage",
        "--extra=slack",
    ],
    "deploy/build.lock": ["--group=build"],
}  # fmt: skip
"""Each lock with what it is made of, the first one first: the others have its versions."""


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
