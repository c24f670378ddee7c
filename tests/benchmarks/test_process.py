"""What a process of its own took."""

from __future__ import annotations

import sys

from benchmarks import process

LARGE = 256 * 2**20


def python(code: str, cpu_seconds: int = 60, mapped_bytes: int = 2**40) -> process.Took:
    return process.run(
        [sys.executable, "-I", "-c", code],
        most_cpu_seconds=cpu_seconds,
        most_mapped_bytes=mapped_bytes,
    )


def test_the_peak_is_of_the_command_not_of_who_starts_it() -> None:
    held = bytearray(b"x") * LARGE
    assert 2**20 < python("pass").peak_bytes < LARGE == len(held)
    assert python(f"bytearray(b'x') * {LARGE}").peak_bytes > LARGE


def test_it_says_how_the_command_ended_and_what_it_printed() -> None:
    took = python("import sys; print('said'); sys.exit(3)")
    assert (took.code, took.output) == (3, b"said\n")
    assert min(took.seconds, took.cpu_seconds) > 0
    assert python("import os; os.kill(os.getpid(), 9)").code == -9


def test_a_command_ends_at_its_limits() -> None:
    assert python("while True: pass", cpu_seconds=1).code < 0
    assert python(f"bytearray({2**40})", mapped_bytes=2**33).code == 1
