"""A lake whose Parquet files are in an object store: S3 as moto has it, on the loopback."""

from __future__ import annotations

import json
import threading
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from keywatch import pipeline
from keywatch.errors import (
    LakeDamagedError,
    LakeError,
    LakeUnreachableError,
    SecretError,
    SettingsError,
)
from keywatch.lake import Lake
from keywatch.operate import integrity
from keywatch.settings import LakeSettings, Settings, load_settings
from keywatch.settings.storage import S3Settings
from tests import object_store, postgres
from tests.command import keywatch
from tests.conftest import as_json_lines, events, tables_of
from tests.forked import Forked
from tests.object_store import Refusal, Request

SECRET = "wJalrXUtnFEMI-not-to-be-shown"


@pytest.fixture(scope="module")
def store() -> Iterator[Any]:
    with object_store.server() as client:
        client.create_bucket(Bucket="lakes")
        yield client


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in object_store.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def place(store: Any, prefix: str, **s3: Any) -> LakeSettings:
    """A lake under `prefix`, its catalogue a file."""
    endpoint = {"endpoint": f"http://{store.endpoint}"}
    return LakeSettings.model_validate({"data_path": f"s3://lakes/{prefix}", "s3": endpoint | s3})


def loaded(folder: Path, storage: LakeSettings) -> Path:
    """A lake with some events; returns its folder."""
    log = folder / "log.jsonl"
    log.write_bytes(as_json_lines(events(40)))
    settings = Settings().without_power().model_copy(update={"storage": storage})
    pipeline.ingest(folder / "lake", [str(log)], settings)
    return folder / "lake"


def names(store: Any, prefix: str) -> set[str]:
    found = store.list_objects_v2(Bucket="lakes", Prefix=f"{prefix}/").get("Contents", [])
    return {each["Key"] for each in found}


def expires_after(files: int) -> Callable[[Request], Refusal | None]:
    """Credentials that are good until so many files are stored; refused then as AWS does it."""
    stored: list[str] = []

    def why(asked: Request) -> Refusal | None:
        if len(stored) >= files:
            return Refusal(400, "ExpiredToken")
        if asked.method == "PUT":
            stored.append(asked.path)
        return None

    return why


def test_a_lake_on_an_object_store_is_as_one_in_a_folder(store: Any, tmp_path: Path) -> None:
    storage = place(store, "same")
    (tmp_path / "here").mkdir()
    here = loaded(tmp_path / "here", LakeSettings())
    there = loaded(tmp_path, storage)
    with Lake.open(here) as local, Lake.open(there, storage) as remote:
        assert tables_of(local) == tables_of(remote)
        assert remote.value("SELECT count(*) FROM lake.events") == 40
        assert list(integrity.faults(remote, deep=True)) == []
        assert "same/lake.id" in names(store, "same")
        with remote.reading(), pytest.raises(Lake.Error, match="disabled by configuration"):
            remote.rows("FROM read_text('s3://lakes/other/lake.id')")
    settings = Settings().without_power().model_copy(update={"storage": storage})
    assert pipeline.review(there, None, settings).coverage.keys == 1
    pipeline.maintain(there, settings)
    with pytest.raises(LakeDamagedError, match="Parquet files, but the catalogue"):
        Lake.open(tmp_path / "another", storage, create=True)


