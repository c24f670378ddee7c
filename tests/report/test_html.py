"""The page as text: what is in it, that it needs nothing else, and that no text becomes markup."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from keywatch.model import CalibrationSummary, Review, Suppression
from keywatch.report.html import render_html
from tests.report.pages import details_of
from tests.report.reviews import (
    AILING,
    EMPTY,
    FULL,
    HOSTILE_TEXT,
    QUIET,
    TO_ROTATE,
    UNASSESSED,
    filled_with,
)

MARKUP = '<img src=x onerror="document.title=1">\'"></title></script><!-- \u202e{{ 7 * 7 }} &lt;'
HOSTILE = HOSTILE_TEXT.replace("\ud800", "")
"""Less what is no Unicode text: Arrow and so a lake can't hold that."""
REVIEWS = {"full": FULL, "quiet": QUIET, "empty": EMPTY, "unassessed": UNASSESSED}


class Page(HTMLParser):
    """Elements with their attributes, the text of each script and style, and what is shown."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.raw: list[tuple[str, dict[str, str | None], str]] = []
        self.comments: list[str] = []
        self.shown = ""
        self._within: tuple[str, dict[str, str | None]] | None = None
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._within = (tag, dict(attrs)) if tag in ("script", "style") else None

    def handle_endtag(self, tag: str) -> None:
        self._within = None

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    def handle_data(self, data: str) -> None:
        if self._within:
            self.raw.append((*self._within, data))
        else:
            self.shown += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def data(self) -> dict[str, Any]:
        (text,) = [text for _, attributes, text in self.raw if attributes.get("id") == "data"]
        loaded: dict[str, Any] = json.loads(text)
        return loaded


def page_of(review: Review, text: str | None = None) -> Page:
    return Page(render_html(review, details_of(review, text)))


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("name", REVIEWS)
def test_a_page_names_no_other_file_and_no_host_but_the_credit(name: str) -> None:
    page = page_of(REVIEWS[name])

    links = [
        value
        for _, attributes in page.elements
        for attribute, value in attributes.items()
        if attribute in ("src", "href", "srcset", "action", "poster", "background")
    ]
    outside = {link for link in links if link and not link.startswith("#")}
    assert outside == {"data:,", "https://db-ip.com"}
    assert {tag for tag, _ in page.elements} & {"iframe", "object", "embed", "base", "img"} == set()


def test_the_policy_admits_the_page_s_own_scripts_and_nothing_else() -> None:
    page = page_of(FULL)
    (policy,) = [
        attributes["content"] or ""
        for attributes in page.all("meta")
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split(";")}

    def digests(tag: str) -> list[str]:
        return [
            f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
            for name, attributes, text in page.raw
            if name == tag and attributes.get("type") != "application/json"
        ]

    assert rules["default-src"] == ["'none'"]
    assert rules["script-src"] == digests("script")
    assert rules["style-src"] == digests("style")
    assert len(rules["script-src"]) == 2
    handlers = [name for _, attributes in page.elements for name in attributes if name[:2] == "on"]
    assert handlers == []
    assert [1 for _, attributes in page.elements if "style" in attributes] == []


def test_each_case_is_told_in_full() -> None:
    shown = words(page_of(FULL).shown)

    for case in FULL.alerted():
        for text in (case.key_id, case.key, case.owner, *case.steps, case.events_query):
            assert text is None or words(text) in shown, text
        for item in case.evidence:
            assert {words(item.typical) in shown, words(item.actual) in shown} == {True}
    for said in ("2 to revoke, 1 to investigate", "campaign", "2026-10-05: in a public repository",
                 "no longer alerted", "Old job", "Copy steps", "created 2026-05-08, 150 days old",
                 "rotation overdue by 56 days", "the window is incomplete"):  # fmt: skip
        assert said.lower() in shown.lower(), said


@pytest.mark.parametrize(
    ("step", "shown"),
    [
        ("Turn it off: `aws iam x --y 'a'`, then look",
         "Turn it off: <code>aws iam x --y &#39;a&#39;</code>, then look."),
        ("`<b>` and <i>", "<code>&lt;b&gt;</code> and &lt;i&gt;."),
        ("One ` alone, <b>", "One ` alone, &lt;b&gt;."),
    ],
)  # fmt: skip
def test_commands_of_a_step_stand_out(step: str, shown: str) -> None:
    review = replace(FULL, cases=(replace(FULL.cases[0], steps=(step,)),))

    assert f"<li>{shown}</li></ol>" in render_html(review, details_of(review))


def test_the_bars_add_up_to_the_bits_of_their_case() -> None:
    page = page_of(FULL)
    bars: list[float] = []
    for tag, attributes in page.elements:
        if tag == "svg":
            bars.append(0.0)
        elif tag == "rect" and bars and attributes["class"] != "rest" and attributes.get("x"):
            bars[-1] += float(attributes["width"] or 0)
    expected = [case.bits for case in FULL.alerted()]
    for bits in expected:
        assert sum(abs(bar - bits) < 0.2 for bar in bars) == 1, bits


def test_the_realised_rate_and_expected_changes_are_told() -> None:
    coverage = replace(
        FULL.coverage,
        calibration=CalibrationSummary(8, 1_600, 0.05, 3, judged=20, judged_benign=1),
        suppressions=(
            Suppression(
                "key_0700353",
                "AS24940",
                "ana",
                "moved",
                FULL.window.start.date(),
                FULL.window.start.date(),
                ("origin", "client"),
            ),
        ),
    )
    shown = words(page_of(replace(FULL, coverage=coverage)).shown)

    assert "5 % (1 of 20 revokes with a verdict so far)" in shown
    assert (
        "AS24940 for key_0700353 until 2026-09-28 (origin, client), confirmed by ana: moved"
        in shown
    )


def test_a_quiet_week_says_so_and_has_no_table() -> None:
    page = page_of(QUIET)

    assert "No key to revoke, rotate or investigate, out of 40 keys in use." in page.shown
    assert [1 for attributes in page.all("details") if attributes.get("class") == "case"] == []


def test_health_is_told_where_something_is_wrong_and_only_there() -> None:
    shown = page_of(AILING).shown

    assert "The log has ended: its last event was at 2026-10-04 23:58 UTC, 53 days ago." in shown
    assert shown.count("was used nearly every day, but not since") == 5
    assert "And 2 more of this kind: keywatch doctor lists them." in shown
    assert "bundled" not in shown  # a note asks for nothing
    assert "Health" not in page_of(QUIET).shown


def test_every_new_network_is_told_alerted_or_not() -> None:
    many = replace(FULL, new_networks=FULL.new_networks * 100)
    page = page_of(many)
    shown = words(page.shown)

    assert "300 networks used by a key for the first time" in shown
    assert shown.count("AS9009 M247 Europe SRL, RO, US, hosting") == 100
    old_place = "Usual places silent since; 2 other keys of the owner used from there since"
    for said in ("To revoke; flagged since 2026-09-24, still open.", f"{old_place} 2026-07-01.",
                 "Not listed: 3 keys with no history"):  # fmt: skip
        assert said in shown, said
    rows = [row for row in page.all("tr") if row.get("data-network")]
    assert [row["data-requests"] for row in rows[:3]] == ["412", "1", "1440"]
    assert 'id="networks"' not in render_html(QUIET, details_of(QUIET))


def test_upkeep_names_the_least_scopes_that_a_successor_needs() -> None:
    shown = words(page_of(FULL).shown.replace("Not needed", " Not needed"))

    overdue = "rotation overdue: rotation overdue by 56 days, since 2026-08-10"
    assert f"{overdue} Scopes needed: read:metrics Not needed: read:checks" in shown
    assert "Scopes needed: unknown Not needed: unknown" in shown


def test_a_key_to_rotate_is_a_case_and_one_that_is_overdue_is_none() -> None:
    page = page_of(TO_ROTATE)
    shown = words(page.shown)

    assert "1 to rotate, 1 to investigate, out of 188 keys in use." in shown
    assert "Create a replacement (Pulsely dashboard" in shown
    assert shown.index("Create a replacement") < shown.index("Revoke ply_live_prod_a1b2c3…77aa")
    cases = [a for a in page.all("details") if a.get("class") == "case"]
    assert len(cases) == 2
    assert "12 rotation overdue" in shown


def test_upkeep_is_counted_by_rule_and_says_when_it_is_due() -> None:
    shown = words(page_of(FULL).shown)

    assert "12 rotation overdue, 1 rotation due, 1 wildcard scope." in shown
    assert "Due: 2026-08-10, 56 days ago" in shown
    assert "Due: 2026-10-12, 7 days left" in shown
    assert "rotation due: rotate by 2026-10-12" in shown


def test_keys_that_could_not_be_assessed_are_named() -> None:
    standings = {"key_a": "assessed", "key_b": "warming_up", "key_c": "not_assessable"}
    shown = words(page_of(replace(FULL, standings=standings)).shown)  # type: ignore[arg-type]

    assert "2 keys not assessed against their own history" in shown
    assert "key_b, warming up" in shown
    assert "key_c, could not be assessed" in shown
    assert "key_a" not in shown


@pytest.mark.parametrize("text", [MARKUP, HOSTILE, "</script><script>document.title=1</script>"])
def test_no_text_of_a_log_becomes_markup_or_moves_other_text(text: str) -> None:
    plain, hostile = page_of(FULL), page_of(filled_with(text), text)

    kinds = {tag for tag, _ in plain.elements}
    assert {tag for tag, _ in hostile.elements} <= kinds
    assert len(hostile.all("script")) == len(plain.all("script")) == 3
    assert hostile.comments == plain.comments == []
    shown = hostile.shown + json.dumps(hostile.data["cases"], ensure_ascii=False)
    assert {char for char in shown if not char.isprintable()} <= {"\n"}
    assert "onerror" in shown or "<img" not in text


def test_data_of_a_page_cannot_end_its_script() -> None:
    html = render_html(filled_with(MARKUP), details_of(filled_with(MARKUP), MARKUP))
    data = html[html.index('id="data">') :].partition("</script>")[0]

    assert "<" not in data[len('id="data">') :]
    (drawn,) = Page(html).data["cases"].values()
    assert "</script><!--" in drawn["map"]["origins"]["texts"][0]


def test_a_hostile_review_has_the_size_of_a_usual_one() -> None:
    long = "x" * 5_000
    assert len(render_html(filled_with(long), details_of(filled_with(long), long))) < 5_000_000


def test_the_same_review_gives_the_same_page() -> None:
    assert render_html(FULL, details_of(FULL)) == render_html(FULL, details_of(FULL))


def test_more_cases_than_are_told_in_full_are_all_named() -> None:
    many = tuple(replace(FULL.cases[0], key_id=f"key_{n:04}", evidence=()) for n in range(230))
    review = replace(FULL, cases=many)
    page = page_of(review)

    assert all(case.key_id in page.shown for case in many)
    assert "30 more keys with an action" in words(page.shown)
    cases = [a for a in page.all("details") if a.get("class") == "case"]
    assert len(cases) == 200
    assert re.search(r"key_0229 \(revoke\)", page.shown)
