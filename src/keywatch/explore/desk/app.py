"""The pages of `keywatch triage`, over the facade of the notebooks; made on the server, no script.

Each page reads one snapshot and closes it, so the page never keeps a load or a review waiting. A
verdict takes the writer's lock for a moment, and says so when somebody else has it.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args
from urllib.parse import urlencode

from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from keywatch import pipeline
from keywatch.errors import KeywatchError, LakeBusyError, LakeError, UsageError
from keywatch.explore.common import rows_of
from keywatch.explore.desk.guard import Guard
from keywatch.explore.key import KeyView
from keywatch.explore.notebook import LakeView, VerdictLake
from keywatch.explore.web import day_of, first_of, read_form, style
from keywatch.explore.week import WeekView
from keywatch.model import ACTIONS, FAMILIES, SEVERITIES, Review, Verdict
from keywatch.report import render_failure
from keywatch.report.alert_list import age
from keywatch.report.html import render_html, render_page
from keywatch.review.verdicts import latest_end
from keywatch.text.phrases import iso_week, window_label

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from keywatch.settings import Settings

_Asked = TypeVar("_Asked")

_STATES = {"open": "no verdict", "judged": "with verdict", "all": "all"}
_SORTS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "action": lambda case: ACTIONS.index(case["action"]),
    "key": lambda case: (case["name"] or case["key_id"]).casefold(),
    "owner": lambda case: (case["owner"] or "").casefold(),
    "bits": lambda case: case["bits"],
}
_CHARTS = ("timeline", "map", "endpoints")
_MOST_CASES = 500
_MOST_KEYS_KEPT = 32
_MOST_ADDRESSES = 40
_NO_CASE = {"action": "none", "bits": None, "summary": "", "steps": (), "events_query": ""}
"""Of a key that no alert named."""
_WAIT_SECONDS = 5.0
"""How long a verdict waits for another writer: somebody sits before the page."""


class Desk:
    """The triage page of a lake; `app` is what a server serves on `port`.

    Without `by`, who gives verdicts, it is read-only. `token` is to be in the first request's
    address.
    """

    def __init__(self, folder: Path, settings: Settings, port: int, by: str | None = None) -> None:
        storage = settings.storage
        hasty = storage.model_copy(
            update={"wait_seconds": min(storage.wait_seconds, _WAIT_SECONDS)}
        )
        self._settings = settings.model_copy(update={"storage": hasty})
        self._lake = LakeView(folder, self._settings, "arrow")
        self._verdicts = None if by is None else VerdictLake(folder, self._settings, by, "arrow")
        self._form_token = secrets.token_urlsafe(32)
        self._keys: OrderedDict[tuple[str, str], KeyView] = OrderedDict()
        self._turn = CapacityLimiter(1)
        self.token = secrets.token_urlsafe(32)
        routes = [
            Route("/", self._page(self._of_one_snapshot(self._cases))),
            Route("/case", self._page(self._of_one_snapshot(self._case))),
            Route("/chart", self._page(self._of_one_snapshot(self._chart))),
            Route("/report", self._page(self._report)),
            Route("/style.css", self._page(self._style)),
        ]
        if self._verdicts is not None:
            routes.append(Route("/verdict", self._posted(self._given), methods=["POST"]))
            routes.append(Route("/alert", self._posted(self._noted), methods=["POST"]))
        self._guard = Guard(Starlette(routes=routes), self.token, self._form_token, port)

    @property
    def app(self) -> ASGIApp:
        """The ASGI application, behind its guard."""
        return self._guard

    # -------------------------------------------------------------------------------------- pages

    def _page(self, make: Callable[[Mapping[str, str]], Response]) -> Callable[..., Any]:
        """An endpoint that makes a page of its address's parameters; what is wrong is told."""

        async def endpoint(request: Request) -> Response:
            asked = dict(request.query_params)
            return await self._in_turn(partial(self._answer, make, asked))

        return endpoint

    def _of_one_snapshot(
        self, make: Callable[[Mapping[str, str]], Response]
    ) -> Callable[[Mapping[str, str]], Response]:
        def made(asked: Mapping[str, str]) -> Response:
            with self._lake.one_snapshot():
                return make(asked)

        return made

    async def _in_turn(self, make: Callable[[], Response]) -> Response:
        """Made in another thread, one page or picture after the other.

        DuckDB and Vega are native code, and one person looks: nothing is won by doing more at once.
        """
        return await to_thread.run_sync(make, limiter=self._turn)

    def _answer(self, make: Callable[[_Asked], Response], asked: _Asked) -> Response:
        try:
            return make(asked)
        except KeywatchError as e:
            return self._sorry(e)

    def _sorry(self, error: KeywatchError) -> Response:
        if isinstance(error, LakeBusyError):
            told, status = "Another process is writing to the lake. Nothing was changed.", 503
        elif isinstance(error, LakeError):
            told, status = "The lake can't be read.", 500
        else:
            told, status = "This request is not possible.", 400
        return self._html(
            "desk_sorry.html.j2", status, title=told, told=told, why=render_failure(error)
        )

    def _html(self, template: str, status: int = 200, **values: object) -> Response:
        text = render_page(
            template,
            by=None if self._verdicts is None else self._verdicts.by,
            attribution=Review.attribution.partition(" (")[0],
            **values,
        )
        return HTMLResponse(text, status)

    def _style(self, asked: Mapping[str, str]) -> Response:
        return style()

    def _cases(self, asked: Mapping[str, str]) -> Response:
        week = self._lake.week(asked.get("week") or None)
        alerted = [case for case in rows_of(week.cases()) if case["action"] != "none"]
        state = asked.get("state", "open")
        shown = [case for case in alerted if _fits(case, asked, state)]
        shown.sort(key=_urgency)
        sort = asked.get("sort", "")
        falls = asked.get("order", "desc" if sort == "bits" else "asc") == "desc"
        if sort in _SORTS:
            shown.sort(key=_SORTS[sort], reverse=falls)
        label = iso_week(week.window) or ""
        kept = {name: asked.get(name, "") for name in ("week", "text", "action", "owner")}
        kept["state"] = state

        def sorted_by(name: str) -> dict[str, str]:
            """Its head's link, which turns the order round, and how it stands."""
            now = "" if sort != name else "descending" if falls else "ascending"
            first = "desc" if name == "bits" else "asc"
            order = {"ascending": "desc", "descending": "asc"}.get(now, first)
            return {"link": _link("/", **kept, sort=name, order=order), "now": now}

        return self._html(
            "desk_cases.html.j2",
            title=f"Triage, {window_label(week.window)}",
            window=window_label(week.window),
            cases=[
                {**case, "link": _link("/case", key=case["key_id"], week=label)}
                for case in shown[:_MOST_CASES]
            ],
            more=max(len(shown) - _MOST_CASES, 0),
            total=len(alerted),
            asked={**kept, "sort": sort, "order": asked.get("order", "")},
            heads={name: sorted_by(name) for name in _SORTS},
            states=_STATES,
            weeks=[row["week"] for row in rows_of(self._lake.weeks()) if row["week"]],
            week=label,
            owners=sorted({case["owner"] for case in alerted if case["owner"]}),
            actions=[action for action in ACTIONS if action != "none"],
            report=_link("/report", week=label),
        )

    def _case(self, asked: Mapping[str, str]) -> Response:
        week, key = self._key(asked, afresh=True)
        label = iso_week(week.window) or ""
        named = {"key": key.key_id, "week": label}
        verdicts = rows_of(key.verdicts())
        of_week = (week.window.start, week.window.end)
        in_force = [
            row
            for row in verdicts
            if row["in_force"] and (row["window_start"], row["window_end"]) == of_week
        ]
        evidence = [row for row in rows_of(key.evidence()) if row["counted_bits"] is not None]
        answered = self._lake.response()
        return self._html(
            "desk_case.html.j2",
            title=f"{key.facts.name or key.key_id}, {window_label(week.window)}",
            key=key,
            case=key.case or _NO_CASE,
            window=window_label(week.window),
            facts=_facts(key),
            evidence=evidence,
            bits_scale=sum(row["counted_bits"] for row in evidence) or 1.0,
            charts={name: _link("/chart", **named, chart=name) for name in _CHARTS},
            origins=rows_of(key.origins())[:12],
            endpoints=rows_of(key.endpoints())[:20],
            neighbours=rows_of(key.neighbours())[:20],
            verdicts=verdicts,
            in_force=in_force[0] if in_force else None,
            alerts=[
                (one, age(one, answered.as_of))
                for one in answered.open
                if key.key_id in one.key_ids
            ],
            week=label,
            form_token=self._form_token,
            words=get_args(Verdict),
            families=FAMILIES,
            places=_places(key),
            latest_end=latest_end(),
            back=_link("/", week=label),
            report=_link("/report", week=label),
        )

    def _chart(self, asked: Mapping[str, str]) -> Response:
        """A chart as a picture, of which a browser can run nothing.

        In pixels, two for one: how wide text is, is known only where it is drawn.
        """
        import vl_convert

        theme = "dark" if asked.get("theme") == "dark" else "light"
        _, key = self._key(asked)
        draw = {
            "timeline": key.timeline_chart, "map": key.map, "endpoints": key.endpoint_chart
        }.get(asked.get("chart", ""))  # fmt: skip
        if draw is None:
            raise UsageError(f"unknown chart; available: {', '.join(_CHARTS)}")
        picture: bytes = vl_convert.vegalite_to_png(
            draw(theme).to_json(), scale=2, allowed_base_urls=[]
        )
        return Response(picture, media_type="image/png")

    def _report(self, asked: Mapping[str, str]) -> Response:
        """The weekly report as it would be now; nothing is stored."""
        week = self._lake.week(asked.get("week") or None)
        answer, details = pipeline.review_in_detail(
            self._lake.folder, week.window, self._settings, keep=False
        )
        # The page brings its own policy, which allows its own scripts and nothing else.
        headers = {"content-security-policy": "frame-ancestors 'none'"}
        return HTMLResponse(render_html(answer, details), headers=headers)

    def _key(self, asked: Mapping[str, str], afresh: bool = False) -> tuple[WeekView, KeyView]:
        """The key that is asked for; its charts are drawn of what its page was made of."""
        if not asked.get("key"):
            raise UsageError("no key given")
        week = self._lake.week(asked.get("week") or None)
        at = (asked["key"], week.run_id)
        if afresh or at not in self._keys:
            self._keys[at] = week.key(asked["key"])
            while len(self._keys) > _MOST_KEYS_KEPT:
                self._keys.popitem(last=False)
        return week, self._keys[at]

    # ----------------------------------------------------------------------------------- verdicts

    def _posted(
        self, change: Callable[[Mapping[str, Sequence[str]]], Response]
    ) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint that makes a change as its form says, if it is one of these pages' own."""

        async def endpoint(request: Request) -> Response:
            form = await read_form(request)
            if form is None or not self._guard.is_own_form(first_of(form, "form_token")):
                refused = UsageError("this form is out of date; open the case again")
                answer = self._sorry(refused)
                answer.status_code = 403
                return answer
            return await self._in_turn(partial(self._answer, change, form))

        return endpoint

    def _noted(self, form: Mapping[str, Sequence[str]]) -> Response:
        """An assignment, a comment or an approval of an alert."""
        assert self._verdicts is not None
        alert, text, done = first_of(form, "alert"), first_of(form, "text"), first_of(form, "do")
        if done == "assign":
            self._verdicts.assign(alert, text)
        elif done == "comment":
            self._verdicts.comment(alert, text)
        elif done == "approve":
            self._verdicts.approve(alert, text)
        else:
            raise UsageError("unknown change of an alert")
        case = _link("/case", key=first_of(form, "key"), week=first_of(form, "week"))
        return RedirectResponse(f"{case}#alert", 303)

    def _given(self, form: Mapping[str, Sequence[str]]) -> Response:
        assert self._verdicts is not None
        key, week = first_of(form, "key"), first_of(form, "week") or None
        because, said = first_of(form, "because"), first_of(form, "verdict")
        if said == "undo":
            self._verdicts.undo(key, because, week=week)
        elif said in get_args(Verdict):
            verdict: Any = said
            is_expected = said == "expected"
            self._verdicts.verdict(
                key, verdict, because, week=week, origins=form.get("origin", ()),
                until=day_of(first_of(form, "until")) if is_expected else None,
                families=form.get("family", ()) if is_expected else (),
            )  # fmt: skip
        else:
            raise UsageError("unknown verdict")
        return RedirectResponse(_link("/case", key=key, week=week or "") + "#verdict", 303)


