"""An S3 of a test's own, in this process, on the loopback."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""With which it is asked; nobody is asked for a role."""


@contextmanager
def server() -> Iterator[Any]:
    """A server; gives boto3's client, whose `endpoint` is ``127.0.0.1:port``."""
    # Half a second that the other tests need not wait for.
    import boto3
    from moto import server

    requests = logging.getLogger("werkzeug")
    level_before = requests.level
    requests.setLevel(logging.ERROR)
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    try:
        host, port = running.get_host_and_port()
        client = boto3.client(
            "s3",
            endpoint_url=f"http://{host}:{port}",
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        client.endpoint = f"{host}:{port}"
        yield client
    finally:
        running.stop()
        requests.setLevel(level_before)


@dataclass(frozen=True)
class Request:
    """What is asked of a store, and with what."""

    method: str
    path: str
    key_id: str
    region: str


@dataclass(frozen=True)
class Refusal:
    """A store's answer to what it does not do."""

    status: int
    code: str
    message: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response(f"{self.status} {self.code}", list(self.headers.items()))
        text = f"<Error><Code>{self.code}</Code><Message>{self.message}</Message></Error>"
        return [text.encode()] if environ["REQUEST_METHOD"] != "HEAD" else []


def refuse(patch: pytest.MonkeyPatch, why: Callable[[Request], Refusal | None]) -> None:
    """Have the servers of this process refuse what is signed, and for which `why` says so."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication

    usual = DomainDispatcherApplication.get_application

    def answer(self: DomainDispatcherApplication, environ: dict[str, Any]) -> Any:
        signed = re.search(
            r"Credential=([^/]+)/\d+/([^/]+)/s3/", environ.get("HTTP_AUTHORIZATION", "")
        )
        asked = signed and Request(
            environ["REQUEST_METHOD"], environ["PATH_INFO"], *signed.groups()
        )
        return (asked and why(asked)) or usual(self, environ)

    patch.setattr(DomainDispatcherApplication, "get_application", answer)
