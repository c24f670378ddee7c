"""Reviews for people: text, a page and charts, and OCSF for other programs.

The page (`keywatch.report.html`) and the charts are imported by themselves: their libraries take a
second.
"""

from keywatch.report.case_text import render_case
from keywatch.report.failure import render_failure
from keywatch.report.outcome import (
    power_sentences,
    render_answer,
    render_demo_verdict,
    render_imported,
    render_load,
    render_power,
    render_proposal,
    render_rehearsal,
    render_verdict,
)
from keywatch.report.text import render_new_networks, render_review

__all__ = [
    "power_sentences",
    "render_answer",
    "render_case",
    "render_demo_verdict",
    "render_failure",
    "render_imported",
    "render_load",
    "render_new_networks",
    "render_power",
    "render_proposal",
    "render_rehearsal",
    "render_review",
    "render_verdict",
]
