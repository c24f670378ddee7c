"""The triage page's server: where it listens, and slow clients."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest
import uvicorn
from starlette.responses import PlainTextResponse

from keywatch.explore.desk.serve import serve
from keywatch.explore.web import PromptProtocol
from keywatch.settings import Settings
from tests.conftest import Loading

CLIENTS = 200
MINUTES = 180.0


class Impatient(PromptProtocol):
    """Of this test alone: a real one waits longer than a test should."""

    request_seconds = 0.5


@pytest.fixture
def port() -> Iterator[int]:
    config = uvicorn.Config(
        PlainTextResponse("seen"), port=0, log_level="error", ws="none", http=Impatient
    )
    listening = config.bind_socket()
    listening.listen(CLIENTS)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    yield listening.getsockname()[1]
    server.should_exit = True
    thread.join()
    listening.close()


def test_it_listens_on_this_machine_alone(
    loading: Loading, monkeypatch: pytest.MonkeyPatch
) -> None:
    places: list[str] = []

    def ran(server: uvicorn.Server, sockets: list[socket.socket]) -> None:
        places.extend(each.getsockname()[0] for each in sockets)

    monkeypatch.setattr(uvicorn.Server, "run", ran)
    told: list[str] = []
    for _ in range(2):
        serve(loading.folder / "lake", Settings(), 0, None, told.append)
    assert set(places) == {"127.0.0.1"}
    tokens = [address.partition("/?token=")[2] for address in told]
    assert len(set(tokens)) == 2
    assert min(map(len, tokens)) >= 32


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HT", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc"]
)
def test_slow_clients_are_sent_away_and_the_page_goes_on(port: int, sent: bytes) -> None:
    with ExitStack() as open_ones:
        slow = [
            open_ones.enter_context(socket.create_connection(("127.0.0.1", port), MINUTES))
            for _ in range(CLIENTS)
        ]
        for client in slow:
            client.sendall(sent)
        answer = httpx.get(f"http://127.0.0.1:{port}/", trust_env=False, timeout=MINUTES)
        assert answer.text == "seen"
        # The server closes each: `recv` would wait for minutes else, and fail.
        for client in slow:
            _rest(client)


def _rest(client: socket.socket) -> bytes:
    received = b""
    while part := client.recv(4096):
        received += part
    return received


def test_who_asks_in_time_is_answered_again_and_again(port: int) -> None:
    with httpx.Client(trust_env=False, timeout=MINUTES) as client:
        address = f"http://127.0.0.1:{port}/"
        assert [client.get(address).text for _ in range(3)] == ["seen"] * 3
