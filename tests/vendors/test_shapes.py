"""How records stand in a file: one a line, in documents and lists, in what shippers put around."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from keywatch.errors import InputError
from keywatch.vendors import detect_source
from keywatch.vendors.files import LogFile
from keywatch.vendors.wrappers import Wrapper, wrappers
from tests.conftest import Loading, event, events
from tests.prose import ROOT

REQUESTS = events(3)
TEXTS = [json.dumps(each) for each in REQUESTS]
TRAIL = [
    {
        "eventTime": f"2026-09-30T10:01:0{n}Z", "eventSource": "s3.amazonaws.com",
        "eventName": "ListBuckets", "awsRegion": "eu-west-1", "sourceIPAddress": "81.2.69.144",
        "userIdentity": {"accessKeyId": "AKIAQ3WEXAMPLE00001"}, "eventID": str(n),
    }
    for n in range(3)
]  # fmt: skip
TRAIL_TEXTS = [json.dumps(each) for each in TRAIL]


def wrapped(path: str, record: dict[str, Any]) -> Any:
    """`record` in what stands around it, by a wrapper's path."""
    value: Any = record
    for step in reversed(path.split(".")):
        name = step.removesuffix("{}").removesuffix("[]")
        if step.endswith("{}"):
            value = json.dumps(value)
        if "[]" in step:
            value = [value]
        value = {name: value, "beside": {"x": "}{"}}
    return value


SHAPES = {
    "one a line": "\n".join(TEXTS),
    "nothing between": "".join(TEXTS),
    "a space between": " ".join(TEXTS),
    "some lines of several": f"{TEXTS[0]}\n{TEXTS[1]}{TEXTS[2]}\n",
    "pretty": "\n".join(json.dumps(each, indent=2) for each in REQUESTS),
    "list in one line": json.dumps(REQUESTS),
    "pretty list": json.dumps(REQUESTS, indent=4),
    "lists that follow one another": json.dumps(REQUESTS[:2]) + json.dumps(REQUESTS[2:]),
    "a list a line": f"[{TEXTS[0]},{TEXTS[1]}]\n[{TEXTS[2]}]\n",
    "with commas": ",\n".join(TEXTS) + ",\n",
    "container runtime": "".join(f"2026-09-30T10:00:00.1Z stdout F {text}\n" for text in TEXTS),
    "syslog": "".join(f"<134>Sep 30 10:00:00 api app[7]: {text}\n" for text in TEXTS),
    "byte order mark": "\ufeff" + "\n".join(TEXTS),
}


@pytest.mark.parametrize("content", SHAPES.values(), ids=SHAPES)
def test_records_are_read_however_they_stand(content: str, quick: Loading) -> None:
    report = quick.take(content.encode(), "log.json")
    assert (report.total("events"), report.total("rejects")) == (3, 0)
    # The same requests, however they stand.
    again = quick.take("\n\n".join(TEXTS).encode(), "again.jsonl")
    assert again.total("duplicates") == 3


@pytest.mark.parametrize("wrapper", wrappers(), ids=lambda wrapper: wrapper.path)
@pytest.mark.parametrize("indent", [None, 2])
def test_what_stands_around_a_record_is_taken_off(
    wrapper: Wrapper, indent: int | None, quick: Loading
) -> None:
    values = [json.dumps(wrapped(wrapper.path, each), indent=indent) for each in TRAIL]
    report = quick.take("\n".join(values).encode(), "log.json")
    assert report.files[0].source == "cloudtrail"
    assert (report.total("events"), report.total("rejects")) == (3, 0)


def test_a_record_is_never_unwrapped(quick: Loading) -> None:
    """Its own fields may be called like a shipper's."""
    rows = [each | {"message": TRAIL_TEXTS[0], "data": [TRAIL[1]]} for each in REQUESTS]
    report = quick.take(rows)
    assert (report.files[0].source, report.total("events")) == ("pulsely", 3)


def test_nothing_is_lost_of_what_stands_in_a_records_place(quick: Loading) -> None:
    document = {"logEvents": [{"message": text} for text in [*TRAIL_TEXTS, "START RequestId: 1"]]}
    notice = {"messageType": "CONTROL_MESSAGE",
              "logEvents": [{"message": "CWL CONTROL MESSAGE: Checking health"}]}  # fmt: skip
    content = "\n".join(json.dumps(each) for each in (notice, document, {"other": 1}))
    report = quick.take(content.encode(), "log.json", max_reject_share=1)
    assert (report.total("events"), report.total("rejects")) == (3, 2)
    lines = [TEXTS[0], '{"log": "no json"}', "{}"]
    mixed = "\n".join(json.dumps({"log": text}) for text in lines)
    report = quick.take(mixed.encode(), "docker.json", max_reject_share=1)
    assert (report.total("events"), report.total("rejects")) == (1, 2)


@pytest.mark.parametrize(
    "content", ["[]", "[[], []]", " \n", '{"Records": []}', '{"nextToken": null, "Events": []}\n']
)
def test_a_log_without_records_is_empty(content: str, quick: Loading) -> None:
    report = quick.take(content.encode(), "log.json")
    assert [file.source for file in report.files] == [""]
    assert report.total("lines") == 0


@pytest.mark.parametrize("content", ['{"a": 1}', '[{"a": 1}]', '{"Records": [{"a": 1}]}', "[1]"])
def test_another_log_is_not_known(content: str, quick: Loading) -> None:
    file = quick.write(content.encode(), "log.json")
    with pytest.raises(InputError, match="not in a log format known to Keywatch") as raised:
        detect_source(LogFile(str(file), len(content)))
    (document,) = re.findall(r"see (\S+\.md)", str(raised.value))
    assert (ROOT / document).exists()


def test_a_long_list_is_known_by_its_first_record(quick: Loading) -> None:
    """The list goes on beyond the beginning that is looked at."""
    rows = [event(request_id=str(n), user_agent="x" * 1000) for n in range(400)]
    document = json.dumps({"cursor": None, "page": {"of": 9}, "data": rows})
    report = quick.take(document.encode(), "page.json")
    assert (report.total("events"), report.total("rejects")) == (400, 0)


# --------------------------------------------------------------------------- requests without an id


def test_equal_requests_of_one_file_are_as_many_and_of_another_file_the_same(
    quick: Loading,
) -> None:
    one = event(request_id=None)
    other = event(request_id=None, endpoint="/v1/checks/2")
    report = quick.take([one] * 300 + [other] * 2, "first.jsonl")
    assert (report.total("events"), report.total("duplicates")) == (302, 0)
    # An export that overlaps: the same requests, and one more.
    report = quick.take([*[one] * 301, *[other] * 2], "second.jsonl")
    assert (report.total("events"), report.total("duplicates")) == (1, 302)
    report = quick.take([other, *[one] * 5], "third.jsonl")
    assert (report.total("events"), report.total("duplicates")) == (0, 6)


def test_equal_requests_are_counted_on_over_the_parts_of_a_file(quick: Loading) -> None:
    report = quick.take([event(request_id=None)] * 300, chunk_bytes=1024)
    assert (report.total("events"), report.total("duplicates")) == (300, 0)


def test_a_document_with_records_on_lines_of_their_own_is_one(quick: Loading) -> None:
    content = '{"Records": [' + ",\n".join(TRAIL_TEXTS[:2]) + "\n," + TRAIL_TEXTS[2] + "]}\n"
    report = quick.take(content.encode(), "log.json")
    assert (report.total("events"), report.total("rejects")) == (3, 0)
