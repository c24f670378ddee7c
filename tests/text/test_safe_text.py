"""Hostile text shows itself, and does nothing."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keywatch.text.safe_text import printable

# Hypothesis leaves lone surrogates out of text() unless they are asked for.
ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=60)
TRICKS = st.lists(
    st.sampled_from(
        ("\x1b[31m", "\x1b]0;x\x07", "\x9b2J", "\r", "\n", "\t", "\x7f", "\x85", "\xa0", "\xad",
         "\u2028", "\u2029", "\u202e", "\u2066", "\u200b", "\u200f", "\u3000", "\ufeff", "\ud800",
         "\u034f", "\ufe0f", "\u3164", "\u2800", "\U000e0041", "e\u0301", "\u0301")
    ),
    max_size=30,
).map("".join)  # fmt: skip


@given(ANY_TEXT | TRICKS)
def test_only_visible_characters_and_spaces_are_left(text: str) -> None:
    shown = printable(text)
    hidden = {
        char
        for char in shown
        if char != " " and unicodedata.category(char)[0] in "CZ"  # control, format, separators, …
    }
    assert not hidden
    assert len(shown.splitlines()) <= 1
    shown.encode("utf-8")


@given(ANY_TEXT | TRICKS, st.integers(1, 40))
def test_never_longer_than_asked_and_cut_only_when_it_must(text: str, length: int) -> None:
    shown = printable(text, length)
    assert len(shown) <= length
    whole = printable(text, 1000)
    if len(whole) <= length:
        assert shown == whole
    else:
        assert shown[-1] == "…"
        assert whole.startswith(shown[:-1])


@given(st.text(st.characters(codec="ascii"), max_size=60), st.integers(1, 80))
def test_plain_text_is_shown_as_it_is_among_other_text(text: str, length: int) -> None:
    # Any letter beyond ASCII has each character looked at.
    assert printable("é" + text, length + 1) == "é" + printable(text, length)


@given(ANY_TEXT | TRICKS)
def test_what_was_made_printable_stays_as_it_is(text: str) -> None:
    assert printable(printable(text)) == printable(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Grafana/10.4.3", "Grafana/10.4.3"),
        ("ply_live_prod_4f8a2c…9e1d", "ply_live_prod_4f8a2c…9e1d"),
        ("Überwachung 監視 надзор", "Überwachung 監視 надзор"),
        ("\u1112\u1161\u11ab", "\u1112\u1161\u11ab"),
        ("a\u1161 \ud7cb", "a\\u1161 \\ud7cb"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("a\r\nb\tc\x00", r"a\r\nb\tc\x00"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("a\u2028b\u200bc\ud800", r"a\u2028b\u200bc\ud800"),
        ("\U000e0041", r"\U000e0041"),
        ("cafe\u0301", "cafe\u0301"),
        ("\u0301x", r"\u0301x"),
        ("x" + "\u0301" * 5, "x" + "\u0301" * 3 + r"\u0301\u0301"),
        ("C:\\Windows", "C:\\Windows"),
        ("", ""),
    ],
)
def test_examples(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_an_escape_is_never_cut_in_two() -> None:
    assert printable("ab\u202ecd", 6) == "ab…"


def test_a_long_value_is_cut_without_being_read_to_its_end() -> None:
    assert printable("\x1b" * 10_000_000, 10) == r"\x1b\x1b…"
