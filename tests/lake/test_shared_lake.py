"""One lake of two machines: its catalogue in PostgreSQL, its Parquet files in one place."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path

import duckdb
import pytest

from keywatch import pipeline
from keywatch.errors import LakeBusyError, LakeDamagedError, LakeError, LakeReadOnlyError
from keywatch.lake import Lake
from keywatch.lake.attach import extension_file
from keywatch.notices import notices_to
from keywatch.operate import integrity
from keywatch.settings import LakeSettings
from tests import object_store, postgres
from tests.conftest import as_json_lines, event
from tests.forked import Forked
from tests.lake.loader import load_and_review, settings_of

pytestmark = pytest.mark.skipif(
    postgres.programs() is None, reason="no PostgreSQL server programs here"
)
GRANTS = (
    "CREATE ROLE analyst LOGIN",
    "GRANT USAGE ON SCHEMA public TO analyst",
    "GRANT SELECT ON ALL TABLES IN SCHEMA public TO analyst",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO analyst",
)
"""As SECURITY.md has them."""
LOADS = 2
LOADS_ON_S3 = int(os.environ.get("KEYWATCH_TEST_LOADS", "2"))
"""`make test-cluster` has more."""
EVENTS = 150
MONDAY = datetime(2026, 9, 21)
NUMBERS = count()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres.server() as found:
        yield found


@pytest.fixture
def catalog(server: str) -> str:
    """A database of the test's own."""
    return postgres.database(server, f"lake_{next(NUMBERS)}")


def secret_in(folder: Path) -> dict[str, str]:
    """The place of a key-hash secret, for the settings of each machine."""
    file = folder / "shared.secret"
    file.write_text("5e" * 32)
    return {"file": str(file)}


def logs(folder: Path, machine: str, loads: int = LOADS) -> list[Path]:
    files = []
    for nth in range(loads):
        file = folder / f"{machine}-{nth}.jsonl"
        rows = (
            event(
                timestamp=f"{MONDAY + timedelta(days=nth % 7, minutes=n):%Y-%m-%dT%H:%M:%SZ}",
                request_id=f"{machine}-{nth}-{n}",
                key_id=f"key_{n % 5}",
            )
            for n in range(EVENTS)
        )
        file.write_bytes(as_json_lines(rows))
        files.append(file)
    return files


def said_by(machine: Forked) -> list[str]:
    """Its own words, less notices that it waits for another machine."""
    assert machine.exit_code == 0, machine.said
    return [line for line in machine.said.splitlines() if line in ("here", "loaded", "reviewed")]


