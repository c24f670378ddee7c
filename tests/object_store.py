"""An S3 of a test's own, in this process, on the loopback."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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
