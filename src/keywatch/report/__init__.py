"""Reviews for people and programs: text, the JSON of the contract, and its schema.

The page (`keywatch.report.html`) and the charts are imported by themselves: their libraries take a
second.
"""

from keywatch.report.case_text import render_case
from keywatch.report.document import (
    case_document,
    json_text,
    rehearsal_document,
    review_document,
    review_schema,
    rfc3339,
)
from keywatch.report.failure import render_failure
from keywatch.report.outcome import (
    power_sentences,
    render_demo_verdict,
    render_load,
    render_power,
    render_rehearsal,
    render_verdict,
)
from keywatch.report.safe_text import printable
from keywatch.report.text import render_new_networks, render_review

__all__ = [
    "case_document",
    "json_text",
    "power_sentences",
    "printable",
    "rehearsal_document",
    "render_case",
    "render_demo_verdict",
    "render_failure",
    "render_load",
    "render_new_networks",
    "render_power",
    "render_rehearsal",
    "render_review",
    "render_verdict",
    "review_document",
    "review_schema",
    "rfc3339",
]
