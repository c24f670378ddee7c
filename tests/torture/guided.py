"""The readers of logs, fuzzed by atheris, which is guided by the coverage of their own code.

    pip install atheris
    python -m tests.torture.guided FOLDER -max_total_time=300 -seed=1

FOLDER keeps the inputs that reached something new; what follows are libFuzzer's options. Atheris is
no part of the lock, for it has wheels for some platforms only: ``make torture`` does without.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["keywatch.vendors"]):
    from keywatch.vendors import files
    from tests.torture.fuzz import Readers, Writer

SEEDS = 200
files.BLOCK_BYTES = 64 * 1024  # making room for a block takes longer than reading a small file


def main() -> None:
    """Fuzz until the time is over or a fault is found; libFuzzer ends the process."""
    corpus = Path(sys.argv[1])
    corpus.mkdir(parents=True, exist_ok=True)
    for nth, content in enumerate(Writer(0, []).small_files(SEEDS)):
        (corpus / f"seed{nth}").write_bytes(content)
    with tempfile.TemporaryDirectory(prefix="keywatch-fuzz-") as name:
        atheris.Setup([*sys.argv[:1], *sys.argv[2:], str(corpus)], Readers(Path(name)).read)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
