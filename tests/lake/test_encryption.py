"""A lake whose Parquet files are encrypted, with keys in its catalogue."""

from __future__ import annotations

from pathlib import Path

import pytest

from keywatch import pipeline
from keywatch.errors import SettingsError
from keywatch.lake import METADATA, Lake
from keywatch.operate import integrity, maintain
from keywatch.settings import LakeSettings, Settings
from tests.conftest import as_json_lines, events

ENCRYPTED = LakeSettings(encrypted=True)
ADDRESS = "198.51.100.77"


def loaded(tmp_path: Path, storage: LakeSettings) -> Path:
    log = tmp_path / "log.jsonl"
    log.write_bytes(as_json_lines(events(200, ip=ADDRESS, user_agent="wiretap-agent/9.9")))
    settings = Settings().without_power().model_copy(update={"storage": storage})
    pipeline.ingest(tmp_path / "lake", [str(log)], settings)
    return tmp_path / "lake"


def test_no_parquet_file_can_be_read_without_the_catalogue(tmp_path: Path) -> None:
    folder = loaded(tmp_path, ENCRYPTED)
    files = list((folder / "data").rglob("*.parquet"))
    assert len(files) > 5
    for file in files:
        content = file.read_bytes()
        assert (content[:4], content[-4:]) == (b"PARE", b"PARE")
        assert ADDRESS.encode() not in content
    with Lake.open(folder) as lake:  # as it was created, whatever the settings do not say
        assert lake.is_encrypted
        assert lake.rows("SELECT count(*), any_value(address) FROM lake.events") == [(200, ADDRESS)]
        assert list(integrity.faults(lake, deep=True)) == []
        with Lake.scratch() as stranger, pytest.raises(Lake.Error, match="encrypted"):
            stranger.rows("FROM read_parquet($path)", path=str(files[0]))
        settings = Settings().without_power()
        assert pipeline.review(folder, None, settings).coverage.keys == 1
        assert maintain.forget(lake, ADDRESS).deleted["events"] == 200
    after = (folder / "data").rglob("*.parquet")
    assert {file.read_bytes()[:4] for file in after} == {b"PARE"}


def test_damage_of_an_encrypted_file_is_found(tmp_path: Path) -> None:
    folder = loaded(tmp_path, ENCRYPTED)
    file = next((folder / "data").rglob("events/*.parquet"))
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 0xFF
    file.write_bytes(content)
    with Lake.open(folder) as lake:
        key = lake.value(f"SELECT encryption_key FROM {METADATA}.ducklake_data_file LIMIT 1")
        found = list(integrity.faults(lake, deep=True))
    assert [fault.file.table for fault in found] == ["events"]
    assert key not in f"{found[0]} {found[0].file!r}"


@pytest.mark.parametrize("is_encrypted", [True, False])
def test_a_lake_stays_as_it_was_created(tmp_path: Path, is_encrypted: bool) -> None:
    Lake.open(tmp_path / "lake", LakeSettings(encrypted=is_encrypted), create=True).close()
    for same in (None, is_encrypted):
        with Lake.open(tmp_path / "lake", LakeSettings(encrypted=same)) as lake:
            assert lake.is_encrypted is is_encrypted
    with pytest.raises(SettingsError, match="a lake stays as it was created"):
        Lake.open(tmp_path / "lake", LakeSettings(encrypted=not is_encrypted))
