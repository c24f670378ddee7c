"""What a process of its own took: `ru_maxrss` that does not count who started it.

On Linux a process that was forked begins with the peak of its parent, which `exec` does not put
back: a command that a large benchmark or test starts seems as large as that. So a small process
starts the command and measures it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_STARTER = """
import json, os, resource, subprocess, sys, time
report, cpu_seconds, mapped_bytes, *command = sys.argv[1:]
for limit, most in (("RLIMIT_CPU", cpu_seconds), ("RLIMIT_AS", mapped_bytes)):
    if most:
        resource.setrlimit(getattr(resource, limit), (int(most), int(most)))
start = time.perf_counter()
code = subprocess.call(command)
seconds = time.perf_counter() - start
used = resource.getrusage(resource.RUSAGE_CHILDREN)
# Linux counts it in KiB, macOS in bytes.
peak_bytes = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
with open(int(report), "w") as out:
    json.dump([code, seconds, used.ru_utime + used.ru_stime, peak_bytes], out)
"""


@dataclass(frozen=True)
class Took:
    """What a command said and took, of the clock, the processor and memory.

    A negative `code` is the signal that ended it.
    """

    code: int
    output: bytes
    seconds: float
    cpu_seconds: float
    peak_bytes: int


def run(
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    stderr: int | None = None,
    most_cpu_seconds: int | None = None,
    most_mapped_bytes: int | None = None,
) -> Took:
    """Run a command to its end, within limits; `stderr` as `subprocess` takes it."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as report:
        with subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _STARTER, str(writing),
             str(most_cpu_seconds or ""), str(most_mapped_bytes or ""), *command],
            env=env, stdout=subprocess.PIPE, stderr=stderr, pass_fds=[writing],
        ) as process:  # fmt: skip
            os.close(writing)
            output, _ = process.communicate()
        code, *took = json.loads(report.read())
    return Took(code, output, *took)


def run_well(command: Sequence[str]) -> Took:
    """Run a command to its end.

    Raises SystemExit when it fails.
    """
    took = run(command)
    if took.code:
        raise SystemExit(f"exit code {took.code}: {' '.join(command)}")
    return took
