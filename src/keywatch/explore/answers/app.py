"""The form that a question's link opens: one page, for whoever has a valid code.

Programs that check mails follow links, so a GET answers nothing: it shows the question and a form,
and its POST answers, once. Without a valid code every address shows the same page. A code is
checked before the lake is opened, and who tries others is soon sent away.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from keywatch import pipeline
from keywatch.deliver.wording import facts
from keywatch.errors import KeywatchError, LakeBusyError, UsageError
from keywatch.explore.web import day_of, first_of, guarded, read_form, style
from keywatch.lake import utc_now
from keywatch.notices import notice
from keywatch.report import render_failure
from keywatch.report.html import render_page
from keywatch.review.questions import earliest_end
from keywatch.review.verdicts import latest_end
from keywatch.text.phrases import answer_words

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from keywatch.deliver import Codes
    from keywatch.model import OwnerAnswer
    from keywatch.settings import Settings

_WAIT_SECONDS = 20.0
"""How long an answer waits for another writer: somebody sits before the page."""
_MOST_TRIES = 10
_MOST_TRIES_OF_ALL = 100
_TRIES_SECONDS = 60.0
"""So many codes that are not valid may one address, and all of them, try in a minute."""
_MOST_LOOKS = 30
"""So often may one question be opened in a minute."""
_MOST_KEPT = 10_000


class Answers:
    """The page over the lake in `folder`, an ASGI application for ``[owners] base_url``.

    `bind` is where it listens, which may be asked for by that name as well.
    """

    def __init__(self, folder: Path, settings: Settings, codes: Codes, bind: str) -> None:
        assert settings.owners.base_url is not None
        wait = min(settings.storage.wait_seconds, _WAIT_SECONDS)
        storage = settings.storage.model_copy(update={"wait_seconds": wait})
        self._settings = settings.model_copy(update={"storage": storage})
        self._folder = folder
        self._codes = codes
        address = urlsplit(settings.owners.base_url)
        self._origin = f"{address.scheme}://{address.netloc}"
        self._hosts = {address.netloc.lower(), bind.lower()}
        self._turn = CapacityLimiter(1)
        self._tries = Limiter(_MOST_TRIES, _TRIES_SECONDS)
        self._all_tries = Limiter(_MOST_TRIES_OF_ALL, _TRIES_SECONDS)
        self._looks = Limiter(_MOST_LOOKS, _TRIES_SECONDS)
        routes = [
            Route("/answer", self._show),
            Route("/answer", self._answer, methods=["POST"]),
            Route("/style.css", self._style),
        ]
        refused = {404: self._nothing, 405: self._nothing}
        self._app = Starlette(routes=routes, exception_handlers=refused)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            named = Request(scope).headers.get("host", "").lower()
            refused = PlainTextResponse("This server has another name.", 421)
            answer = self._app if named in self._hosts else refused
            await answer(scope, receive, guarded(send))

    # -------------------------------------------------------------------------------------- pages

    async def _show(self, request: Request) -> Response:
        code = request.query_params.get("code", "")
        return self._refusal(request, code) or await self._in_turn(partial(self._form, code))

    async def _answer(self, request: Request) -> Response:
        form = await read_form(request) or {}
        code = first_of(form, "code")
        if refusal := self._refusal(request, code):
            return refusal
        if request.headers.get("origin") != self._origin:
            return _page("Only the form of this page can answer.", 403)
        said, until = first_of(form, "answer"), first_of(form, "until")
        return await self._in_turn(partial(self._given, code, said, until), code)

    async def _nothing(self, request: Request, _: Exception) -> Response:
        return _unknown()

    async def _style(self, _: Request) -> Response:
        return style()

    async def _in_turn(self, make: Callable[[], Response], code: str = "") -> Response:
        """Made in another thread, one after the other, as the pages of the desk are.

        What is wrong with an answer leads back to the question of `code`.
        """
        return await to_thread.run_sync(partial(_told, make, code), limiter=self._turn)

    def _refusal(self, request: Request, code: str) -> Response | None:
        """What is answered to a code that is not valid; None where it is."""
        try:
            question_id = self._codes.question_id(code, utc_now())
        except UsageError:
            peer = "" if request.client is None else request.client.host
            if self._tries.is_over(peer) | self._all_tries.is_over(""):
                return _page("Too many requests. Try again in a minute.", 429)
            return _unknown()
        if self._looks.is_over(question_id):
            return _page("Too many requests. Try again in a minute.", 429)
        return None

    def _form(self, code: str) -> Response:
        asked = pipeline.read_question(self._folder, code, self._settings)
        if asked.answered:
            return _answered(asked.answered, 200)
        message = asked.message
        return _page(
            message.title,
            why=message.why,
            facts=list(facts(message)),
            keys=message.keys if len(message.keys) > 1 else (),
            code=code,
            action=message.action,
            earliest_end=earliest_end(),
            latest_end=latest_end(),
            attribution=message.attribution,
        )

    def _given(self, code: str, said: str, until: str) -> Response:
        answers: dict[str, OwnerAnswer] = {
            "once": "yes", "until": "yes", "no": "no", "not_mine": "not_mine"
        }  # fmt: skip
        if said not in answers:
            raise UsageError("choose one of the answers")
        day = day_of(until) if said == "until" else None
        if said == "until" and day is None:
            raise UsageError("choose the day until which the use is expected")
        try:
            given = pipeline.answer_question(
                self._folder, code, answers[said], self._settings, way="link", until=day
            )
        except UsageError:
            # A button that was pressed twice: what counts is the first.
            asked = pipeline.read_question(self._folder, code, self._settings)
            if asked.answered:
                return _answered(asked.answered, 400)
            raise
        words = answer_words(given.answer, given.until)
        return _page("Thank you.", why=f"Your answer is recorded: {words}. Result: {given.note}.")


def _told(make: Callable[[], Response], code: str) -> Response:
    """What `make` makes, or what is wrong."""
    try:
        return make()
    except UsageError as e:
        return _page("This answer is not possible.", 400, why=render_failure(e), back=code)
    except LakeBusyError:
        why = "Keywatch is loading a log. Try again in a few minutes; nothing was recorded."
        return _page("Please try again.", 503, why=why, back=code)
    except KeywatchError as e:
        notice(f"an owner can't answer: {render_failure(e)}")
        return _page("This is not possible at the moment.", 500)


def _unknown() -> Response:
    why = "It was not copied as a whole, or it has expired. Contact your security team."
    return _page("This link is not valid.", 404, why=why)


def _answered(how: str, status: int) -> Response:
    return _page("This question was answered before.", status, why=how)


def _page(title: str, status: int = 200, **values: Any) -> Response:
    shown = {"why": "", "facts": (), "keys": (), "code": "", "back": "", "attribution": ""}
    text = render_page("answer.html.j2", **shown | {"title": title} | values)
    return HTMLResponse(text, status)


class Limiter:
    """Counts by name, and says when there were more than `most` in so many seconds."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._counted: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def is_over(self, name: str, now: float | None = None) -> bool:
        """Count one more for `name`; whether that is too many. `now` is `time.monotonic`'s."""
        now = time.monotonic() if now is None else now
        since, count = self._counted.pop(name, (now, 0))
        if now - since >= self._seconds:
            since, count = now, 0
        self._counted[name] = since, count + 1
        while len(self._counted) > _MOST_KEPT:
            self._counted.popitem(last=False)
        return count >= self._most
