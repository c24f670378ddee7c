"""A revocation that waits for an analyst: approve it, or decline it with a verdict.

Off unless ``[deliver] approved_channels`` names a channel for approved revocations only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from prefect import flow
from prefect.deployments import run_deployment
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput

from flows.common import plain, say, settings_of, step, tells_no_token
from flows.deliver import send
from flows.events import alert_events
from keywatch import pipeline
from keywatch.review.alerts import Alert
from keywatch.settings import Settings

DEPLOYMENT = "approve/keywatch"
_WAIT_SECONDS = 7 * 24 * 3600


class Decision(RunInput):
    """The question to the analyst."""

    decision: Literal["approve", "decline"]
    by: str
    because: str


@step("ask for approval")
def ask(lake: Path, config: str | None, settings: Settings) -> int:
    """Start an `approve` run for each revocation to approve; returns how many wait."""
    waiting = pipeline.revokes_to_approve(lake, settings)
    for alert in waiting:
        run_deployment(
            DEPLOYMENT,
            parameters={"alert_id": alert.alert_id, "lake": str(lake), "config": config},
            # Asked once, however often the flow that asks is run.
            idempotency_key=f"approve-{alert.alert_id}",
            timeout=0,
            as_subflow=False,
        )
    return len(waiting)


@step("carry out the decision")
def settle(lake: Path, alert_id: str, settings: Settings, answer: Decision) -> list[str]:
    """Carry out the decision of the analyst."""
    done = pipeline.settle_revoke(
        lake,
        alert_id,
        settings,
        approved=answer.decision == "approve",
        by=answer.by,
        because=answer.because,
    )
    say("\n".join(done))
    return done


@flow(name="approve")
@tells_no_token
def approve(alert_id: str, lake: str = "lake", config: str | None = None) -> list[str]:
    """Wait for an analyst, then approve or decline; steps before the answer run again."""
    settings = settings_of(config)
    waiting = {each.alert_id: each for each in pipeline.revokes_to_approve(Path(lake), settings)}
    if alert_id not in waiting:
        return [f"{alert_id} does not wait for approval"]
    question = Decision.with_initial_data(description=_question(waiting[alert_id]))
    answer = suspend_flow_run(wait_for_input=question, timeout=_WAIT_SECONDS, key="decision")
    with alert_events(Path(lake), settings):
        done = settle(Path(lake), alert_id, settings, answer)
        send(Path(lake), settings)
    return done


def _question(alert: Alert) -> str:
    keys = [f"{member.name or ''} ({member.key_id})" for member in alert.members]
    lines = [f"Revoke {', '.join(keys)}? {alert.bits:.1f} bits."]
    cases = alert.document.get("cases", [alert.document])
    lines += [str(case.get("summary", "")) for case in cases]
    return "\n\n".join(plain(line) for line in lines)
