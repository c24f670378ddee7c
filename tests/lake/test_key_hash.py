"""One secret for all machines of a lake: what has another one is refused before it writes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from keywatch import pipeline
from keywatch.errors import LakeDamagedError, SecretError
from keywatch.lake import Lake
from keywatch.lake.key_hash import OwnSecret, fingerprint
from keywatch.operate.diagnosis import diagnose_lake
from keywatch.operate.repair import repair
from keywatch.settings import LakeSettings, Settings
from keywatch.settings.secret_ref import SecretRef
from tests.command import keywatch
from tests.conftest import NoWhere, as_json_lines, event
from tests.operate.test_damage import NOW

FULL = "ply_live_prod_" + "4f8a2c91" * 4
ONE, OTHER = "1e" * 32, "07" * 32


def machine(folder: Path, **storage: Any) -> LakeSettings:
    """The settings of a machine of the lake that is in `folder`."""
    place = {"catalog": f"sqlite:{folder / 'catalog.sqlite'}", "data_path": str(folder / "data")}
    return LakeSettings.model_validate(place | storage)


def load(home: Path, storage: LakeSettings, name: str) -> Path:
    """A log with a full key, loaded by a machine whose folder is `home`."""
    log = home.parent / f"{name}.jsonl"
    log.write_bytes(as_json_lines([event(request_id=name, key=FULL)]))
    settings = Settings().without_power().model_copy(update={"storage": storage})
    pipeline.ingest(home, [str(log)], settings)
    return log


def test_two_machines_with_one_secret_give_a_key_one_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKES_SECRET", f" {ONE}\n")
    (tmp_path / "secret").write_text(ONE)
    places = {"a": {"env": "LAKES_SECRET"}, "b": {"file": tmp_path / "secret"}}
    for name, place in places.items():
        load(tmp_path / name, machine(tmp_path, key_hash_secret=place), name)
        assert not (tmp_path / name / "key-hash.secret").exists()
    with Lake.open(tmp_path / "a", machine(tmp_path, key_hash_secret=places["a"])) as lake:
        assert lake.rows("SELECT count(*), count(DISTINCT key) FROM lake.events") == [(2, 1)]
        assert lake.secret_fingerprint == fingerprint(bytes.fromhex(ONE))
        assert lake.check_secret()


def test_a_machine_with_another_secret_writes_nothing(tmp_path: Path) -> None:
    load(tmp_path / "a", machine(tmp_path), "a")
    made = (tmp_path / "a" / "key-hash.secret").read_text().strip()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "key-hash.secret").write_text(OTHER)
    with Lake.open(tmp_path / "a", machine(tmp_path)) as lake:
        before = lake.snapshot
    told = fingerprint(bytes.fromhex(OTHER)), fingerprint(bytes.fromhex(made))
    with pytest.raises(SecretError, match=f"{told[0]}.*is not the lake's.*{told[1]}") as raised:
        load(tmp_path / "b", machine(tmp_path), "b")
    assert made not in str(raised.value)
    assert OTHER not in str(raised.value)
    with Lake.open(tmp_path / "b", machine(tmp_path)) as lake:
        assert lake.snapshot == before
        with pytest.raises(SecretError, match="not the lake's"), lake.writing():
            lake.execute("DELETE FROM lake.events")
        assert lake.snapshot == before
        assert lake.value("SELECT count(*) FROM lake.events") == 1


def test_a_machine_without_the_secret_reviews_and_does_not_load(tmp_path: Path) -> None:
    load(tmp_path / "a", machine(tmp_path), "a")
    settings = Settings().without_power().model_copy(update={"storage": machine(tmp_path)})
    assert pipeline.review(tmp_path / "b", None, settings).coverage.keys == 1
    with pytest.raises(SecretError, match="does not have the key-hash secret of the shared lake"):
        load(tmp_path / "b", settings.storage, "b")
    assert not (tmp_path / "b" / "key-hash.secret").exists()
    found = diagnose_lake(tmp_path / "b", settings)
    assert [one.status for one in found if one.check == "secret"] == ["note"]
    with Lake.open(tmp_path / "a", machine(tmp_path)) as lake:
        assert lake.rows("SELECT request_id FROM lake.events") == [("a",)]
        assert lake.value("SELECT count(*) FROM lake.runs") == 1


def test_what_is_no_secret_is_told_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKES_SECRET", "not-64-hex-digits")
    toml = tmp_path / "keywatch.toml"
    toml.write_text('[storage]\nkey_hash_secret = { env = "LAKES_SECRET" }\n')
    log = tmp_path / "log.jsonl"
    log.write_bytes(as_json_lines([event()]))
    ran = keywatch("ingest", log, "--lake", tmp_path / "lake", "--config", toml)
    assert ran.code == SecretError.exit_code
    assert "env LAKES_SECRET: not a key-hash secret (64 hex digits)" in ran.err
    assert "not-64-hex-digits" not in ran.err
    assert list((tmp_path / "lake").rglob("*.parquet")) == []


def test_a_repair_makes_the_named_secret_the_lake_s(tmp_path: Path) -> None:
    load(tmp_path / "lake", LakeSettings(), "a")
    (tmp_path / "secret").write_text(OTHER)
    named = LakeSettings(key_hash_secret=SecretRef(file=tmp_path / "secret"))
    report = repair(tmp_path / "lake", named, NoWhere(), NOW)
    assert report.done == []
    assert "is not the lake's" in report.left[0]
    report = repair(tmp_path / "lake", named, NoWhere(), NOW, new_secret=True)
    assert "is the lake's now" in report.done[0]
    load(tmp_path / "lake", named, "b")
    with pytest.raises(SecretError, match="is not the lake's"):
        load(tmp_path / "lake", LakeSettings(), "c")


def test_a_lake_that_lost_its_secret_gets_no_other_by_itself(tmp_path: Path) -> None:
    Lake.open(tmp_path / "lake", create=True).close()
    (tmp_path / "lake" / "key-hash.secret").unlink()
    with pytest.raises(LakeDamagedError, match="missing, and the lake has keys"):
        load(tmp_path / "lake", LakeSettings(), "a")
    repair(tmp_path / "lake", LakeSettings(), NoWhere(), NOW, new_secret=True)
    load(tmp_path / "lake", LakeSettings(), "a")


def test_a_block_of_prefect_that_can_t_be_asked_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prefect.blocks.system", None)
    storage = LakeSettings(key_hash_secret=SecretRef(prefect="lake-secret"))
    with pytest.raises(SecretError, match="lake-secret can't be read: Prefect is not installed"):
        OwnSecret(Path("nowhere"), storage).find()
