"""Results of loads, verdicts, backtests and the demo, as text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from keywatch.content import content_path
from keywatch.detect.power import THEFTS, KeyPower, summary
from keywatch.model import Power, Rehearsal, RehearsedAlert, Review
from keywatch.report.layout import Cell, Grid, Page
from keywatch.review.questions import Answered
from keywatch.review.verdicts import Given, VerdictReport
from keywatch.text.phrases import (
    answer_words,
    count,
    iso_week,
    listed,
    named,
    percent,
    window_label,
)
from keywatch.text.safe_text import printable

if TYPE_CHECKING:
    from keywatch.load.ingest import LoadReport
    from keywatch.vendors.openapi import ApiDocument, Imported
    from keywatch.vendors.proposal import Proposal

_MOST_MISSED = 4
_ALERTS = ("revoke", "rotate", "investigate")
_MOST = 8


def render_load(report: LoadReport) -> str:
    """A load in a few lines: counts, duplicates, the first rejects, skipped files."""
    new = [file for file in report.files if not file.already_loaded and not file.left_out]
    old = len(report.files) - len(new) - len(report.left_out)
    lines = []
    if new:
        first = min((f.first_ts for f in new if f.first_ts), default=None)
        last = max((f.last_ts for f in new if f.last_ts), default=None)
        span = f", {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC" if first and last else ""
        sources = " and ".join(sorted({f.source for f in new if f.source}))
        lines.append(
            f"Loaded {count(report.total('events'), 'event')} from {count(len(new), 'file')}"
            f"{f' ({sources})' if sources else ''}{span}."
        )
    if old:
        lines.append(f"{count(old, 'file')} already loaded, skipped.")
    if again := report.total("duplicates"):
        lines.append(
            f"{count(again, 'request')} skipped as {named(again, 'a duplicate', 'duplicates')}."
        )
    if keyless := report.total("keyless"):
        lines.append(f"{count(keyless, 'event')} without a key stored separately.")
    if held := report.total("held_back"):
        lines.append(
            f"{count(held, 'event')} dated in the future, held back until "
            f"{named(held, 'its', 'their')} time: check the clock of the machine that wrote "
            f"{named(held, 'it', 'them')}."
        )
    if report.let_in:
        lines.append(f"{count(report.let_in, 'event')} released that had been held back.")
    if report.clock_is_doubted:
        lines.append("The whole log is dated in the future: this machine's clock may be wrong.")
    if report.new_addresses:
        lines.append(
            f"{count(report.new_addresses, 'new address', 'new addresses')} located "
            "(IP Geolocation by DB-IP, https://db-ip.com)."
        )
    if lists := report.address_lists:
        lines.append(
            f"{count(lists, 'request')} {named(lists, 'has', 'have')} a list of addresses "
            "(X-Forwarded-For). The client is the first from the right that "
            "[ingest] trusted_proxies does not name, or the first public address."
        )
    if missing := report.no_address:
        texts = [f'"{printable(text, max_length=40)}" ({n:,})' for text, n in missing.items()]
        shown = ", ".join(texts[:_MOST_MISSED])
        total = sum(missing.values())
        lines.append(
            f"{count(total, 'request')} {named(total, 'has', 'have')} no IP address but {shown}"
            f"{', …' if len(texts) > _MOST_MISSED else ''}; "
            f"{named(total, 'its origin is', 'their origins are')} unknown."
        )
    if report.learnt:
        places = [printable(f"{path}{{id}}", max_length=60) for path in report.learnt]
        n = len(places)
        lines.append(
            f"Learnt that {count(n, 'place')} in paths {named(n, 'holds', 'hold')} an id: "
            f"{listed(places, _MOST_MISSED)}."
        )
    if rejects := report.total("rejects"):
        lines.append(f"{count(rejects, 'line')} rejected as unreadable:")
        lines += [
            f"  {printable(str(group), max_length=300)}" for group in report.reject_groups[:_MOST]
        ]
        if (more := len(report.reject_groups) - _MOST) > 0:
            lines.append(f"  and for {count(more, 'more reason')}")
    if waiting := sum(file.waits for file in new):
        ends = named(waiting, "ends with an incomplete line", "end with incomplete lines")
        lines.append(f"{count(waiting, 'file')} {ends}; the next load reads the rest.")
    if report.left_out:
        lines.append(f"{count(len(report.left_out), 'file')} skipped:")
        lines += [
            f"  {printable(f'{file.path}: {_first_line(file.left_out)}', max_length=300)}"
            for file in report.left_out[:_MOST]
        ]
        if (more := len(report.left_out) - _MOST) > 0:
            lines.append(f"  and {more:,} more; keywatch doctor lists them")
    return "\n".join(lines)


def render_proposal(proposal: Proposal, home: Path, *, width: int = 100) -> str:
    """Which field of a sample is which column, its first rows as read, and what is next."""
    page = Page(width, color=False)
    page.add(Grid([["column", "field"], *_fields(proposal)], align=("left", "left")))
    page.blank()
    if proposal.events:
        rows: list[list[Cell]] = [["time (UTC)", "key", "address", "endpoint", "status"]]
        rows += [
            [f"{row['ts']:%Y-%m-%d %H:%M:%S}", *(_shown(row[name]) for name in _SHOWN)]
            for row in proposal.events
        ]
        page.add(Grid(rows, one_line=True))
        page.blank()
    for line, reason in proposal.rejects:
        page.add(f"Record {line} could not be read: {printable(reason)}")
    if proposal.source.time_zone:
        page.add(
            f"The times have no offset: {proposal.source.time_zone} is assumed. Where that is "
            f"wrong, change time_zone in sources/{proposal.source.name}.toml."
        )
    written = f"Written: {printable(str(home))}."
    if home.resolve().parent == content_path("vendors"):
        page.add(written)
    else:
        page.add(f"{written} To load such logs, name the folder in keywatch.toml:")
        page.add(f"[content] folders = [{json.dumps(str(home.parent.parent))}]", indent=2)
    page.add(
        f"Keys and other secrets in {printable(str(home / 'tests' / 'sample.toml'))} are replaced; "
        "addresses, names and paths are the sample's. Look through it before you share it."
    )
    return page.text


def render_imported(read: ApiDocument, done: Imported, *, width: int = 100) -> str:
    """What an OpenAPI document added to a vendor's catalogue, and what is next."""
    page = Page(width, color=False)
    sensitive = [each for each in done.added if each.sensitivity != "none"]
    if sensitive:
        rows: list[list[Cell]] = [["sensitivity", "endpoint", "scope", "why"]]
        ranked = sorted(sensitive, key=lambda each: _RANKS.index(each.sensitivity))
        rows += [
            [each.sensitivity, _shown(each.name), _shown(each.scope), each.why] for each in ranked
        ]
        page.add(Grid(rows, align=("left",) * 4, one_line=True))
        page.blank()
    with_scope = sum(each.scope is not None for each in done.added)
    page.add(
        f"{printable(read.title) or 'The API'}: {count(len(done.added), 'endpoint')} added, "
        f"{len(sensitive):,} of them proposed as sensitive, {with_scope:,} with a scope; "
        f"{count(done.known, 'endpoint')} listed before."
    )
    if done.gone:
        page.add(
            f"{count(len(done.gone), 'endpoint')} of the catalogue not in the document, and kept: "
            f"{_some(done.gone)}."
        )
    if read.unclear_scopes:
        page.add(
            f"Left out: {count(len(read.unclear_scopes), 'scope')} that calls name together with "
            f"others, since it is unclear whether all are required: {_some(read.unclear_scopes)}."
        )
    if read.passed_over:
        page.add(
            f"Skipped: {count(len(read.passed_over), 'path')} too long, or in another file "
            f"($ref; bundle the document first): {_some(read.passed_over)}."
        )
    page.add(
        f"Written: {printable(str(done.home / 'catalogue.toml'))}. Review the sensitivities, and "
        "name the folder in keywatch.toml:"
    )
    page.add(f"[content] folders = [{json.dumps(str(done.home.parent.parent))}]", indent=2)
    return page.text


