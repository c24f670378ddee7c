"""The `[storage]` section: where a lake is, and how it is kept."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from keywatch.settings.secret_ref import SecretRef

_ENDPOINT = r"(?:https?://)?(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?/?"
_CATALOGUES = ("postgres:", "sqlite:")


_MOST_SECONDS = 2_000_000
"""SQLite takes a wait in milliseconds, of 32 bits."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class S3Settings(_Section):
    """The object store of the Parquet files, and the credentials for it."""

    endpoint: str | None = None
    """``host:port``, with ``http://`` or ``https://`` before it; by default AWS."""
    region: str | None = None
    """By default that of the environment or of the AWS profile."""
    url_style: Literal["path", "vhost"] | None = None
    """Whether the bucket is in the path or in the host's name; by default in the path at an
    endpoint of your own."""
    use_ssl: bool | None = None
    """By default as the endpoint says, else true."""
    access_key_id: SecretRef | None = None
    """By default the usual chain: environment, AWS profile, role of the machine."""
    secret_access_key: SecretRef | None = None
    """Together with `access_key_id`."""
    session_token: SecretRef | None = None
    """Of temporary credentials, which must last as long as a command runs."""

    @field_validator("endpoint")
    @classmethod
    def _is_endpoint(cls, endpoint: str | None) -> str | None:
        # Not shown: somebody may have written credentials into it.
        if endpoint is not None and not re.fullmatch(_ENDPOINT, endpoint):
            raise ValueError(
                "not an endpoint: write host:port, or http://host:port, without credentials and "
                "without a path"
            )
        return endpoint

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("set both access_key_id and secret_access_key, or neither")
        if self.session_token is not None and self.access_key_id is None:
            raise ValueError("session_token needs access_key_id and secret_access_key")
        scheme = self.endpoint and self.endpoint.partition("://")[0]
        if scheme in ("http", "https") and self.use_ssl not in (None, scheme == "https"):
            raise ValueError(f"use_ssl contradicts the endpoint, which begins with {scheme}://")
        return self

    @property
    def host(self) -> str | None:
        """Host and port of the endpoint; None for AWS."""
        return self.endpoint and self.endpoint.rpartition("://")[2].rstrip("/")

    @property
    def is_encrypted_in_transit(self) -> bool:
        """Whether the store is asked by https."""
        if self.use_ssl is not None:
            return self.use_ssl
        return not (self.endpoint or "").startswith("http://")

    @property
    def style(self) -> str:
        """``path`` or ``vhost``."""
        return self.url_style or ("path" if self.endpoint else "vhost")


class LakeSettings(_Section):
    """Where tables are stored, and how long a writer waits for another one."""

    # Not in its representation, which may be logged: it may hold a password.
    catalog: str | None = Field(default=None, repr=False)
    """DuckLake catalogue, such as ``postgres:dbname=keywatch``; by default a SQLite file."""
    data_path: str | None = None
    """Folder of the Parquet files, e.g. ``s3://bucket/keywatch``; by default ``data``."""
    s3: S3Settings = S3Settings()
    key_hash_secret: SecretRef | None = None
    """The lake's secret for hashes of keys, the same on all machines; by default, the file
    ``key-hash.secret`` in the lake's folder."""
    encrypted: bool | None = None
    """Whether a new lake's Parquet files are encrypted, with keys that are in its catalogue; by
    default not. A lake stays as it was created."""
    wait_seconds: Annotated[float, Field(ge=0, le=_MOST_SECONDS)] = 300
    """How long a writer waits for another one, at most a week; then the lake is busy (exit 3)."""
    keep_events_days: Annotated[int, Field(ge=30)] | None = None
    """`keywatch lake maintain` prunes older events; by default none."""
    keep_snapshots_days: Annotated[int, Field(ge=1)] = 30
    """Older snapshots expire, and older runs can't be repeated on the same data."""
    memory_limit: str = "1GB"
    """The limit of DuckDB; the process needs about 1.5 times as much."""
    keys_at_once: Annotated[int, Field(ge=1)] = 5000
    """Keys whose tables a review makes at one time; more need more memory, fewer more time."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """Cores that a command uses; by default all, but for a small lake one, and in a load one to
    read lines and one to store them."""

    @field_validator("catalog")
    @classmethod
    def _is_catalogue(cls, catalog: str | None) -> str | None:
        if catalog is not None and not catalog.startswith(_CATALOGUES):
            raise ValueError("write postgres:CONNECTION or sqlite:FILE")
        return catalog

    @field_validator("data_path")
    @classmethod
    def _is_place(cls, place: str | None) -> str | None:
        if place is not None and re.fullmatch(r"s3://(?:/.*)?", place):
            raise ValueError(f"{place!r} names no bucket: write s3://bucket/prefix")
        return place if place is None else place.rstrip("/") or "/"