def _fits(case: Mapping[str, Any], asked: Mapping[str, str], state: str) -> bool:
    text = " ".join(
        str(case[name] or "") for name in ("key_id", "name", "owner", "summary", "story")
    )
    return (
        (state == "all" or (case["verdict"] is not None) == (state == "judged"))
        and asked.get("action", "") in ("", case["action"])
        and asked.get("owner", "") in ("", case["owner"])
        and all(word in text.casefold() for word in asked.get("text", "").casefold().split())
    )


def _urgency(case: Mapping[str, Any]) -> tuple[int, int, float]:
    """As `Case.urgency`, of what the list knows; an older Keywatch stored no severity."""
    severity = case["severity"] or SEVERITIES[-1]
    return ACTIONS.index(case["action"]), SEVERITIES.index(severity), -case["bits"]


def _facts(key: KeyView) -> list[tuple[str, str]]:
    known = key.facts
    facts = [
        ("id", key.key_id),
        ("owner", known.owner or "unknown"),
        ("environment", known.environment or "unknown"),
        ("scopes", "unknown" if known.scopes is None else ", ".join(known.scopes) or "none"),
        ("created", "" if known.created_at is None else f"{known.created_at:%Y-%m-%d}"),
        ("revoked", "" if known.revoked_at is None else f"{known.revoked_at:%Y-%m-%d %H:%M} UTC"),
        ("seen", f"{known.first_day} to {known.last_day}" if known.first_day else "never"),
    ]
    return [fact for fact in facts if fact[1]]


def _places(key: KeyView) -> dict[str, str]:
    """The prefixes of the week and whose they are, the most used first."""
    used = [row for row in rows_of(key.origins("address")) if row["requests_now"]]
    return {row["prefix"]: row["origin"] for row in used[:_MOST_ADDRESSES]}


def _link(path: str, **parameters: str) -> str:
    told = {name: value for name, value in parameters.items() if value}
    return f"{path}?{urlencode(told)}" if told else path
