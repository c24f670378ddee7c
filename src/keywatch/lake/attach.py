"""How a lake is reached: DuckDB's extensions, the catalogue, and the place of the Parquet files."""

from __future__ import annotations

import importlib
import os
import re
from contextlib import suppress
from pathlib import Path

import duckdb

from keywatch.errors import LakeError, LakeUnreachableError
from keywatch.hints import to_install
from keywatch.lake.literals import quoted
from keywatch.settings.secret_ref import prefect_block
from keywatch.settings.storage import LakeSettings, S3Settings

CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "produce_arrow_string_view": "true",
    # The extensions are packages that pip has checked by hash, as Keywatch's own code: to have
    # DuckDB check their signatures at each opening took 0.3 s of processor time. A lake's
    # `_lock_down` refuses to load any other.
    "allow_unsigned_extensions": "true",
}
"""Of every connection."""
_LOCAL_CATALOG = "catalog.sqlite"
_POSTGRES = "postgres:"
_FROM_ENVIRONMENT = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_CHAIN = (
    "the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY), the AWS profile (AWS_PROFILE, "
    "~/.aws), and the role of this machine or container"
)
# Not compiled here, which would take longer than to open a lake: they are of errors.
_PARAMETER = r"(\w+)\s*=\s*(?:'((?:\\.|[^'\\])*)'|((?:\\.|[^\s'\\])*))"
_URI = r"postgres(?:ql)?://(?:([^:@/]*)(?::.*)?@)?([^@/?]*)(?:/([^?]*))?"
_OF_ONE_FILE = (404, 416)
"""A file that is missing or cut: damage, and the store is in order."""
_MOVED, _FORBIDDEN = 301, 403
_MORE_THAN_ASKED = "Server sent back more data than expected"
"""Also of the redirect to another region, where a part of a file was asked for."""
_NO_STATUS = f"error for HTTP [A-Z]+ to '|{_MORE_THAN_ASKED}"
_MEND_ACCESS = "They must be allowed to list, read, write and delete there"
_REFUSED_CREDENTIALS = {
    "InvalidAccessKeyId": (
        "the store does not know the key id",
        "Check the access key, and of temporary credentials the session token",
    ),
    "InvalidToken": ("the session token is not accepted", "Get new ones, and run this again"),
    "SignatureDoesNotMatch": (
        "the secret is not that of the key id", "Check the secret access key, and the region",
    ),
    "AccessDenied": ("they are not allowed to do this", _MEND_ACCESS),
    "ExpiredToken": ("they have expired", "Get new ones, and run this again"),
}  # fmt: skip
_ELSEWHERE = ("the bucket is in another region", "Set storage.s3.region to the bucket's region")
_S3_CODES = {
    "NoSuchBucket": ("there is no such bucket", "Check the name in storage.data_path"),
    "PermanentRedirect": _ELSEWHERE,
    "AuthorizationHeaderMalformed": _ELSEWHERE,
    "RequestTimeTooSkewed": ("its clock is not this machine's", "Set this machine's clock"),
}

_OF_POSTGRES = (
    "Unable to connect to Postgres", "server closed the connection", "terminating connection",
)  # fmt: skip
# What libpq says of a connection, as words that hold no part of the connection string.
_REFUSALS = {
    "Connection refused": "nothing listens there",
    "could not translate host name": "there is no such host",
    "timeout expired": "it does not answer",
    "No route to host": "no route leads there",
    "Network is unreachable": "the network is unreachable",
    "No such file or directory": "there is no such socket",
    "password authentication failed": "the password is wrong",
    "no password supplied": "it asks for a password: set PGPASSWORD or PGPASSFILE",
    "no pg_hba.conf entry": "it accepts no connection of this user from this machine",
    "does not support SSL": "it does not support SSL",
    "certificate": "its certificate is not accepted",
    "too many clients": "it has too many connections",
    "the database system is": "it is starting or stopping",
    "server closed the connection": "it closed the connection",
    "terminating connection": "it ended the connection",
    "connection info string": "the connection string can't be read: write it as libpq does, "
    "postgres:host=HOST dbname=NAME user=USER, values with spaces in quotes",
    "invalid connection option": "the connection string has an option that libpq does not know",
    "invalid URI": "the connection string is no valid URI",
}
_NOT_THERE = r'(role|database) "[^"]*" does not exist'


def extension_file(name: str) -> Path:
    """The extension's file in its PyPI package: nothing is fetched or put into the home folder.

    Raises:
        LakeError: the package is missing.
    """
    try:
        package = importlib.import_module(f"duckdb_extension_{name}")
    except ModuleNotFoundError as e:
        raise LakeError(
            f"the package duckdb-extension-{name.replace('_', '-')} is missing, which a catalogue "
            f"in PostgreSQL, files on S3 and an encrypted lake need: {to_install('shared')}"
        ) from e
    folder = Path(next(iter(package.__path__)))
    return folder / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"