def test_two_machines_load_and_review_at_once_and_one_dies(catalog: str, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    storage = LakeSettings.model_validate(
        {
            "catalog": catalog,
            "data_path": str(shared),
            "wait_seconds": 0,
            "key_hash_secret": secret_in(tmp_path),
        }
    )
    with Lake.open(tmp_path / "a", storage, create=True) as one:
        with (
            Lake.open(tmp_path / "b", storage) as two,
            one.writing(),
            pytest.raises(LakeBusyError, match="another machine is still writing"),
            two.writing(),
        ):
            pass
        with one.writing():
            pass
    patient = storage.model_copy(update={"wait_seconds": 600.0})

    def machine(name: str) -> Forked:
        return Forked.calling(load_and_review, tmp_path / name, patient, logs(tmp_path, name))

    machines = [machine(name) for name in "abc"]
    dies = machines.pop()
    while "loaded" not in dies.said:
        assert not dies.ends(0.01), dies.said
    assert dies.kill() == -signal.SIGKILL
    whole = ["here", *["loaded"] * LOADS, "reviewed"]
    for each in machines:
        assert each.ends()
        assert said_by(each) == whole
    # Its server notices that it is gone; what it had not committed is loaded by the next.
    again = machine("c")
    assert again.ends()
    assert said_by(again) == whole
    with Lake.open(tmp_path / "a", storage) as lake:
        assert lake.value("SELECT count(*) FROM lake.events") == 3 * LOADS * EVENTS
        assert lake.value("SELECT sum(events)::BIGINT FROM lake.activity") == 3 * LOADS * EVENTS
        assert list(integrity.faults(lake, deep=True)) == []
        with lake.reading(), pytest.raises(Lake.Error, match="read-only"):
            lake.execute("DELETE FROM lake.events")
        lake.look()
        with pytest.raises(Lake.Error, match="disabled by configuration"):
            lake.rows("FROM read_text('/etc/passwd')")


def test_two_machines_load_and_review_at_once_on_an_object_store(
    catalog: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in object_store.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    with object_store.server() as store:
        store.create_bucket(Bucket="lakes")
        storage = LakeSettings.model_validate(
            {
                "catalog": catalog,
                "data_path": "s3://lakes/two",
                "s3": {"endpoint": f"http://{store.endpoint}"},
                "key_hash_secret": secret_in(tmp_path),
                "encrypted": True,
                "wait_seconds": 600,
            }
        )
        Lake.open(tmp_path / "a", storage, create=True).close()
        machines = [
            Forked.calling(
                load_and_review, tmp_path / name, storage, logs(tmp_path, name, LOADS_ON_S3)
            )
            for name in "ab"
        ]
        for each in machines:
            assert each.ends()
            assert said_by(each) == ["here", *["loaded"] * LOADS_ON_S3, "reviewed"]
        with Lake.open(tmp_path / "a", storage) as lake:
            events = 2 * LOADS_ON_S3 * EVENTS
            assert lake.rows(
                "SELECT count(*), count(DISTINCT request_id), (SELECT sum(events)::BIGINT "
                "FROM lake.activity) FROM lake.events"
            ) == [(events, events, events)]
            assert list(integrity.faults(lake, deep=True)) == []
            stored = store.list_objects_v2(Bucket="lakes", Prefix="two/")["Contents"]
            names = {each["Key"].rpartition("/")[2] for each in stored}
            assert names == lake.known_files() | {"lake.id"}


def test_an_analyst_s_role_reads_and_can_change_nothing(catalog: str, tmp_path: Path) -> None:
    storage = LakeSettings(catalog=catalog, data_path=str(tmp_path / "shared"))
    folder = tmp_path / "lake"
    settings = settings_of(storage)
    pipeline.ingest(folder, [str(file) for file in logs(tmp_path, "a")], settings)
    as_superuser(catalog, *GRANTS)

    role = catalog.replace(f"user={postgres.USER}", "user=analyst")
    reader = storage.model_copy(update={"catalog": role})
    with Lake.open(folder, reader) as lake:
        assert lake.look().value("SELECT count(*) FROM lake.events") == LOADS * EVENTS
    settings = settings.model_copy(update={"storage": reader})
    answer = pipeline.review(folder, None, settings, keep=False)
    assert answer.coverage.keys == 5
    with (
        Lake.open(folder, reader) as lake,
        pytest.raises(LakeReadOnlyError, match="its role in PostgreSQL"),
        lake.writing(),
    ):
        pass
    said: list[str] = []
    with notices_to(said.append):
        pipeline.review(folder, None, settings, whole=False)
    assert said == [f"{folder} is read-only: this review is neither stored nor sent"]
    with Lake.open(folder, reader) as lake, pytest.raises(Lake.Error, match="read-only"):
        lake.execute("DELETE FROM lake.events")


def as_superuser(catalog: str, *statements: str) -> None:
    with duckdb.connect(config={"allow_unsigned_extensions": "true"}) as admin:
        admin.execute(f"LOAD '{extension_file('postgres_scanner')}'")
        admin.execute(f"ATTACH '{catalog.removeprefix('postgres:')}' AS pg (TYPE postgres)")
        for statement in statements:
            admin.execute("CALL postgres_execute('pg', $1)", [statement])


TERMINATE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"


def loses_its_server(folder: Path, storage: LakeSettings, catalog: str) -> None:
    """In a process of its own: DuckDB ends it where a connection that is gone is rolled back."""
    with Lake.open(folder, storage, create=True) as lake:
        try:
            with lake.writing():
                lake.execute("INSERT INTO lake.cases (run_id) VALUES ('lost')")
                as_superuser(catalog, TERMINATE)
        except LakeError as e:
            print(type(e).__name__, e, flush=True)
        with lake.writing():
            lake.execute("INSERT INTO lake.cases (run_id) VALUES ('kept')")
        print(lake.rows("SELECT run_id FROM lake.cases"), flush=True)


def test_a_server_that_ends_the_connection_is_told_and_the_next_writer_writes(
    catalog: str, tmp_path: Path
) -> None:
    storage = LakeSettings(catalog=catalog, data_path=str(tmp_path / "shared"))
    loses = Forked.calling(loses_its_server, tmp_path / "a", storage, catalog)
    assert loses.ends()
    assert loses.exit_code == 0, loses.said
    told, left = loses.said.splitlines()
    assert "nothing was stored" in told
    assert left == "[('kept',)]"


def test_another_place_of_files_is_found_out(catalog: str, tmp_path: Path) -> None:
    made = LakeSettings(catalog=catalog, data_path=str(tmp_path / "shared"))
    Lake.open(tmp_path / "a", made, create=True).close()
    storage = LakeSettings(catalog=catalog, data_path=str(tmp_path / "elsewhere"))
    with pytest.raises(LakeDamagedError, match="missing or damaged"):
        Lake.open(tmp_path / "b", storage, create=True)
    assert not (tmp_path / "elsewhere").exists()
