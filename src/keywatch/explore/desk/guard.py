"""Who may speak to the triage page: whoever has its token, from a browser on this machine.

Another page in the same browser must not read it or give verdicts through it. So a request needs
the cookie that the token buys; its Host must be this server's, for a name that is made to point
here (DNS rebinding) is not; and what changes something needs our own Origin and the form's token.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from keywatch.explore.web import guarded

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_SAFE_METHODS = ("GET", "HEAD")


class Guard:
    """An ASGI middleware that lets through only what the module's text says.

    `token` opens the page once per browser; `form_token` stands in each form.
    """

    def __init__(self, app: ASGIApp, token: str, form_token: str, port: int) -> None:
        self._app = app
        self._token = token
        self._session = secrets.token_urlsafe(32)
        self._form_token = form_token
        # Cookies know no ports: two pages on one machine must not take each other's.
        self._cookie = f"keywatch_{port}"
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # a socket that is not accepted is refused

        answer = self._refusal(Request(scope))
        await (answer or self._app)(scope, receive, guarded(send))

    def _refusal(self, request: Request) -> Response | None:
        """What is answered in the page's place; None where it may be seen."""
        if request.headers.get("host", "") not in self._hosts:
            return PlainTextResponse("This server has another name.", 421)
        if not _same(request.cookies.get(self._cookie, ""), self._session):
            return self._welcome(request)
        if request.method not in _SAFE_METHODS:
            origin = request.headers.get("origin", "")
            if origin.removeprefix("http://") not in self._hosts:
                return PlainTextResponse("Only forms of this page may do that.", 403)
        return None

    def _welcome(self, request: Request) -> Response:
        """The cookie for the token; the address without the token, which history would keep."""
        if not _same(request.query_params.get("token", ""), self._token):
            return PlainTextResponse("Open the address printed by keywatch triage.", 401)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(self._cookie, self._session, httponly=True, samesite="strict", path="/")
        return answer

    def is_own_form(self, form_token: str) -> bool:
        """Whether a form's token is the one that this page put into it."""
        return _same(form_token, self._form_token)


def _same(one: str, other: str) -> bool:
    return secrets.compare_digest(one.encode(), other.encode())