def load_extension(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Load an extension from its package.

    Raises:
        LakeError: the package is missing.
    """
    connection.execute(f"LOAD '{extension_file(name)}'")


# -------------------------------------------------------------------------------------- catalogue


def catalogue_file(folder: Path, settings: LakeSettings) -> Path | None:
    """The catalogue of the lake in `folder`; None where it is no file."""
    if settings.catalog is None:
        return folder / _LOCAL_CATALOG
    scheme, _, name = settings.catalog.partition(":")
    return Path(name) if scheme == "sqlite" else None


def postgres_connection(settings: LakeSettings) -> str:
    """What libpq gets of the settings of a catalogue in PostgreSQL; it may hold a password."""
    assert settings.catalog is not None
    return settings.catalog.removeprefix(_POSTGRES)


def catalogue_place(folder: Path, settings: LakeSettings) -> str:
    """Where the catalogue is, in words that hold no password."""
    file = catalogue_file(folder, settings)
    if file is not None:
        return str(file)
    connection = postgres_connection(settings)
    if found := re.match(_URI, connection):
        user, host, name = found.groups()
    else:
        said = {key: first or second for key, first, second in re.findall(_PARAMETER, connection)}
        host = said.get("host") or said.get("hostaddr") or os.environ.get("PGHOST") or ""
        port = said.get("port") or os.environ.get("PGPORT")
        host += f":{port}" if host and port else ""
        user, name = said.get("user"), said.get("dbname")
    user, name = user or os.environ.get("PGUSER"), name or os.environ.get("PGDATABASE")
    words = [f"PostgreSQL at {host}" if host else "PostgreSQL on this machine"]
    words += [f"database {name}"] if name else []
    words += [f"as {user}"] if user else []
    return ", ".join(words)


def server_connection(
    settings: LakeSettings, *, read_only: bool = True
) -> duckdb.DuckDBPyConnection:
    """A connection of its own to a catalogue in PostgreSQL, attached as ``catalogue``."""
    connection = duckdb.connect(config=CONFIG)
    try:
        load_extension(connection, "postgres_scanner")
        name = quoted(postgres_connection(settings))
        options = "TYPE postgres" + ", READ_ONLY" * read_only
        connection.execute(f"ATTACH {name} AS catalogue ({options})")
    except BaseException:
        connection.close()
        raise
    return connection


# ------------------------------------------------------------------------------------ object store


def grant_s3(connection: duckdb.DuckDBPyConnection, data_path: str, settings: S3Settings) -> None:
    """Give `connection` what it needs to reach ``s3://…``; for its own time, in memory only.

    Raises:
        SecretError: a credential is not where the settings say.
        LakeError: no credentials are found.
    """
    options = {"TYPE": "s3", "SCOPE": quoted(data_path), "URL_STYLE": quoted(settings.style)}
    if region := _region(settings):
        options["REGION"] = quoted(region)
    if settings.host:
        options["ENDPOINT"] = quoted(settings.host)
    options["USE_SSL"] = str(settings.is_encrypted_in_transit)
    if credentials := _credentials(settings):
        options |= {name: quoted(value) for name, value in credentials.items()}
    else:
        load_extension(connection, "aws")
        options["PROVIDER"] = "credential_chain"
    said = ", ".join(f"{name} {value}" for name, value in options.items())
    try:
        connection.execute(f"CREATE OR REPLACE TEMPORARY SECRET keywatch_lake ({said})")
    except duckdb.Error:
        # Not told in DuckDB's words, nor as its cause: it may repeat the statement.
        if credentials:
            raise LakeError(
                f"{data_path}: the credentials of {credentials_place(settings)} are not accepted"
            ) from None
        raise LakeError(f"{data_path}: no credentials found; {_what_was_looked_for()}") from None


def _what_was_looked_for() -> str:
    """Where no credentials are, and the mend."""
    profile = os.environ.get("AWS_PROFILE") or "default"
    if not _assumes_role(profile):
        return (
            f"looked in {_CHAIN}. Set one of them, or access_key_id and secret_access_key under "
            "[storage.s3]"
        )
    return (
        f"the AWS profile {profile} has a role_arn, which is not followed here. Let another "
        "profile have credential_process = aws configure export-credentials --profile "
        f"{profile}, and name it in AWS_PROFILE"
    )


def _assumes_role(profile: str) -> bool:
    import configparser  # of errors, as above

    file = os.environ.get("AWS_CONFIG_FILE") or Path("~/.aws/config").expanduser()
    config = configparser.RawConfigParser(strict=False)
    with suppress(configparser.Error, UnicodeDecodeError):
        config.read(file, encoding="utf-8")
    section = profile if profile == "default" else f"profile {profile}"
    return config.has_option(section, "role_arn")


def _region(settings: S3Settings) -> str | None:
    """DuckLake's requests do not find out a bucket's region by themselves."""
    from_environment = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return settings.region or from_environment or ("us-east-1" if settings.endpoint else None)


def _credentials(settings: S3Settings) -> dict[str, str]:
    """Key, secret and token, named or of the environment; nothing for the rest of the chain."""
    if settings.access_key_id is not None:
        named = {
            "KEY_ID": settings.access_key_id,
            "SECRET": settings.secret_access_key,
            "SESSION_TOKEN": settings.session_token,
        }
        return {
            name: ref.read(prefect_block).get_secret_value() for name, ref in named.items() if ref
        }
    # The chain asks these first. The rest of it is an extension, which takes 70 ms to load.
    if not all(os.environ.get(name) for name in _FROM_ENVIRONMENT):
        return {}
    names = ("KEY_ID", "SECRET", "SESSION_TOKEN")
    found = (os.environ.get(name) for name in (*_FROM_ENVIRONMENT, "AWS_SESSION_TOKEN"))
    return {name: value for name, value in zip(names, found, strict=True) if value}


def credentials_place(settings: S3Settings) -> str:
    """Where the credentials are from, in words."""
    if settings.access_key_id is not None:
        return f"storage.s3 ({settings.access_key_id}, {settings.secret_access_key})"
    if all(os.environ.get(name) for name in _FROM_ENVIRONMENT):
        return "the environment (AWS_ACCESS_KEY_ID)"
    return "the AWS profile or the role of this machine"


def s3_place(data_path: str, settings: S3Settings) -> str:
    """Where the Parquet files are, and how they are asked for, in words."""
    scheme = "https" if settings.is_encrypted_in_transit else "http"
    region = _region(settings)
    words = [f"{scheme}://{settings.host}" if settings.host else "AWS"]
    words += [f"region {region}"] if region else []
    words += [f"{settings.style} style"]
    return f"{data_path} ({', '.join(words)})"


# ------------------------------------------------------------------------------------------ errors


def unreachable(
    error: Exception, folder: Path, settings: LakeSettings, data_path: str
) -> LakeUnreachableError | None:
    """What `error` says of a server that can't be reached or refuses; None if nothing.

    The text holds the settings' values, but no password and no key.
    """
    if not isinstance(error, duckdb.Error):
        return None
    text = str(error)
    if any(words in text for words in _OF_POSTGRES):
        return LakeUnreachableError(
            f"the catalogue can't be reached: {catalogue_place(folder, settings)}: "
            f"{_why_postgres(text)}; nothing was stored. Check storage.catalog"
        )
    status = getattr(error, "status_code", None)
    is_a_request = data_path.startswith("s3://") and (status or re.search(_NO_STATUS, text))
    of_one_file = status in _OF_ONE_FILE and ".parquet" in text
    if not is_a_request or (of_one_file and "NoSuchBucket" not in text):
        return None
    why, mend = _why_s3(text, status, data_path, settings.s3)
    return LakeUnreachableError(
        f"{s3_place(data_path, settings.s3)}: {why}; nothing was stored. {mend}"
    )


def _why_postgres(text: str) -> str:
    # Its own words may repeat parts of the connection string: a password with a space, or an @.
    if found := re.search(_NOT_THERE, text):
        return f"there is no such {found[1]}"
    return next((said for words, said in _REFUSALS.items() if words in text), "it refuses")


def _why_s3(text: str, status: int | None, data_path: str, settings: S3Settings) -> tuple[str, str]:
    """What is wrong, and the mend."""
    if status is None:
        if _MORE_THAN_ASKED in text:
            return "it sends more than the part of a file that was asked for", (
                "Check that storage.s3.region is the bucket's region, and that the store serves "
                "parts of files (range requests)"
            )
        if "resolve hostname" in text and settings.style == "vhost":
            return "its host name is not known", (
                "Check storage.s3.endpoint, region and the bucket's name; a store without a host "
                'name for each bucket needs url_style = "path"'
            )
        if "resolve hostname" in text:
            return "its host name is not known", "Check storage.s3.endpoint"
        if "SSL" in text:
            return "no TLS connection can be made", (
                "Check its certificate; for a store without TLS, begin storage.s3.endpoint with "
                "http://"
            )
        return "nothing answers there", "Check storage.s3.endpoint, and that the store runs"
    for code, (what, mend) in _REFUSED_CREDENTIALS.items():
        if code in text:
            return f"{_refused(status, settings)}: {what}", mend
    for code, told in _S3_CODES.items():
        if code in text:
            return told
    if status == _FORBIDDEN:
        return _refused(status, settings), _MEND_ACCESS
    if status == _MOVED:
        return _ELSEWHERE
    return f"the request is not accepted (HTTP {status})", (
        "Check that storage.s3.region is the bucket's region, and url_style"
    )


def _refused(status: int, settings: S3Settings) -> str:
    place = credentials_place(settings)
    return f"access is refused (HTTP {status}) to the credentials of {place}"
