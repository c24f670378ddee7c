"""What flows share: settings, when a retry helps, secrets, artifacts made of hostile text."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict, cast

from prefect import Task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.blocks.system import Secret
from prefect.client.schemas.objects import State, TaskRun
from prefect.logging import get_run_logger
from prefect.tasks import exponential_backoff

from keywatch.errors import LakeBusyError
from keywatch.model import Review
from keywatch.report import power_sentences, printable
from keywatch.report.health import health_lines
from keywatch.report.phrases import count, iso_week, window_label
from keywatch.report.upkeep import rule_counts
from keywatch.settings import Settings, load_settings

_MOST_ROWS = 200
_LONGEST_TEXT = 300
_MARKUP = re.compile(r"([\\`*_{}\[\]()#+\-.!|>~:@/])")


def settings_of(config: str | None) -> Settings:
    """The settings of the file, or of ``keywatch.toml`` in the flow's folder."""
    return load_settings(None if config is None else Path(config))


def retry_helps(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Only where somebody else is in the way: wrong settings are wrong again a minute later."""
    try:
        state.result()
    except LakeBusyError:
        return True
    except Exception:  # noqa: BLE001 - whatever it is, it is told by the failed task
        return False
    return False


class Retries(TypedDict):
    """What `prefect.task` takes of retries."""

    retries: int
    retry_delay_seconds: Callable[[int], list[float]]
    retry_jitter_factor: float
    retry_condition_fn: Callable[[Task[..., Any], TaskRun, State[Any]], bool]


def patient() -> Retries:
    """A busy lake is tried again after 20, 40, 80 and 160 seconds, and up to half as much more."""
    return Retries(
        retries=4,
        retry_delay_seconds=exponential_backoff(backoff_factor=20),
        retry_jitter_factor=0.5,
        retry_condition_fn=retry_helps,
    )


def say(text: str) -> None:
    """Into the run's log, a line at a time."""
    for line in text.splitlines():
        get_run_logger().info(printable(line, max_length=1000))


def secret_block(name: str) -> str:
    """The value of a Prefect Secret block."""
    block = cast("Secret[str]", Secret.load(name))
    return block.get()


def leave_artifacts(review: Review, page: Path) -> None:
    """The cases as a table, and what could be judged and what not as a page of text."""
    week = (iso_week(review.window) or f"{review.window.start:%Y-%m-%d}").lower()
    create_table_artifact(
        key=f"cases-{week}",
        table=[
            {
                "action": case.action,
                "bits": f"{case.bits:.1f}",
                "key": plain(case.key_id),
                "name": plain(case.name or ""),
                "owner": plain(case.owner or ""),
                "why": plain(case.summary),
            }
            for case in review.alerted()[:_MOST_ROWS]
        ],
        description=f"Keys to act on, {window_label(review.window)}",
    )
    create_markdown_artifact(
        key=f"coverage-{week}", markdown=_coverage(review, page), description="What was judged"
    )


def plain(text: str) -> str:
    """`text` as Markdown that shows it as it is: no link, no markup, no HTML."""
    shown = printable(text, max_length=_LONGEST_TEXT).replace("&", "&amp;").replace("<", "&lt;")
    return _MARKUP.sub(r"\\\1", shown)


def _coverage(review: Review, page: Path) -> str:
    coverage = review.coverage
    counts = dict.fromkeys(("revoke", "rotate", "investigate"), 0)
    for case in review.alerted():
        counts[case.action] += 1
    lines = [
        f"# Keywatch, {window_label(review.window)}",
        ", ".join(f"**{n}** to {action}" for action, n in counts.items()) + ".",
        f"The page: `{page}`. The run: `{review.run.id}`, snapshot {review.run.lake_snapshot}.",
        *(f"- health: {plain(line)}" for line in health_lines(review.health)),
        "## Coverage",
        f"- {count(coverage.events, 'event')} of "
        f"{count(coverage.keys - coverage.silent, 'key')} in use; "
        f"{coverage.assessed:,} assessed, {coverage.warming_up:,} warming up, "
        f"{coverage.not_assessable:,} not assessable, {coverage.silent:,} silent",
        f"- {count(coverage.unlocated_addresses, 'address', 'addresses')} not located, "
        f"{count(coverage.rejected_lines, 'line')} rejected, "
        f"{count(coverage.held_back_events, 'event')} ahead of the clock held back",
        *([f"- upkeep: {plain(rule_counts(review.hygiene))}"] if review.hygiene else []),
        *(f"- {plain(note)}" for note in coverage.notes),
        *(f"- {plain(each)}" for each in power_sentences(coverage.power)),
        *(
            f"- expected: {plain(each.key_id)} from {plain(each.origin)} until {each.ends_on} "
            f"({', '.join(each.families)}), "
            f"says {plain(each.owner)}: {plain(each.because)}"
            for each in coverage.suppressions
        ),
        f"\n{review.attribution}",
    ]
    return "\n\n".join(lines[:3]) + "\n\n" + "\n".join(lines[3:])
