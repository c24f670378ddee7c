"""`keywatch lake init` and `status`, of local and shared lakes."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path

import jsonschema
import pytest

from keywatch.errors import LakeError, SecretError
from keywatch.lake import FORMAT_VERSION, Lake
from keywatch.operate import maintain
from keywatch.operate.lake_status import LakeStatus, lake_status, render_status, status_schema
from keywatch.settings import LakeSettings
from tests import postgres
from tests.command import keywatch
from tests.conftest import Loading, as_json_lines, events
from tests.lake.test_key_hash import ONE, OTHER, machine

PASSWORD = "not-to-be-shown"


def status_of(lake: Path, *options: str | Path, secret: str = ONE) -> LakeStatus:
    """What the command says as JSON, which its schema describes."""
    ran = keywatch(
        "lake", "status", "--format", "json", "--lake", lake, *options, LAKES_SECRET=secret
    )
    assert (ran.code, ran.err) == (0, "")
    document = json.loads(ran.out)
    jsonschema.Draft202012Validator(status_schema()).validate(document)
    return LakeStatus.model_validate(document)


def test_a_new_lake_is_made_once_and_loaded(tmp_path: Path) -> None:
    assert keywatch("lake", "status", cwd=tmp_path).code == LakeError.exit_code
    made = keywatch("lake", "init", cwd=tmp_path)
    assert made.code == 0
    assert f"created, format {FORMAT_VERSION}" in made.out
    assert "Load a log: keywatch ingest PATH --lake lake" in made.out
    assert f"found, format {FORMAT_VERSION}" in keywatch("lake", "init", cwd=tmp_path).out
    log = tmp_path / "log.jsonl"
    log.write_bytes(as_json_lines(events(70)))
    assert keywatch("ingest", log, cwd=tmp_path).code == 0
    status = status_of(tmp_path / "lake")
    assert (status.events, status.log_files, status.days, status.keys) == (70, 1, 1, 1)
    assert (status.is_shared, status.is_encrypted, status.is_read_only) == (False, False, False)
    assert (status.secret, status.writer, status.last_maintained) == ("same", None, None)
    sizes = [file.stat().st_size for file in (tmp_path / "lake" / "data").rglob("*.parquet")]
    assert (status.parquet_files, status.data_bytes) == (len(sizes), sum(sizes))
    assert status.id == (tmp_path / "lake" / "data" / "lake.id").read_text().strip()
    said = keywatch("lake", "status", cwd=tmp_path).out
    assert f"Lake {status.id} (local, format {FORMAT_VERSION})" in said
    assert "70 events of 1 key on 1 day, 2026-09-30 to 2026-09-30, from 1 log file" in said


def test_each_field_is_described() -> None:
    schema = json.loads(keywatch("lake", "status", "--schema").out)
    assert schema == status_schema()
    fields = schema["properties"]
    assert {name for name, field in fields.items() if "description" not in field} == set()


def test_who_writes_and_what_is_due_is_told(loading: Loading) -> None:
    loading.take(events(3))
    folder = loading.folder / "lake"
    with Lake.open(folder) as other:
        assert lake_status(other, LakeSettings()).needs == ()
        with loading.lake.writing():
            status = lake_status(other, LakeSettings())
            assert status.writer == f"process {os.getpid()}"
            assert "1 transaction of this machine did not end" in status.needs[-1]
        assert other.writer() is None
        with loading.lake.writing():
            loading.lake.execute("UPDATE lake.ingested_files SET loaded_at = '2026-01-01'")
            loading.lake.execute("INSERT INTO lake.maintenance VALUES (NULL, 'to purge', NULL)")
        assert lake_status(other, LakeSettings()).needs == (
            "Maintenance is due: keywatch lake maintain",
            "An erasure is not complete: keywatch lake maintain",
        )


def test_a_machine_that_joins_is_checked(tmp_path: Path) -> None:
    storage = machine(tmp_path)
    toml = tmp_path / "keywatch.toml"
    toml.write_text(
        f'[storage]\ncatalog = "{storage.catalog}"\ndata_path = "{storage.data_path}"\n'
        'key_hash_secret = { env = "LAKES_SECRET" }\n'
    )
    made = keywatch("lake", "init", "--lake", "a", cwd=tmp_path, LAKES_SECRET=ONE)
    assert "Each other machine needs these [storage] settings" in made.out
    assert ONE not in made.out
    refused = keywatch("lake", "init", "--lake", "b", cwd=tmp_path, LAKES_SECRET=OTHER)
    assert refused.code == SecretError.exit_code
    assert "is not the lake's" in refused.err
    joined = keywatch("lake", "init", "--lake", "b", cwd=tmp_path, LAKES_SECRET=ONE)
    assert f"found, format {FORMAT_VERSION}" in joined.out
    said = keywatch("doctor", "--lake", "c", cwd=tmp_path, LAKES_SECRET=OTHER)
    assert "BAD  c: this machine's key-hash secret (env LAKES_SECRET" in said.out
    of_other = status_of(tmp_path / "b", "--config", toml, secret=OTHER)
    assert (of_other.is_shared, of_other.secret) == (True, "other")
    assert "storage.key_hash_secret" in of_other.needs[0]
    assert status_of(tmp_path / "b", "--config", toml).secret == "same"


@pytest.mark.skipif(postgres.programs() is None, reason="no PostgreSQL server programs here")
def test_maintenance_adds_indexes_that_a_catalogue_lacks(tmp_path: Path) -> None:
    with postgres.server() as catalog:
        storage = LakeSettings.model_validate({"catalog": catalog, "data_path": f"{tmp_path}/data"})
        with Lake.open(tmp_path / "a", storage, create=True) as lake:
            made = indexes_of(lake)
            server = lake.server()
            assert server is not None
            with closing(server):
                server.execute("DROP INDEX keywatch_files, keywatch_file_statistics")
            assert indexes_of(lake) < made
            maintain.maintain(lake, storage)
            assert indexes_of(lake) == made


def indexes_of(lake: Lake) -> set[str]:
    """The indexes that the catalogue's server has."""
    server = lake.server()
    assert server is not None
    with closing(server):
        return {name for (name,) in server.rows("SELECT indexname FROM pg_indexes")}


@pytest.mark.skipif(postgres.programs() is None, reason="no PostgreSQL server programs here")
def test_a_lake_in_postgresql_is_told_without_its_password(tmp_path: Path) -> None:
    with postgres.server() as catalog:
        secret = tmp_path / "secret"
        secret.write_text(ONE)
        storage = LakeSettings.model_validate(
            {
                "catalog": f"{catalog} password={PASSWORD}",
                "data_path": str(tmp_path / "data"),
                "key_hash_secret": {"file": secret},
            }
        )
        with (
            Lake.open(tmp_path / "a", storage, create=True) as one,
            Lake.open(tmp_path / "b", storage) as two,
        ):
            assert lake_status(two, storage).writer is None
            with one.writing():
                status = lake_status(two, storage)
            assert status.writer is not None
            assert status.writer.endswith(f"user {postgres.USER}, from 127.0.0.1")
            assert status.catalogue_bytes > 0
            assert indexes_of(one) >= {"keywatch_files", "keywatch_file_statistics"}
            said = "\n".join(render_status(status)) + status.model_dump_json()
            assert "PostgreSQL at 127.0.0.1:" in said
            assert PASSWORD not in said