@pytest.mark.parametrize(
    ("s3", "style", "host", "is_encrypted"),
    [
        ({}, "vhost", None, True),
        ({"endpoint": "127.0.0.1:5000"}, "path", "127.0.0.1:5000", True),
        ({"endpoint": "http://127.0.0.1:5000/"}, "path", "127.0.0.1:5000", False),
        ({"endpoint": "https://s3.example.com"}, "path", "s3.example.com", True),
        ({"endpoint": "[::1]:9000", "use_ssl": False}, "path", "[::1]:9000", False),
        ({"endpoint": "s3.example.com", "url_style": "vhost"}, "vhost", "s3.example.com", True),
    ],
)
def test_how_a_store_is_asked(
    s3: dict[str, Any], style: str, host: str | None, is_encrypted: bool
) -> None:
    settings = S3Settings.model_validate(s3)
    assert (settings.style, settings.host) == (style, host)
    assert settings.is_encrypted_in_transit is is_encrypted


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f's3.endpoint = "https://key:{SECRET}@s3.example.com"', "not an endpoint"),
        ('s3.endpoint = "s3.example.com/bucket"', "without a path"),
        ('s3 = { endpoint = "http://x:1", use_ssl = true }', "use_ssl contradicts"),
        ('s3.access_key_id = { env = "K" }', "set both access_key_id and secret_access_key"),
        (f's3.secret_access_key = "{SECRET}"', "a secret is not allowed in the settings"),
        ('s3.session_token = { env = "T" }', "session_token needs"),
        ('data_path = "s3://"', "names no bucket"),
        ('data_path = "s3:///keywatch"', "names no bucket"),
        (f'catalog = "mysql:password={SECRET}"', "write postgres:CONNECTION or sqlite:FILE"),
    ],
)
def test_wrong_settings_are_told_without_what_may_be_a_secret(
    text: str, told: str, tmp_path: Path
) -> None:
    file = tmp_path / "keywatch.toml"
    file.write_text(f"[storage]\n{text}\n")
    with pytest.raises(SettingsError, match=told) as raised:
        load_settings(file)
    assert SECRET not in str(raised.value)


