"""Each shipped source from lines of its vendor's shape to cases: a quiet past, then a theft."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from keywatch.lake import Lake
from keywatch.vendors import sources
from keywatch.vendors.shapes import records_of
from keywatch.vendors.source import Source, value_at
from tests.command import keywatch
from tests.findings import assert_golden
from tests.vendors.test_shipped import Sample, samples

HOME, THIEF = "87.128.1.1", "45.153.78.122"
WEEK = datetime(2026, 9, 28, tzinfo=UTC)


def requests(sample: Sample) -> Iterator[str]:
    """The sample's first request, three times a day for six weeks and then by a thief."""
    source = sources()[sample.source]
    line, time, address, id_ = first_request(sample, source)
    moments = [WEEK + timedelta(days=day, hours=hour)
               for day in range(-42, 7) for hour in (9, 13, 17)]  # fmt: skip
    thefts = [WEEK + timedelta(days=3, hours=14, minutes=minute) for minute in range(40)]
    for n, moment in enumerate([*moments, *thefts]):
        told = line.replace(address, HOME if n < len(moments) else THIEF)
        told = told.replace(time, like(time, moment))
        yield told.replace(json.dumps(id_), json.dumps(f"{id_}-{n}")) if id_ else told


def first_request(sample: Sample, source: Source) -> tuple[str, str, str, str]:
    """A line of the sample that is an event of a key, and its time, address and id as logged."""
    wanted = [event["address"] for event in sample.events
              if event.get("key_id") and "." in event.get("address", "")]  # fmt: skip
    if "access_log" in source.forms:
        line = next(line for line in sample.log.splitlines() if "[" in line and " - " in line)
        address = line.split()[0]
        return line, re.findall(r"\[([^]]+)\]", line)[0], address, ""
    # Of two entries about one request the later one is whole.
    records = {at(source, "request_id", record): record
               for record, _ in records_of(sample.log.strip()) if source.fits(record)}  # fmt: skip
    for id_, record in records.items():
        time, line = at(source, "time", record), json.dumps(record)
        address = next((each for each in wanted if each in line), "")
        if time and address:
            return line, time, address, id_
    raise LookupError(sample.file)


def at(source: Source, column: str, record: Any) -> str:
    """The first value of a column, as the log has it."""
    found = (value_at(record, path) for path in source.fields.get(column, ()))
    return next((str(value) for value in found if value not in (None, "")), "")


def like(time: str, moment: datetime) -> str:
    """A moment in the form of a time of the log."""
    if re.fullmatch(r"\d+", time):
        return str(int(moment.timestamp()) * 10 ** (len(time) - 10))
    if re.match(r"\d\d/\w{3}/", time):
        return f"{moment:%d/%b/%Y:%H:%M:%S +0000}"
    return re.sub(
        r"\d{4}-\d\d-\d\d([T ])\d\d:\d\d:\d\d", rf"{moment:%Y-%m-%d}\g<1>{moment:%H:%M:%S}", time
    )


def test_the_theft_is_named_whatever_the_log(tmp_path: Path) -> None:
    usable: dict[str, Sample] = {}
    for sample in samples():
        try:
            first_request(sample, sources()[sample.source])
        except (LookupError, StopIteration):
            continue
        usable.setdefault(sample.source, sample)
    assert set(usable) == set(sources())
    for name, sample in usable.items():
        (tmp_path / f"{name}.log").write_text("\n".join(requests(sample)) + "\n", encoding="utf-8")
    lake = tmp_path / "lake"
    loaded = keywatch("ingest", "--lake", lake, *sorted(tmp_path.glob("*.log")))
    assert (loaded.code, loaded.err) == (0, "")
    assert "rejected" not in loaded.out
    with Lake.open(lake) as opened:
        used = opened.rows("SELECT DISTINCT source, coalesce(principal, key_id) FROM lake.events")
    assert {source for source, _ in used} == set(sources())
    # Some samples are of failed logins alone: these are keys because an inventory has them.
    listed = tmp_path / "keys.jsonl"
    unknown = dict.fromkeys(("key", "name", "environment", "scopes", "owner", "created_at"))
    listed.write_text(
        "".join(json.dumps({"key_id": each, **unknown}) + "\n" for each in {key for _, key in used})
    )
    assert keywatch("keys", "import", listed, "--lake", lake).code == 0
    ran = keywatch("review", "--lake", lake, "--week", "2026-W40", "--format", "json")
    cases = {case["key_id"]: case for case in json.loads(ran.out)["cases"]}
    found = {source: told(cases[key_id]) for source, key_id in sorted(used)}
    assert {case["action"] for case in found.values()} == {"revoke"}
    assert_golden("sources", found)


def told(case: dict[str, Any]) -> dict[str, Any]:
    said = {each["detector"]: each["bits"] for each in case["evidence"] if each["bits"] > 0}
    return {"key_id": case["key_id"], "action": case["action"], "evidence": said}