_RANKS = ("critical", "high", "low", "none")


_MOST_NAMED = 5


def _some(names: Iterable[str]) -> str:
    return listed((printable(name, max_length=80) for name in names), _MOST_NAMED)


_SHOWN = ("key_id", "address", "endpoint", "status")


def _fields(proposal: Proposal) -> list[list[Cell]]:
    return [[name, printable(field, max_length=60)] for name, field in proposal.fields.items()]


def _shown(value: object) -> str:
    return "–" if value is None else printable(str(value), max_length=40)


def _first_line(text: str) -> str:
    return text.partition("\n")[0]


def render_demo_verdict(review: Review, truth: Iterable[Mapping[str, Any]]) -> str:
    """The review beside the sample's truth: found, missed, and innocent keys alerted."""
    by_key = {row["key_id"]: row for row in truth}
    stolen = {key_id for key_id, row in by_key.items() if row["stolen"]}
    actions = {case.key_id: case.action for case in review.cases}
    revoked = [key for key in stolen if actions.get(key) == "revoke"]
    rotated = [key for key in stolen if actions.get(key) == "rotate"]
    looked_at = [key for key in stolen if actions.get(key) == "investigate"]
    missed = sorted(by_key[key]["theft"] for key in stolen if actions.get(key, "none") == "none")
    innocent = [key for key, action in actions.items() if action in _ALERTS and key not in stolen]
    missed_kinds = f" ({listed(missed, _MOST_MISSED)})" if missed else ""
    share = len(innocent) / max(1, len(by_key) - len(stolen))
    lines = [
        "Ground truth of this sample",
        f"  stolen keys            {len(stolen)} of {len(by_key)}",
        f"  found, to revoke       {len(revoked)}",
        *([f"  found, to rotate       {len(rotated)}"] if rotated else []),
        f"  found, to investigate  {len(looked_at)}",
        f"  missed                 {len(missed)}{missed_kinds}",
        f"  false alarms           {len(innocent)} ({100 * share:.1f} % of the keys not stolen)",
    ]
    return "\n".join(lines)


