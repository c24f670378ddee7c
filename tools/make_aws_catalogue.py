"""Make vendors/aws/catalogue.toml from TrailDiscover's list of AWS calls that attackers use.

    python tools/make_aws_catalogue.py EVENTS.json.gz [OUT]

OUT is vendors/aws/catalogue.toml of this checkout by default. Sensitivity comes by
`sensitivity_of`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TypedDict

OUT = Path(__file__).resolve().parents[1] / "vendors" / "aws" / "catalogue.toml"
LONGEST_WHY = 140
HEAD = """\
# AWS calls that attackers use, by CloudTrail's eventSource and eventName.
#
# Source: TrailDiscover by Adan Alvarez (https://github.com/adanalvarez/TrailDiscover),
# licence CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/). Changed: cut down to these
# fields, texts shortened, sensitivity and scope added.
#
# Made by tools/make_aws_catalogue.py, which states the rule for sensitivity; don't edit.

credit = "TrailDiscover by Adan Alvarez, CC BY 4.0"
calls = "[a-z0-9.-]+:[A-Za-z0-9_]+"
"""
GRAVE_TACTICS = {
    "TA0003",  # persistence
    "TA0004",  # privilege escalation
    "TA0005",  # defense evasion
    "TA0006",  # credential access
    "TA0040",  # impact
}
LOOKING_TACTICS = {"TA0007", "TA0043"}  # discovery, reconnaissance
# What workloads call all day, or what only shows names: the call alone says nothing, though
# attackers use it too. Habit (unfamiliar endpoint, volume) has to decide about these.
EVERYDAY = {
    "bedrock:InvokeModel",
    "bedrock:InvokeModelWithResponseStream",
    "ecr:BatchGetImage",
    "ecr:GetAuthorizationToken",
    "kms:Encrypt",
    "kms:GenerateDataKeyWithoutPlaintext",
    "lambda:Invoke",
    "logs:CreateLogStream",
    "logs:PutLogEvents",
    "s3:DeleteObject",
    "s3:GetObject",
    "s3:PutObject",
    "secretsmanager:DescribeSecret",
    "secretsmanager:ListSecrets",
    "ses:SendEmail",
    "signin:ConsoleLogin",
    "sns:Publish",
    "sts:AssumeRole",
    "sts:GetSessionToken",
}
# The IAM prefix, where it isn't the event source's own name.
IAM_PREFIXES = {
    "agreement-marketplace": "aws-marketplace",
    "discovery-marketplace": "aws-marketplace",
    "monitoring": "cloudwatch",
    "servicecatalog-appregistry": "servicecatalog",
}


class Event(TypedDict):
    """The fields of one TrailDiscover event that are used here."""

    eventName: str
    eventSource: str
    awsService: str
    description: str
    mitreAttackTactics: list[str]
    mitreAttackTechniques: list[str]
    usedInWild: bool
    securityImplications: str


def source_of(event: Event) -> str:
    return event["eventSource"].removesuffix(".amazonaws.com")


def scope_of(event: Event) -> str:
    return IAM_PREFIXES.get(source_of(event), source_of(event))


def template_of(event: Event) -> str:
    return f"{source_of(event)}:{event['eventName']}"


def sensitivity_of(event: Event) -> str:
    """Say how sensitive a call is: `low`, `high` or `critical`.

    low: an everyday call, or all of its tactics are discovery or reconnaissance.
    critical: a grave tactic, and used in the wild. high: the rest.
    """
    tactics = {tactic.partition(" ")[0] for tactic in event["mitreAttackTactics"]}
    if template_of(event) in EVERYDAY or tactics <= LOOKING_TACTICS:
        return "low"
    return "critical" if tactics & GRAVE_TACTICS and event["usedInWild"] else "high"


def why_of(event: Event) -> str:
    """Cut the security implications, else the description, down to a short phrase."""
    text = " ".join((event["securityImplications"] or event["description"]).split())
    text = re.sub(r"^Attackers (?:might |may |can |could )?use \S+ (?:API )?to ", "", text)
    sentence = re.split(r"(?<=[a-z)])\. ", text)[0].rstrip(".")
    if len(sentence) <= LONGEST_WHY:
        return sentence
    return sentence[: LONGEST_WHY - 1].rpartition(" ")[0].rstrip(",;") + "…"


def to_toml(events: Iterable[Event]) -> str:
    calls: dict[str, Event] = {}
    for event in events:
        calls.setdefault(template_of(event), event)  # the source has one call twice
    unknown = EVERYDAY - set(calls)
    if unknown:
        raise SystemExit(f"EVERYDAY names calls that the source doesn't have: {sorted(unknown)}")
    services: dict[str, str] = {}
    for event in calls.values():
        services.setdefault(scope_of(event), event["awsService"])
    tables = [
        ("scopes", {"name": scope, "meaning": f"Calls to AWS {services[scope]}."})
        for scope in sorted(services)
    ]
    for template in sorted(calls):
        event = calls[template]
        fields = {
            "method": "CALL",
            "template": template,
            "scope": scope_of(event),
            "sensitivity": sensitivity_of(event),
            "why": why_of(event),
            "technique": event["mitreAttackTechniques"][0].partition(" ")[0],
        }
        tables.append(("endpoints", fields))
    lines = [HEAD]
    for name, table in tables:
        lines.append(f"[[{name}]]")
        # A JSON string is a TOML string, as long as it holds no DEL.
        lines += [f"{key} = {json.dumps(text, ensure_ascii=False)}" for key, text in table.items()]
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("events", type=Path)
    parser.add_argument("out", type=Path, nargs="?", default=OUT)
    options = parser.parse_args()
    with gzip.open(options.events, "rt", encoding="utf-8") as file:
        options.out.write_text(to_toml(json.load(file)), encoding="utf-8")


if __name__ == "__main__":
    main()
