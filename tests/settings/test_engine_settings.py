"""Where a review is made: in the file, and by the words of a command."""

from __future__ import annotations

from pathlib import Path

import pytest

from keywatch.errors import SettingsError, UsageError
from keywatch.settings import Settings, load_settings


@pytest.mark.parametrize(
    ("words", "kind", "scheduler"),
    [
        ("local", "local", None),
        ("dask", "dask", None),
        ("dask:tcp://10.0.0.5:8786", "dask", "tcp://10.0.0.5:8786"),
        ("dask:tls://[2001:db8::5]:8786", "dask", "tls://[2001:db8::5]:8786"),
    ],
)
def test_a_command_names_an_engine_and_the_file_its_workers(
    words: str, kind: str, scheduler: str | None, tmp_path: Path
) -> None:
    file = tmp_path / "keywatch.toml"
    file.write_text('[engine]\nkind = "dask"\nscheduler = "tcp://other:1"\nworkers = 3\n')
    engine = load_settings(file).on_engine(words).engine
    assert (engine.kind, engine.scheduler, engine.workers) == (kind, scheduler, 3)


@pytest.mark.parametrize(
    "words", ["", "ray", "dask:host:8786", "dask:http://host:1", "local:tcp://host:1"]
)
def test_words_that_name_no_engine_are_refused(words: str) -> None:
    with pytest.raises(UsageError, match="--engine"):
        Settings().on_engine(words)


@pytest.mark.parametrize(
    "values",
    ['kind = "ray"', 'scheduler = "tcp://host:1"', 'kind = "dask"\nscheduler = "host"',
     'kind = "dask"\nworkers = 0'],
)  # fmt: skip
def test_an_engine_that_can_not_be_is_an_error_of_the_file(values: str, tmp_path: Path) -> None:
    file = tmp_path / "keywatch.toml"
    file.write_text(f"[engine]\n{values}\n")
    with pytest.raises(SettingsError, match="engine"):
        load_settings(file)


def test_the_engine_is_no_part_of_how_a_review_is_scored() -> None:
    assert Settings().on_engine("dask").config_hash == Settings().config_hash