def test_credentials_are_named_or_found_in_the_usual_places(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded(tmp_path, place(store, "named"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    with pytest.raises(LakeError, match="no credentials found; looked in the environment"):
        Lake.open(tmp_path / "lake", place(store, "named"))

    profile = "[default]\naws_access_key_id = AKIDPROFILE\naws_secret_access_key = hidden\n"
    (tmp_path / "AWS_SHARED_CREDENTIALS_FILE").write_text(profile)
    secret_file = tmp_path / "secret"
    secret_file.write_text(f"{SECRET}\n")
    keys = {"access_key_id": {"env": "STORE_KEY"}, "secret_access_key": {"file": secret_file}}
    monkeypatch.setenv("STORE_KEY", "AKIDNAMED")
    for storage in (place(store, "named"), place(store, "named", **keys)):
        with Lake.open(tmp_path / "lake", storage) as lake:
            assert lake.value("SELECT count(*) FROM lake.events") == 40
    monkeypatch.delenv("STORE_KEY")
    with pytest.raises(SecretError, match="the environment variable STORE_KEY is not set"):
        Lake.open(tmp_path / "lake", place(store, "named", **keys))


@pytest.fixture
def asked_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> set[str]:
    """The key ids that the store is asked with; there are no credentials yet."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    found: set[str] = set()
    object_store.refuse(monkeypatch, lambda asked: found.add(asked.key_id))
    return found


def test_a_profile_s_role_is_assumed_by_a_process_that_another_profile_names(
    store: Any, tmp_path: Path, asked_with: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3

    (tmp_path / "AWS_SHARED_CREDENTIALS_FILE").write_text(
        "[base]\naws_access_key_id = AKIDBASE\naws_secret_access_key = base\n"
    )
    profiles = tmp_path / "AWS_CONFIG_FILE"
    profiles.write_text(
        "[profile soc]\nrole_arn = arn:aws:iam::123456789012:role/soc\nsource_profile = base\n"
        f"[profile lake]\ncredential_process = cat {tmp_path}/of-soc\n"
    )
    monkeypatch.setenv("AWS_PROFILE", "soc")
    with pytest.raises(LakeError, match=r"profile soc has a role_arn.*credentials --profile soc"):
        Lake.open(tmp_path / "lake", place(store, "role"), create=True)

    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://{store.endpoint}")
    session = boto3.Session(profile_name="soc", region_name="us-east-1")
    assumed = session.get_credentials().get_frozen_credentials()
    told = {
        "Version": 1,
        "AccessKeyId": assumed.access_key,
        "SecretAccessKey": assumed.secret_key,
        "SessionToken": assumed.token,
    }
    (tmp_path / "of-soc").write_text(json.dumps(told))
    settings = tmp_path / "keywatch.toml"
    settings.write_text(
        '[storage]\ndata_path = "s3://lakes/role"\n'
        f'[storage.s3]\nendpoint = "http://{store.endpoint}"\n'
    )
    # In a process of its own: the profiles are read when DuckDB's extension is loaded first.
    made = Forked(
        "lake", "init", "--lake", tmp_path / "lake", "--config", settings,
        AWS_PROFILE="lake",
    )  # fmt: skip
    assert made.ends()
    assert made.exit_code == 0, made.said
    assert asked_with == {assumed.access_key}
    assert "role/lake.id" in names(store, "role")


@pytest.mark.parametrize("of", ["container", "machine"])
def test_the_role_of_a_container_or_machine_is_found(
    of: str, store: Any, tmp_path: Path, asked_with: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    role = "/latest/meta-data/iam/security-credentials"
    credentials = {
        "Code": "Success", "AccessKeyId": f"ASIA{of}", "SecretAccessKey": SECRET, "Token": "token",
        "Expiration": "2100-01-01T00:00:00Z",
    }  # fmt: skip
    told = {role: "lake", f"{role}/lake": json.dumps(credentials)}

    class Metadata(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = told.get(self.path, "").encode()
            self.send_response(200 if answer else 404)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Metadata) as server:
        place_of_roles = f"http://127.0.0.1:{server.server_port}"
        if of == "container":
            full = f"{place_of_roles}{role}/lake"
            monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", full)
        else:
            monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
            monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", place_of_roles)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with Lake.open(tmp_path / "lake", place(store, of), create=True) as lake:
            assert lake.is_new
        server.shutdown()
    assert asked_with == {f"ASIA{of}"}


@pytest.mark.parametrize(
    ("refusal", "told"),
    [
        (Refusal(400, "ExpiredToken"),
         "access is refused (HTTP 400) to the credentials of the environment (AWS_ACCESS_KEY_ID): "
         "they have expired; nothing was stored. Get new ones, and run this again"),
        (Refusal(400, "InvalidToken"), "the session token is not accepted"),
        (Refusal(403, "RequestTimeTooSkewed"), "Set this machine's clock"),
        (Refusal(400, "AuthorizationHeaderMalformed"),
         "the bucket is in another region; nothing was stored. Set storage.s3.region to"),
        (Refusal(301, "PermanentRedirect"), "the bucket is in another region"),
        (Refusal(403, ""), "AWS_ACCESS_KEY_ID); nothing was stored. They must be allowed to list"),
        (Refusal(501, "NotImplemented"), "the request is not accepted (HTTP 501)"),
    ],
)  # fmt: skip
def test_what_a_store_refuses_is_told(
    refusal: Refusal, told: str, store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    object_store.refuse(monkeypatch, lambda _: refusal)
    with pytest.raises(LakeUnreachableError) as raised:
        Lake.open(tmp_path / "lake", place(store, "refused"), create=True)
    assert told in str(raised.value)


def test_a_bucket_in_another_region_is_found_there_or_the_setting_is_named(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its refusal, AWS names the bucket's region, and DuckDB asks there."""
    storage = place(store, "elsewhere")
    folder = loaded(tmp_path, storage)
    named = {"x-amz-bucket-region": "eu-central-1"}
    malformed = Refusal(400, "AuthorizationHeaderMalformed", headers=named)
    moved = Refusal(301, "PermanentRedirect", "x" * 200, headers=named)

    def elsewhere(refusal: Refusal) -> Callable[[Request], Refusal | None]:
        return lambda asked: refusal if asked.region != "eu-central-1" else None

    with monkeypatch.context() as patch:
        object_store.refuse(patch, elsewhere(malformed))
        with Lake.open(folder, storage) as lake:
            assert lake.value("SELECT count(path) FROM lake.events") == 40
    object_store.refuse(monkeypatch, elsewhere(moved))
    with pytest.raises(LakeUnreachableError, match=r"Check that storage\.s3\.region is the"):
        Lake.open(folder, storage)
    there = place(store, "elsewhere", region="eu-central-1")
    with Lake.open(folder, there) as lake:
        assert lake.value("SELECT count(path) FROM lake.events") == 40


def test_credentials_that_expire_in_a_load_store_nothing_and_a_later_run_completes(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = place(store, "expired")
    folder = loaded(tmp_path, storage)
    settings = Settings().without_power().model_copy(update={"storage": storage})
    more = tmp_path / "more.jsonl"
    more.write_bytes(as_json_lines(events(60)))
    with Lake.open(folder, storage) as lake:
        before = lake.snapshot
    with monkeypatch.context() as patch:
        object_store.refuse(patch, expires_after(3))
        with pytest.raises(LakeUnreachableError, match="they have expired; nothing was stored"):
            pipeline.ingest(folder, [str(more)], settings)
    with Lake.open(folder, storage) as lake:
        assert lake.snapshot == before
        assert list(integrity.faults(lake, deep=True)) == []
    pipeline.ingest(folder, [str(more)], settings)
    with Lake.open(folder, storage) as lake:
        assert lake.value("SELECT count(*) FROM lake.events") == 60
        assert list(integrity.faults(lake, deep=True)) == []


def test_a_new_lake_that_was_refused_half_made_is_made_by_a_later_run(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = place(store, "half")
    for files in (1, 2):
        with monkeypatch.context() as patch:
            object_store.refuse(patch, expires_after(1))
            with pytest.raises(LakeUnreachableError, match="nothing was stored"):
                loaded(tmp_path, storage)
        assert len(names(store, "half")) == files
    with pytest.raises(LakeError, match="load a log first"):
        Lake.open(tmp_path / "lake", storage)
    with pytest.raises(LakeDamagedError, match="2 Parquet files, but the catalogue"):
        Lake.open(tmp_path / "another", storage, create=True)
    with Lake.open(loaded(tmp_path, storage), storage) as lake:
        assert lake.value("SELECT count(*) FROM lake.events") == 40
        assert list(integrity.faults(lake, deep=True)) == []


@pytest.mark.parametrize(
    ("change", "told", "mend"),
    [
        ({"endpoint": "http://127.0.0.1:1"}, "nothing answers there", "that the store runs"),
        ({"endpoint": "http://no-host.invalid:9"}, "host name is not known", "s3.endpoint"),
        ({"endpoint": "https://{}"}, "no TLS connection", "begin storage.s3.endpoint with http:"),
        ({"url_style": "vhost"}, "host name is not known", 'needs url_style = "path"'),
        ({"bucket": "no-bucket"}, "there is no such bucket", "storage.data_path"),
        ({"is_strict": True}, "does not know the key id", "Check the access key"),
    ],
)
def test_a_store_that_refuses_is_told_with_values_and_mend(
    change: dict[str, Any],
    told: str,
    mend: str,
    store: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    s3 = dict(change)
    if s3.pop("is_strict", False):
        monkeypatch.setattr("moto.settings.INITIAL_NO_AUTH_ACTION_COUNT", 0.0)
    bucket = s3.pop("bucket", "lakes")
    s3["endpoint"] = endpoint = s3.get("endpoint", "http://{}").format(store.endpoint)
    s3["access_key_id"] = {"env": "STORE_KEY"}
    s3["secret_access_key"] = {"env": "STORE_SECRET"}
    monkeypatch.setenv("STORE_KEY", "AKIDNOBODY")
    monkeypatch.setenv("STORE_SECRET", SECRET)
    settings = tmp_path / "keywatch.toml"
    lines = [f"{name} = {_toml(value)}" for name, value in s3.items()]
    text = f'[storage]\ndata_path = "s3://{bucket}/refused"\n[storage.s3]\n' + "\n".join(lines)
    settings.write_text(text)
    log = tmp_path / "log.jsonl"
    log.write_bytes(as_json_lines(events(3)))
    ran = keywatch("ingest", log, "--lake", tmp_path / "lake", "--config", settings)
    assert ran.code == LakeUnreachableError.exit_code
    assert ran.err.startswith(f"keywatch: s3://{bucket}/refused ({endpoint}, region us-east-1, ")
    assert told in ran.err
    assert mend in ran.err
    assert "Traceback" not in ran.err
    assert SECRET not in ran.err


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f'{name} = "{each}"' for name, each in value.items()) + " }"
    return f'"{value}"'


def test_a_file_that_is_gone_or_cut_there_is_damage(store: Any, tmp_path: Path) -> None:
    storage = place(store, "damaged")
    folder = loaded(tmp_path, storage)
    events_file = next(name for name in names(store, "damaged") if "/events/" in name)
    whole = store.get_object(Bucket="lakes", Key=events_file)["Body"].read()
    for content in (None, whole[:60]):
        store.delete_object(Bucket="lakes", Key=events_file)
        if content is not None:
            store.put_object(Bucket="lakes", Key=events_file, Body=content)
        with Lake.open(folder, storage) as lake:
            with pytest.raises(LakeDamagedError, match="missing or damaged"):
                lake.rows("SELECT path FROM lake.events")
            assert len(list(integrity.faults(lake, deep=True))) == 1


# ---------------------------------------------------------------------------------------- catalogue


@pytest.mark.parametrize(
    ("connection", "told"),
    [
        (f"host=127.0.0.1 port=1 user=u password={SECRET} dbname=d",
         "PostgreSQL at 127.0.0.1:1, database d, as u: nothing listens there"),
        (f"postgresql://u:{SECRET}@127.0.0.1:1/d?connect_timeout=2",
         "PostgreSQL at 127.0.0.1:1, database d, as u: nothing listens there"),
        (f"host=no-host.invalid user=u password='{SECRET}'", "no-host.invalid, as u: there is no"),
        (f"host=127.0.0.1 password=two {SECRET}", "the connection string can't be read"),
        (f"postgresql://u:a@{SECRET}@no-host.invalid/d", "no-host.invalid, database d, as u:"),
    ],
)  # fmt: skip
def test_a_catalogue_that_can_t_be_reached_is_told_without_its_password(
    connection: str, told: str, tmp_path: Path
) -> None:
    storage = LakeSettings(catalog=f"postgres:{connection}", data_path=str(tmp_path))
    assert SECRET not in f"{storage!r} {storage}"
    with pytest.raises(LakeUnreachableError) as raised:
        Lake.open(tmp_path / "lake", storage)
    assert told in str(raised.value)
    shown = "".join(traceback.format_exception(raised.value))
    assert SECRET not in shown


@pytest.mark.skipif(postgres.programs() is None, reason="no PostgreSQL server programs here")
def test_a_server_that_refuses_says_what_it_refuses(tmp_path: Path) -> None:
    with postgres.server() as catalog:
        for change, told in (
            (("dbname=postgres", "dbname=nothing"), "there is no such database"),
            ((f"user={postgres.USER}", "user=nobody"), "there is no such role"),
        ):
            wrong = f"{catalog.replace(*change)} password={SECRET}"
            storage = LakeSettings(catalog=wrong, data_path=str(tmp_path / "data"))
            with pytest.raises(LakeUnreachableError, match=told) as raised:
                Lake.open(tmp_path / "lake", storage, create=True)
            assert SECRET not in str(raised.value)


@pytest.mark.skipif(postgres.programs() is None, reason="no PostgreSQL server programs here")
def test_a_password_is_taken_from_where_libpq_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "pgpass"))
    with postgres.server(SECRET) as catalog:
        storage = LakeSettings(catalog=catalog, data_path=str(tmp_path / "data"))
        with pytest.raises(LakeUnreachableError, match="asks for a password: set PGPASSWORD"):
            Lake.open(tmp_path / "lake", storage, create=True)
        wrong = storage.model_copy(update={"catalog": f"{catalog} password=wrong-{SECRET}"})
        with pytest.raises(LakeUnreachableError, match="the password is wrong") as raised:
            Lake.open(tmp_path / "lake", wrong, create=True)
        assert SECRET not in str(raised.value)
        (tmp_path / "pgpass").write_text(f"*:*:*:*:{SECRET}\n")
        (tmp_path / "pgpass").chmod(0o600)
        with Lake.open(tmp_path / "lake", storage, create=True) as lake, lake.writing():
            assert lake.value("SELECT count(*) FROM lake.events") == 0
