"""What flows share: settings, when a retry helps, artifacts made of hostile text."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypedDict, TypeVar

import httpx
from prefect import Task, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State, TaskRun
from prefect.exceptions import PrefectException
from prefect.logging import get_run_logger
from prefect.tasks import exponential_backoff

from keywatch.errors import KeywatchError, LakeBusyError
from keywatch.model import Review
from keywatch.notices import notices_to
from keywatch.report import power_sentences, render_failure
from keywatch.report.health import health_lines
from keywatch.report.upkeep import rule_counts
from keywatch.settings import Settings, load_settings
from keywatch.text.phrases import count, iso_week, window_label
from keywatch.text.safe_text import printable
from keywatch.text.secrets import without_tokens

_P = ParamSpec("_P")
_R = TypeVar("_R")
_MOST_ROWS = 200
_LONGEST_TEXT = 300
_MARKUP = re.compile(r"([\\`*_{}\[\]()#+\-.!|>~:@/])")


def settings_of(config: str | None) -> Settings:
    """The settings of the file, or of ``keywatch.toml`` in the flow's folder."""
    return load_settings(None if config is None else Path(config))


def retry_helps(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether the lake is busy: wrong settings are still wrong a minute later."""
    try:
        state.result()
    except LakeBusyError:
        return True
    except Exception:  # noqa: BLE001 - the failed task reports it
        return False
    return False


class Retries(TypedDict):
    """The arguments of `prefect.task` for retries."""

    retries: int
    retry_delay_seconds: Callable[[int], list[float]]
    retry_jitter_factor: float
    retry_condition_fn: Callable[[Task[..., Any], TaskRun, State[Any]], bool]


def patient() -> Retries:
    """Retry a busy lake after 20, 40, 80 and 160 seconds, plus up to half as much."""
    return Retries(
        retries=4,
        retry_delay_seconds=exponential_backoff(backoff_factor=20),
        retry_jitter_factor=0.5,
        retry_condition_fn=retry_helps,
    )


def tells_no_token(work: Callable[_P, _R]) -> Callable[_P, _R]:
    """`work` with errors that can be stored: Prefect stores their text and traceback."""

    @functools.wraps(work)
    def careful(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return work(*args, **kwargs)
        except PrefectException:
            raise  # it steers the run, and knows nothing of a log
        except httpx.HTTPError as e:
            failed: Exception = KeywatchError(f"Prefect's server can't be asked: {e}")
        except Exception as e:  # noqa: BLE001 - reported as text without secrets
            failed = e
        # Outside of `except`, or the traceback would end with the error that is not to be kept.
        kind = type(failed) if isinstance(failed, KeywatchError) else KeywatchError
        raise kind(render_failure(failed))

    return careful


def step(name: str) -> Callable[[Callable[_P, _R]], Task[_P, _R]]:
    """A task of a flow: retried while the lake is busy, notices logged, errors without tokens."""

    def made(work: Callable[_P, _R]) -> Task[_P, _R]:
        @functools.wraps(work)
        def logged(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            with notices_to(say):
                return work(*args, **kwargs)

        return task(name=name, **patient())(tells_no_token(logged))

    return made


def say(text: str, level: int = logging.INFO) -> None:
    """Write to the run's log, line by line, without tokens."""
    for line in text.splitlines():
        get_run_logger().log(level, printable(without_tokens(line), max_length=1000))


def leave_artifacts(review: Review, page: Path) -> None:
    """Store the cases as a table and the coverage as a page of text."""
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
        key=f"coverage-{week}", markdown=_coverage(review, page), description="Coverage"
    )


def plain(text: str) -> str:
    """`text` as Markdown that shows it as it is, without tokens: no link, no markup, no HTML."""
    shown = printable(without_tokens(text), max_length=_LONGEST_TEXT)
    return _MARKUP.sub(r"\\\1", shown.replace("&", "&amp;").replace("<", "&lt;"))


def _coverage(review: Review, page: Path) -> str:
    coverage = review.coverage
    counts = dict.fromkeys(("revoke", "rotate", "investigate"), 0)
    for case in review.alerted():
        counts[case.action] += 1
    lines = [
        f"# Keywatch, {window_label(review.window)}",
        ", ".join(f"**{n}** to {action}" for action, n in counts.items()) + ".",
        f"The page: {plain(str(page))}. The run: `{review.run.id}`, "
        f"snapshot {review.run.lake_snapshot}.",
        *(f"- health: {plain(line)}" for line in health_lines(review.health)),
        "## Coverage",
        f"- {count(coverage.events, 'event')} of "
        f"{count(coverage.keys - coverage.silent, 'key')} in use; "
        f"{coverage.assessed:,} assessed, {coverage.warming_up:,} warming up, "
        f"{coverage.not_assessable:,} not assessable, {coverage.silent:,} silent",
        f"- {count(coverage.unlocated_addresses, 'address', 'addresses')} not located, "
        f"{count(coverage.rejected_lines, 'line')} rejected, "
        f"{count(coverage.held_back_events, 'event')} dated in the future and held back",
        *([f"- key hygiene: {plain(rule_counts(review.hygiene))}"] if review.hygiene else []),
        *(f"- {plain(note)}" for note in coverage.notes),
        *(f"- {plain(each)}" for each in power_sentences(coverage.power)),
        *(
            f"- expected: {plain(each.key_id)} from {plain(each.origin)} until {each.ends_on} "
            f"({', '.join(each.families)}), "
            f"by {plain(each.owner)}: {plain(each.because)}"
            for each in coverage.suppressions
        ),
        f"\n{review.attribution}",
    ]
    return "\n\n".join(lines[:3]) + "\n\n" + "\n".join(lines[3:])
