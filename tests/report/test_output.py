"""What is shown, as a file: who may read it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from keywatch.errors import UsageError
from keywatch.report.output import write_whole


def test_a_report_is_for_its_owner_alone_whatever_the_process_allows(tmp_path: Path) -> None:
    file = tmp_path / "review.html"
    allowed = os.umask(0)
    try:
        write_whole(file, "one")
        write_whole(file, "two")
    finally:
        os.umask(allowed)
    assert file.read_text("utf-8") == "two"
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_a_report_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere/review\.html: can't be written \(No such file"):
        write_whole(tmp_path / "nowhere" / "review.html", "one")
