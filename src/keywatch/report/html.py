"""A review as one HTML page: no network, no other file; charts are drawn as cases are opened.

Text from logs is hostile. Whatever a template prints goes through `printable` and is escaped, by
the environment and not by the template's author; data for scripts is JSON in which no ``<`` stands;
and the page's policy allows no script but its own, by their hashes, and no connection at all.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup, escape

from keywatch.model import SEVERITIES, Review, Technique
from keywatch.report import drawn, vega, views
from keywatch.report.alert_list import response_sentences
from keywatch.report.health import health_lines
from keywatch.report.parts import (
    BITS_MEANING,
    NEW_NETWORKS_MEANING,
    TRIAL,
    action_label,
    graded,
    weight,
)
from keywatch.review.history import Details
from keywatch.text.phrases import (
    asked_words,
    count,
    minute,
    rate,
    sentence,
    span,
    verdict_words,
    window_label,
)
from keywatch.text.safe_text import printable

_MOST_CASES = 200
_TEXT_LENGTH = 600
_QUERY_LENGTH = 100_000
_ATTRIBUTION_URL = "https://db-ip.com"


def render_html(review: Review, details: Details) -> str:
    """The review as a page; `details` as `keywatch.review.history.details` reads them for it."""
    style, script, bundle = _asset("report.css"), _asset("report.js"), vega.script()
    shown = details.cases[:_MOST_CASES]
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            policy=_policy([bundle, script], style),
            style=Markup(style),
            script=Markup(script),
            vega=Markup(bundle),
            data=_json(_chart_data(review, details)),
            review=review,
            window=window_label(review.window),
            verdict=views.verdict_of(review),
            health=health_lines(review.health),
            cases=views.case_views(shown, review, details),
            more_cases=details.cases[_MOST_CASES:],
            bits_scale=max((case.bits for case in shown), default=0.0) or 1.0,
            bits_meaning=BITS_MEANING,
            networks=views.network_rows(review),
            networks_meaning=NEW_NETWORKS_MEANING,
            cleared=review.cleared(),
            watched=views.watched(review),
            changes=details.changes,
            open_alerts=views.open_alerts(review),
            response=review.response and response_sentences(review.response),
            upkeep=views.upkeep(review, details),
            upkeep_line=views.upkeep_line(review),
            coverage=views.coverage_view(review, details),
            attribution_url=_ATTRIBUTION_URL,
            severities=SEVERITIES,
            actions=list(dict.fromkeys(case.action for case in shown)),
            owners=sorted({case.owner for case in shown if case.owner}),
        )
    )


def render_page(template: str, **values: object) -> str:
    """A page of the triage server, by a template of this package; as safe as the report."""
    return _environment().get_template(template).render(**values)


def render_card(name: str, **values: object) -> str:
    """A fragment for a notebook: the macro `name` of ``cards.html.j2``, as safe as the page."""
    cards = _environment().get_template("cards.html.j2").module
    card: str = getattr(cards, name)(**values)
    return str(card)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("keywatch.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        count=count, label=action_label, rate=rate, sentence=sentence, span=span,
        window_label=window_label, query=_query, commands=_with_commands, weight=weight,
        verdict=verdict_words, asked=asked_words, minute=minute, graded=graded,
        technique=_technique,
    )  # fmt: skip
    environment.globals["trial"] = TRIAL
    return environment


def _shown(value: object) -> object:
    """What a template prints: text without what could hide or reorder it; then it is escaped."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return printable(value, _TEXT_LENGTH)
    return value


def _technique(technique: Technique) -> str:
    """``T1078.004 Valid Accounts: Cloud Accounts``, without its tactics."""
    return str(replace(technique, tactics=()))


def _query(text: str) -> Markup:
    """A query, which is of no use when it's cut."""
    return escape(printable(text, _QUERY_LENGTH))


def _with_commands(text: str) -> Markup:
    """A step of a runbook: what stands between backticks is a command to paste."""
    plain = printable(text, _QUERY_LENGTH)
    pieces = plain.split("`")
    if len(pieces) % 2 == 0:
        return escape(plain)
    code = Markup("<code>{}</code>")
    return Markup("").join(code.format(each) if at % 2 else each for at, each in enumerate(pieces))


def _asset(name: str) -> str:
    return resources.files("keywatch.report").joinpath(f"templates/{name}").read_text("utf-8")


def _policy(scripts: Iterable[str], style: str) -> str:
    """A content security policy under which nothing runs or loads but what is in the page."""
    return (
        f"default-src 'none'; script-src {' '.join(map(_digest, scripts))}; "
        f"style-src {_digest(style)}; img-src data:; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return f"'sha256-{digest}'"


def _json(value: object) -> Markup:
    """JSON that means the same inside a script element, whatever text is in it."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _chart_data(review: Review, details: Details) -> dict[str, Any]:
    """What the page's script draws; a case's rows are columns, its texts are numbered."""
    tables = (
        ("timeline", details.timeline, drawn.timeline_rows),
        ("map", details.origins, drawn.map_rows),
        ("endpoints", details.endpoints, drawn.endpoint_rows),
    )
    cases: dict[str, dict[str, Any]] = defaultdict(dict)
    shown = {case.key_id: number for number, case in enumerate(details.cases[:_MOST_CASES])}
    for name, table, rows_of in tables:
        for key_id, rows in views.by_key(table).items():
            if key_id in shown:
                cases[str(shown[key_id])][name] = _columns(rows_of(rows))
    return {
        "specifications": vega.specifications(),
        "world": vega.world(),
        "week": drawn.week_row(review.window),
        "cases": cases,
    }


def _columns(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Rows by column; a column of texts is its distinct texts and their numbers."""
    columns: dict[str, Any] = {}
    for name in rows[0] if rows else ():
        values = [row[name] for row in rows]
        if values and isinstance(values[0], str):
            texts = list(dict.fromkeys(values))
            number = {text: index for index, text in enumerate(texts)}
            columns[name] = {"texts": texts, "at": [number[value] for value in values]}
        else:
            columns[name] = values
    return columns
