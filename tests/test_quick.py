"""Which tests `make quick` runs for a change."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.quick import beside


@pytest.mark.parametrize(
    ("file", "tests"),
    [
        ("src/keywatch/deliver/outbox.py", ["tests/deliver/test_outbox.py"]),
        ("src/keywatch/deliver/mail.py", ["tests/deliver"]),  # its tests lie in another file
        ("src/keywatch/pipeline.py", ["tests/test_pipeline.py"]),
        ("src/keywatch/model.py", []),
        ("detectors/honey_key/detect.sql", ["tests/detectors"]),
        ("vendors/aws/sources/cloudtrail.toml", ["tests/vendors"]),
        ("flows/watch.py", ["tests/flows"]),
        ("tests/test_house.py", ["tests/test_house.py"]),
        ("tests/test_gone.py", []),
        ("tests/conftest.py", []),
        ("README.md", []),
    ],
)
def test_the_tests_beside_a_file(file: str, tests: list[str]) -> None:
    assert beside([Path(file)]) == tests


def test_each_is_run_once() -> None:
    files = [Path("src/keywatch/deliver/mail.py"), Path("src/keywatch/deliver/slack.py")]
    assert beside(files) == ["tests/deliver"]
