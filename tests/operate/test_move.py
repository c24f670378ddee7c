"""`keywatch lake move`: a lake in a new place, or kept in another way, with all that it knows."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from keywatch import pipeline, sample
from keywatch.deliver.journal import Journal, Record
from keywatch.errors import LakeBusyError, LakeError, SecretError
from keywatch.lake import Lake
from keywatch.operate import integrity
from keywatch.operate.move import Moved, move
from keywatch.settings import LakeSettings, ReviewSettings, Settings
from keywatch.text.document import review_document
from tests import object_store, postgres
from tests.command import keywatch
from tests.conftest import as_json_lines, events
from tests.forked import Forked
from tests.lake.test_key_hash import ONE

LOCAL = LakeSettings()
SETTINGS = Settings(review=ReviewSettings(power_keys=0, replayed_windows=0))
SENT = Record("msg_1", datetime(2026, 10, 5), "sent", 1)
"""What the lake does not have yet."""
TABLES = "SELECT table_name FROM duckdb_tables() WHERE database_name = 'lake' ORDER BY ALL"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with a review, alerts, messages and a verdict."""
    home = tmp_path_factory.mktemp("kept")
    world = sample.generate(home / "world", keys=15, weeks=2, seed=3)
    settings = with_log(home)
    pipeline.ingest(home / "lake", [str(home / "world" / "logs")], settings)
    pipeline.import_keys(home / "lake", world.inventory, settings)
    answer = pipeline.review(home / "lake", None, settings)
    key = next(case.key_id for case in answer.cases if case.action != "none")
    pipeline.give_verdict(home / "lake", key, "benign", settings, by="ana", because="a test")
    Journal(home / "lake").add(SENT)
    return home / "lake"


def with_log(home: Path, storage: LakeSettings = LOCAL) -> Settings:
    """Settings with a channel."""
    channel = {"kind": "file", "path": str(home / "alerts.jsonl")}
    route = {"actions": ["revoke", "investigate", "rotate"], "channels": ["log"]}
    deliver = {"channels": {"log": channel}, "routes": [route]}
    return Settings.model_validate(
        SETTINGS.model_dump() | {"deliver": deliver, "storage": storage.model_dump()}
    )


@pytest.fixture
def old(kept: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(kept, tmp_path / "old"))


def rows_of(lake: Lake) -> dict[str, Counter[str]]:
    """Every row of every table but those that each lake has of its own."""
    names = [name for (name,) in lake.rows(TABLES) if name not in ("format", "identity")]
    return {name: Counter(map(repr, lake.rows(f"FROM lake.{name}"))) for name in names}


def state(folder: Path) -> dict[str, bytes]:
    """The files that are the lake: catalogue and Parquet."""
    files = [*(folder / "data").rglob("*"), folder / "key-hash.secret"]
    return {str(file): file.read_bytes() for file in files if file.is_file()}


def is_empty(folder: Path, storage: LakeSettings = LOCAL) -> bool:
    with Lake.open(folder, storage) as lake:
        return not any(rows_of(lake).values())


