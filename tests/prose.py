"""The documents of the repository, which people read."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(
    file
    for pattern in (
        "*.md", "docs/*.md", "detectors/README.md", "detectors/*/README.md", "vendors/README.md",
        "data/*/README.md",
    )
    for file in ROOT.glob(pattern)
)  # fmt: skip
NAMES = [file.relative_to(ROOT).as_posix() for file in DOCUMENTS]