def render_power(powers: Sequence[KeyPower], *, width: int = 100) -> str:
    """Which thefts would be caught: of one key in sentences, of many in a table."""
    page = Page(width, color=False)
    if len(powers) == 1:
        page.add(printable(powers[0].key_id))
        for theft, words in THEFTS.items():
            requests = powers[0].requests[theft]
            page.add(f"{words} {_caught_after(requests)}", indent=2)
        return page.text
    kinds = list(THEFTS)
    right: Literal["right"] = "right"
    page.add("Requests until a theft is caught (–: more than 100)")
    rows: list[list[Cell]] = [["key", *(kind.replace("_", " ") for kind in kinds)]]
    rows += [
        [printable(power.key_id), *(str(power.requests[kind] or "–") for kind in kinds)]
        for power in powers
    ]
    page.add(Grid(rows, align=("left", *(right for _ in kinds))))
    page.blank()
    for told in power_sentences(summary(powers)):
        page.add(told)
    return page.text


def power_sentences(powers: Sequence[Power]) -> list[str]:
    """``a scan from a new hosting network would be caught for 97 % of keys, after …``."""
    told = []
    for power in powers:
        if not power.keys:
            continue
        share = f"{power.words} would be caught for {percent(power.caught / power.keys)} of keys"
        if power.median_requests is not None:
            share += f", after a median of {count(round(power.median_requests), 'request')}"
        told.append(share)
    return told


def _caught_after(requests: int | None) -> str:
    if requests is None:
        return "would not be caught within 100 requests"
    return f"would be caught after about {count(requests, 'request')}"


def render_rehearsal(rehearsal: Rehearsal, *, width: int = 100) -> str:
    """What would have been alerted week by week, or what other settings or detectors change."""
    page = Page(width, color=False)
    weeks = count(len(rehearsal.windows), "week")
    page.add(f"{weeks}: {_alert_counts(rehearsal.alerts)}.")
    if rehearsal.against is None:
        rows = [_alert_cells(alert, alert.action) for alert in rehearsal.alerts]
    else:
        other = _compared_with(rehearsal)
        page.add(f"With the other {other}: {_alert_counts(rehearsal.against)}.")
        for verb, ids in (("Added", rehearsal.added), ("Replaced", rehearsal.replaced)):
            if ids:
                page.add(f"{verb}: {printable(', '.join(ids))}.")
        rows = [
            _alert_cells(one or other, f"{_action(one)} → {_action(other)}")
            for one, other in rehearsal.changes()
            if one or other
        ]
        page.add(f"{count(len(rows), 'alert')} would differ (current {other} → other {other}).")
    if rows:
        page.blank()
        page.add(Grid(rows, align=("left", "left", "right"), one_line=True))
    return page.text


def _compared_with(rehearsal: Rehearsal) -> str:
    detectors = rehearsal.added or rehearsal.replaced
    parts = [
        *(["settings"] if rehearsal.other_settings else []),
        *(["detectors"] if detectors else []),
    ]
    return " and ".join(parts)


def _alert_counts(alerts: Sequence[RehearsedAlert]) -> str:
    counts = [sum(alert.action == action for alert in alerts) for action in _ALERTS]
    return ", ".join(
        f"{n:,} to {action}" for action, n in zip(_ALERTS, counts, strict=True) if n
    ) or "no alerts"  # fmt: skip


