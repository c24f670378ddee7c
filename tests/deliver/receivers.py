"""Real receivers on the loopback: HTTP servers that misbehave on command, and a mail server."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as default_policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session


@dataclass(frozen=True)
class Answer:
    """What the server does with one request: answer, or hang or close before it does.

    An endless answer goes on until the sender hangs up.
    """

    status: int = 200
    body: str = "ok"
    headers: dict[str, str] = field(default_factory=dict)
    hang_seconds: float = 0.0
    close: bool = False
    endless: bool = False


@dataclass(frozen=True)
class Request:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Behaviour = Callable[[Request], Answer]


class Receiver:
    """An HTTP server; `behave` says what it does with the next requests."""

    def __init__(
        self, behave: Behaviour = lambda _: Answer(), tls: ssl.SSLContext | None = None
    ) -> None:
        self.behave = behave
        self.requests: list[Request] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("content-length", 0))
                request = Request(
                    self.path,
                    {name.lower(): value for name, value in self.headers.items()},
                    self.rfile.read(length),
                )
                with receiver._lock:
                    receiver.requests.append(request)
                    answer = receiver.behave(request)
                if answer.hang_seconds:
                    receiver._over.wait(answer.hang_seconds)
                if answer.close:
                    self.connection.close()
                    return
                body = answer.body.encode()
                try:
                    self.send_response(answer.status)
                    for name, value in answer.headers.items():
                        self.send_header(name, value)
                    if not answer.endless:
                        self.send_header("content-length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                    while answer.endless and not receiver._over.is_set():
                        self.wfile.write(b"x" * 65536)
                except OSError:
                    pass  # the sender did not wait for it

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
            self.url = f"https://localhost:{self._server.server_address[1]}"

    @contextmanager
    def running(self) -> Iterator[Receiver]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            self._server.shutdown()
            self._server.server_close()
            thread.join()


def in_turn(*answers: Answer, then: Answer) -> Behaviour:
    """These answers, one a request, and `then` for ever."""
    left = list(answers)
    return lambda _: left.pop(0) if left else then


@dataclass
class Mailbox:
    """A mail server with STARTTLS and a login, and what it has got."""

    port: int
    ca_file: Path
    mails: list[EmailMessage] = field(default_factory=list)
    refuse: list[str] = field(default_factory=list)
    """Answers to the next DATA commands, such as ``451 later``."""
    logins: list[tuple[str, str]] = field(default_factory=list)
    replies: dict[str, list[str]] = field(default_factory=dict)
    """Answers to the next commands of a recipient, or of ``MAIL``."""
    asked: list[str] = field(default_factory=list)
    """Each recipient that was named, in order."""
    hangs_up_at: str = ""
    """The command, RCPT or DATA, at whose end it closes the connection without an answer."""

    async def handle_MAIL(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if said := self.replies.get("MAIL"):
            return said.pop(0)
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self.asked.append(address)
        self._hang_up(server, "RCPT")
        if said := self.replies.get(address):
            return said.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        if self.refuse:
            return self.refuse.pop(0)
        content = envelope.content
        assert isinstance(content, bytes)
        self.mails.append(message_from_bytes(content, policy=default_policy))
        self._hang_up(server, "DATA")
        return "250 taken"

    def _hang_up(self, server: SMTP, command: str) -> None:
        if command == self.hangs_up_at:
            assert server.transport is not None
            server.transport.close()

    def authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.logins.append((data.login.decode(), data.password.decode()))
        right = data.password == b"mail-pass-word"
        return AuthResult(success=right, handled=right)


def own_certificate(folder: Path) -> ssl.SSLContext:
    """TLS for localhost by an authority that no machine knows; its certificate is ``ca.pem``."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    return context


@contextmanager
def mail_server(folder: Path, *, tls: bool = False, offers_tls: bool = True) -> Iterator[Mailbox]:
    context = own_certificate(folder)
    box = Mailbox(0, folder / "ca.pem")

    def session() -> SMTP:
        return SMTP(
            box,
            loop=loop,
            hostname="localhost",
            tls_context=context if offers_tls and not tls else None,
            require_starttls=offers_tls and not tls,
            authenticator=box.authenticate,
            auth_required=offers_tls and not tls,
            auth_require_tls=offers_tls and not tls,
        )

    loop = asyncio.new_event_loop()
    started = loop.create_server(session, "127.0.0.1", 0, ssl=context if tls else None)
    server = loop.run_until_complete(started)
    box.port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield box
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.05))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