def moves(old: Path, new: Path) -> None:
    """In a process of its own."""
    move(old, LOCAL, new, LOCAL)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A catalogue in PostgreSQL, files on S3, encrypted, with a named secret."""
    if postgres.programs() is None:
        pytest.skip("no PostgreSQL server programs here")
    with postgres.server() as catalog, object_store.server() as store:
        store.create_bucket(Bucket="lakes")
        secret = tmp_path_factory.mktemp("secret") / "secret"
        yield {
            "catalog": catalog,
            "data_path": "s3://lakes/moved",
            "s3": {"endpoint": f"http://{store.endpoint}"},
            "key_hash_secret": {"file": str(secret)},
            "encrypted": True,
        }


def test_a_local_lake_becomes_a_shared_one_and_comes_back(
    places: dict[str, Any], old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in object_store.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    shutil.copyfile(old / "key-hash.secret", places["key_hash_secret"]["file"])
    shared = LakeSettings.model_validate(places)
    before = state(old)
    there = move(old, LOCAL, tmp_path / "machine", shared)
    assert state(old) == before
    back = move(tmp_path / "machine", shared, tmp_path / "back", LOCAL)
    assert there.rows == back.rows
    told = ("events", "alerts", "deliveries", "verdicts", "runs", "reviews", "keys", "evidence")
    assert all(there.rows[table] > 0 for table in told)
    with (
        Lake.open(old) as one,
        Lake.open(tmp_path / "machine", shared) as two,
        Lake.open(tmp_path / "back") as three,
    ):
        assert two.is_encrypted
        assert not three.is_encrypted
        assert rows_of(one) == rows_of(two) == rows_of(three)
        assert list(integrity.faults(two, deep=True)) == []
        assert list(integrity.faults(three, deep=True)) == []
        assert one.secret == two.secret == three.secret
        newest = one.value("SELECT max(lake_snapshot) FROM lake.runs")
        assert newest < one.snapshot < two.snapshot < three.snapshot
    assert Journal(tmp_path / "machine").waiting() == []  # the server has it, for all machines
    assert Journal(tmp_path / "back").waiting() == [SENT]
    answers = [
        review_document(pipeline.review(folder, None, settings))
        for folder, settings in (
            (old, with_log(tmp_path)),
            (tmp_path / "machine", with_log(tmp_path, shared)),
            (tmp_path / "back", with_log(tmp_path)),
        )
    ]
    # The verdict came after the stored review: each lake scores the week again, as of its own now.
    snapshots = [answer["run"].pop("lake_snapshot") for answer in answers]
    assert snapshots == sorted(set(snapshots))
    assert answers[0] == answers[1] == answers[2]


def test_a_lake_becomes_encrypted_by_the_command(old: Path, tmp_path: Path) -> None:
    (tmp_path / "encrypted.toml").write_text("[storage]\nencrypted = true\n")
    words = ("lake", "move", "new", "--to", "encrypted.toml", "--lake", "old")
    ran = keywatch(*words, cwd=tmp_path)
    assert (ran.code, ran.err) == (0, "")
    assert "counts and hashes of each table agree" in ran.out
    assert "The old lake is unchanged" in ran.out
    with Lake.open(old) as one, Lake.open(tmp_path / "new") as two:
        assert (one.is_encrypted, two.is_encrypted) == (False, True)
        assert rows_of(one) == rows_of(two)
        assert one.value("SELECT id FROM lake.identity") != two.value(
            "SELECT id FROM lake.identity"
        )
    again = keywatch(*words, cwd=tmp_path)
    assert again.code == LakeError.exit_code
    assert "there is a lake already" in again.err


def test_a_lake_keeps_its_secret(old: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_text(ONE)
    named = LakeSettings.model_validate({"key_hash_secret": {"file": tmp_path / "other"}})
    with pytest.raises(SecretError, match="keys would get another hash"):
        move(old, LOCAL, tmp_path / "new", named)
    assert not (tmp_path / "new").exists()
    secret = (old / "key-hash.secret").read_text()
    move(old, LOCAL, tmp_path / "new", LOCAL)
    assert (tmp_path / "new" / "key-hash.secret").read_text() == secret
    assert (tmp_path / "new" / "key-hash.secret").stat().st_mode & 0o777 == 0o600


def test_a_lake_that_is_there_is_left_alone(old: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    pipeline.ingest(there, [str(a_log(tmp_path))], SETTINGS)
    place = {"catalog": f"sqlite:{there / 'catalog.sqlite'}", "data_path": str(there / "data")}
    before = state(there)
    with pytest.raises(LakeError, match="there is a lake already"):
        move(old, LOCAL, tmp_path / "new", LakeSettings.model_validate(place))
    assert state(there) == before
    assert not (tmp_path / "new" / "key-hash.secret").exists()


def a_log(folder: Path) -> Path:
    log = folder / "log.jsonl"
    log.write_bytes(as_json_lines(events(3)))
    return log


@pytest.mark.parametrize("kept_rows", [0, 7])
def test_rows_that_do_not_arrive_are_found_and_nothing_is_kept(
    kept_rows: int, old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = Lake.append_stream

    def loses(lake: Lake, table: str, rows: Any) -> None:
        append(lake, table, rows)
        if table == "transitions":
            keep = f"SELECT rowid FROM lake.{table} ORDER BY ALL LIMIT {kept_rows}"
            lake.execute(f"DELETE FROM lake.{table} WHERE rowid NOT IN ({keep})")

    before = state(old)
    with monkeypatch.context() as broken:
        broken.setattr(Lake, "append_stream", loses)
        with pytest.raises(LakeError, match=f"table transitions: {kept_rows} rows arrived"):
            move(old, LOCAL, tmp_path / "new", LOCAL)
    assert state(old) == before
    assert is_empty(tmp_path / "new")
    assert move(old, LOCAL, tmp_path / "new", LOCAL).rows["transitions"] > kept_rows


def test_a_value_that_changes_on_the_way_is_found(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = Lake.append_stream

    def changes(lake: Lake, table: str, rows: Any) -> None:
        append(lake, table, rows)
        if table == "verdicts":
            lake.execute("UPDATE lake.verdicts SET because = 'another test'")

    monkeypatch.setattr(Lake, "append_stream", changes)
    with pytest.raises(LakeError, match=r"table verdicts: .* or other ones \(hashes"):
        move(old, LOCAL, tmp_path / "new", LOCAL)
    assert is_empty(tmp_path / "new")


def test_a_move_that_is_killed_can_be_repeated(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    before = state(old)
    killed = Forked.calling(moves, old, new)
    while not list((new / "data").rglob("events/*.parquet")):
        assert not killed.ends(0.005), killed.said
    killed.kill()
    assert state(old) == before
    was_kept = not is_empty(new)
    if not was_kept:
        assert isinstance(move(old, LOCAL, new, LOCAL), Moved)
    with Lake.open(old) as one, Lake.open(new) as two:
        assert rows_of(one) == rows_of(two)
        with two.writing():
            pass
        known = two.known_files()
    assert {file.name for file in (new / "data").rglob("*.parquet")} == known


def test_who_writes_to_the_old_lake_is_waited_for(old: Path, tmp_path: Path) -> None:
    hasty = LakeSettings(wait_seconds=0)
    with Lake.open(old) as lake, lake.writing(), pytest.raises(LakeBusyError):
        move(old, hasty, tmp_path / "new", LOCAL)
    assert not (tmp_path / "new").exists()