def _action(alert: RehearsedAlert | None) -> str:
    return alert.action if alert else "none"


def _alert_cells(alert: RehearsedAlert | None, action: str) -> list[Cell]:
    assert alert is not None
    name = f"{printable(alert.name)}: " if alert.name else ""
    return [
        iso_week(alert.window) or f"{alert.window.start:%Y-%m-%d}",
        action,
        f"{alert.bits:.1f}",
        printable(alert.key_id),
        f"{name}{printable(alert.summary)}",
    ]


def render_answer(given: Answered) -> str:
    """What came of an owner's answer, in a line."""
    said = answer_words(given.answer, given.until)
    keys = ", ".join(printable(key_id) for key_id in given.question.key_ids)
    return f"{keys}: {printable(given.question.owner)} answered {said}: {given.note}."


def render_verdict(report: VerdictReport) -> str:
    """What a verdict, or that it was withdrawn, changed: in a few lines."""
    if report.withdrawn is not None:
        lines = [f"{printable(report.key_id)}, {window_label(report.window)}:"]
        lines.append(f"{_given(report.withdrawn)} is withdrawn.")
        if report.restored is not None:
            lines.append(f"{_given(report.restored)} is in force again.")
        else:
            lines.append("The key has no verdict for this window now.")
    else:
        lines = [f"{printable(report.key_id)}: {report.verdict}, {window_label(report.window)}."]
    said = report.verdict if report.restored is None else report.restored.verdict
    lines += _about_visits(report, said)
    if report.verdict == "compromised":
        lines += _also(report)
    lines += [
        f"Expected from {printable(each.origin)} from {each.starts_on} to {each.ends_on}: evidence "
        f"of {' and '.join(each.families)} does not count there."
        for each in report.suppressions
    ]
    lines += [
        f"The key was not used from {printable(origin)} in that window." for origin in report.unused
    ]
    if report.alert:
        lines.append(_ALERT[report.alert])
    return "\n".join(lines)


_COUNTED = {
    "benign": "{visits} added to the baseline of this key.",
    "expected": "{visits} added to the baseline of this key.",
    "compromised": "{visits} permanently excluded from the baseline of this key.",
    "undo": "{visits} excluded from the baseline of this key until there is a verdict.",
}


_ALERT = {
    "trigger": "An alert to revoke the key was opened: keywatch deliver notifies the channels.",
    "update": "Its alert was updated; the channels are notified again.",
    "acknowledge": "Its alert was acknowledged.",
    "resolve": "Its alert was closed.",
}


def _about_visits(report: VerdictReport, said: str) -> list[str]:
    """What comes of the visits that were flagged; what is left of them still awaits a verdict."""
    if not report.flagged and not report.left:
        return [f"None of its visits is flagged{_NOTHING.get(said, '')}."]
    lines = [_COUNTED[said].format(visits=count(len(report.flagged), "flagged visit"))]
    if said == "compromised":
        prefixes = dict.fromkeys(prefix for _, prefix in report.flagged)
        lines.append(f"Prefixes: {listed([printable(each) for each in prefixes], _MOST)}.")
    if report.earlier_days:
        lines.append(
            f"Earlier use from there on {count(report.earlier_days, 'day')} stays in the baseline: "
            "give a verdict on those weeks too if it was the thief."
        )
    if report.left:
        prefixes = dict.fromkeys(prefix for _, prefix in report.left)
        lines.append(
            f"Without a verdict: {count(len(report.left), 'flagged visit')} from "
            f"{listed([printable(each) for each in prefixes], _MOST)}. The alert stays open."
        )
    return lines


_NOTHING = {
    "benign": ": the verdict is stored, and the baseline is unchanged",
    "compromised": ": the verdict is stored, and the baseline is unchanged",
}


def _given(given: Given) -> str:
    said = f"{given.verdict} by {printable(given.by)} ({printable(given.because)})"
    return f"The verdict of {given.given_at:%Y-%m-%d %H:%M} UTC, {said},"


def _also(report: VerdictReport) -> list[str]:
    if not report.also:
        return ["No other key was used from the same addresses."]
    return ["Other keys were used from the same addresses:"] + [
        f"  {printable(other.key_id)}: {count(other.requests, 'request')} from "
        f"{printable(other.ip)}, last on {other.last_seen:%Y-%m-%d %H:%M} UTC"
        for other in report.also
    ]
