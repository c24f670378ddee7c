"""A vendor that Keywatch does not know: a folder outside of the project is all that it takes."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from keywatch import content
from keywatch.content import add_folders, content_path, digest_of
from keywatch.detect import detectors
from keywatch.detect.detectors import load_detectors
from keywatch.errors import ContentError, DetectorError, InputError, VendorError
from keywatch.lake import Lake
from keywatch.load.ingest import load_files
from keywatch.load.inventory import import_keys, insert_keys
from keywatch.load.origins import parse_address
from keywatch.model import Window
from keywatch.review import making
from keywatch.settings import IngestSettings, ReviewSettings, Settings, load_settings
from keywatch.text.secrets import Redactor, without_tokens
from keywatch.vendors import catalogue_by_source, find_files, mapped_source, named_source, runbook
from keywatch.vendors.checking import check_vendor
from keywatch.vendors.registry import vendor_faults, vendors
from keywatch.vendors.runbook import KeyAtHand
from tests.command import keywatch
from tests.conftest import ROOT, Loading, NoWhere, event, tables_of

OUTSIDE = ROOT / "tests" / "data" / "outside"
TOKEN = "fge_prod_" + "4f8a2c" + "DDDDbbbbcccc1234" + "9e1d"
MASKED = "fge_prod_4f8a2c…9e1d"
NEEDLE = "DDDDbbbbcccc1234"


def request(n: int = 0, **fields: Any) -> dict[str, Any]:
    """A line of Forge's log."""
    return {
        "at": f"2026-09-30T00:{n // 60:02}:{n % 60:02}Z", "trace.id": f"t{n}",
        "token": {"id": "tok_1", "value": TOKEN}, "remote": {"addr": "45.153.78.122"},
        "http": {"verb": "GET", "target": "/api/repos/blue", "code": 200}, "client": "git/2.44",
    } | fields  # fmt: skip


@pytest.fixture
def forge(tmp_path: Path) -> Path:
    """A copy of the folder that a test may break, known to the process."""
    copied = tmp_path / "mine"
    shutil.copytree(OUTSIDE, copied)
    add_folders([copied])
    return copied / "vendors" / "forge"


@pytest.fixture
def known(forge: Path, tmp_path: Path) -> Iterator[Loading]:
    """An empty lake of a process that knows Forge."""
    with Lake.in_memory() as lake:
        yield Loading(tmp_path, lake)


# ------------------------------------------------------------------------------ what goes by itself


def test_its_tokens_are_stored_masked_wherever_they_stand(known: Loading) -> None:
    encoded = base64.b64encode(f"xx{TOKEN}".encode()).decode()
    rows = [
        request(1),
        request(2, http={"verb": "GET", "target": f"/api/repos/{TOKEN}?q={TOKEN}", "code": 404}),
        request(3, client=f"git/2.44 ({TOKEN})"),
        request(4, client=f"git/2.44 {encoded}"),
        request(5, token={"id": TOKEN}),
        request(6, http={"target": f"/api/{TOKEN}"}),
    ]
    known.take(rows)
    known.take([event(request_id="of another vendor", user_agent=TOKEN)], "other.jsonl")
    stored = str(tables_of(known.lake))
    assert NEEDLE not in stored
    assert encoded[8:40] not in stored
    keys = known.lake.rows("SELECT DISTINCT split_part(key, '#', 1) FROM lake.events ORDER BY 1")
    assert keys == [(MASKED,), (event()["key"],), (None,)]
    exposed = known.lake.rows("SELECT request_id FROM lake.events WHERE exposed ORDER BY 1")
    assert exposed == [("of another vendor",), ("t2",), ("t3",), ("t4",), ("t5",)]


def test_its_environment_is_known(known: Loading) -> None:
    runner = "fgr_" + "a1B2c3" * 4
    known.take([request(1), request(2, token={"id": "tok_2", "value": runner})])
    environments = known.lake.rows("SELECT key_id, environment_of(key) FROM lake.events ORDER BY 1")
    assert environments == [("tok_1", "prod"), ("tok_2", "runner")]


def test_an_error_shows_none_of_its_tokens(forge: Path) -> None:
    assert without_tokens(f"no file {TOKEN}") == f"no file {MASKED}"


@pytest.mark.parametrize(
    "at_hand",
    [
        KeyAtHand("tok_1", "x", 1, key=MASKED, owner="team/ops", environment="prod"),
        KeyAtHand("tok_1", "x", 1, source="forge", owner="team/ops", environment="prod"),
    ],
    ids=["by its look", "by its log"],
)
def test_its_own_runbook_is_shown(at_hand: KeyAtHand, forge: Path) -> None:
    revoke, replace, *_ = runbook.steps("revoke", at_hand)
    assert revoke == (
        f"Revoke {at_hand.shown} now (Forge: Settings, Tokens): "
        "`forge token revoke tok_1 --owner ops`"
    )
    assert replace == (
        "Make a token (https://forge.example/docs/tokens, environment prod) with only the scopes "
        "it needs"
    )
    # It says nothing of how an exposed one is retired, so it is revoked at once.
    assert runbook.steps("rotate", at_hand)[0] == revoke


def test_what_a_log_says_gets_into_no_command(forge: Path) -> None:
    hostile = KeyAtHand("x; reboot", "x", 1, key=MASKED, owner="team/$(reboot)")
    first, *_ = runbook.steps("revoke", hostile)
    assert first.endswith("`forge token revoke KEY_ID --owner TEAM`")
    option = KeyAtHand("--all", "x", 1, key=MASKED, owner="team/ops")
    assert "revoke KEY_ID --owner ops" in runbook.steps("revoke", option)[0]


def test_a_key_of_nobody_has_the_generic_runbook() -> None:
    steps = runbook.steps("revoke", KeyAtHand("key_1", "x", 1, key="zzz_4f8a…9e1d"))
    assert steps[0] == "Revoke zzz_4f8a…9e1d now, before it is replaced, where it was issued"
    assert "Pulsely" not in " ".join(steps)
    pulsely = runbook.steps("revoke", KeyAtHand("key_1", "x", 1, source="pulsely"))
    assert "Pulsely dashboard" in pulsely[0]


def test_a_review_shows_its_steps_and_environment(known: Loading) -> None:
    known.take([request(n) for n in range(3)])
    listed = {"key_id": "tok_1", "key": MASKED, "name": "ci", "environment": "production",
              "honey": True, "owner": "team/ops", "scopes": ["repos"],
              "created_at": "2026-08-01T00:00:00Z"}  # fmt: skip
    import_keys(known.lake, known.write([listed], "keys.jsonl"))
    quick = Settings(review=ReviewSettings(replayed_windows=0, power_keys=0))
    window = Window(datetime(2026, 9, 28), datetime(2026, 10, 5))
    answer, _ = making.make_review(known.lake, window, quick)
    (case,) = answer.cases
    assert (case.action, case.environment) == ("revoke", "prod")
    assert case.steps[0].startswith(f"Revoke {MASKED}")
    assert "`forge token revoke tok_1 --owner ops`" in case.steps[0]


def test_documents_of_its_records_load_as_lines_do(known: Loading) -> None:
    document = json.dumps({"entries": [request(1), request(2)]}).encode()
    report = known.take(document, "audit.json")
    assert (report.files[0].source, report.total("events")) == ("forge", 2)


def test_of_two_formats_that_call_their_list_alike_the_fields_tell(known: Loading) -> None:
    document = json.dumps({"Records": [request(1), request(2)]}).encode()
    assert known.take(document, "audit.json").files[0].source == "forge"


def test_its_catalogue_goes_with_its_own_log(known: Loading) -> None:
    known.take([request(1)])
    known.take([event(endpoint="/api/repos/blue")], "other.jsonl")
    assert known.lake.rows("SELECT source, endpoint FROM lake.events ORDER BY 1") == [
        ("forge", "GET /api/repos/{id}"),
        ("pulsely", "GET /api/repos/blue"),
    ]


def test_a_log_of_no_vendor_has_the_endpoints_of_the_users_own(known: Loading) -> None:
    line = {"ts": 1790000000, "client_ip": "81.2.69.144", "client": "key_1", "verb": "GET",
            "uri": "/api/repos/blue"}  # fmt: skip
    said = ["time=ts", "address=client_ip", "key_id=client", "method=verb", "path=uri"]
    file = known.write([line], "gateway.jsonl")
    load_files(
        known.lake, find_files([str(file)]), IngestSettings(), NoWhere(), mapped_source(said)
    )
    assert known.lake.rows("SELECT source, endpoint FROM lake.events") == [
        ("mapped", "GET /api/repos/{id}")
    ]


@pytest.mark.parametrize(
    ("source", "name", "sensitivity", "scope"),
    [
        ("forge", "GET /v1/keys", "critical", "repos"),
        ("pulsely", "GET /v1/keys", "low", "admin:*"),
        # Of no vendor: the user's own, and calls that say whose they are.
        ("mapped", "GET /v1/keys", "critical", "repos"),
        ("mapped", "iam:CreateUser", "critical", "iam"),
        ("mapped", "GET /v1/members", None, None),
        ("forge", "iam:CreateUser", None, None),
    ],
)
def test_of_two_vendors_with_an_endpoint_of_one_name_each_log_has_its_own(
    source: str, name: str, sensitivity: str | None, scope: str | None, forge: Path
) -> None:
    found = [each for of, each in catalogue_by_source() if (of, each.name) == (source, name)]
    assert [(each.sensitivity, each.scope) for each in found] == (
        [(sensitivity, scope)] if sensitivity else []
    )


def test_no_key_is_judged_by_another_vendors_scopes(known: Loading) -> None:
    """Pulsely wants admin:* for the call that Forge's scope repos allows."""
    target = {"verb": "GET", "target": "/v1/keys", "code": 200}
    known.take([request(n, http=target) for n in range(3)])
    known.take([event(endpoint="/v1/keys", key_id="key_2")], "other.jsonl")
    for key_id, scope in (("tok_1", "repos"), ("key_2", "read:checks")):
        insert_keys(
            known.lake,
            [{"key_id": key_id, "key": key_id, "name": key_id, "environment": "prod",
              "scopes": [scope], "created_at": datetime(2026, 1, 1)}],
        )  # fmt: skip
    window = Window(datetime(2026, 9, 28), datetime(2026, 10, 5))
    (bypass,) = (each for each in load_detectors() if each.id == "scope_bypass")
    detectors.prepare(known.lake, window, 90, catalogue_by_source(), only=bypass)
    detectors.run(known.lake, bypass, window)
    assert known.lake.rows("SELECT key_id FROM evidence") == [("key_2",)]


def test_a_service_of_its_is_no_address(forge: Path) -> None:
    assert parse_address("Forge-Runner").kind == "service"
    assert parse_address("forge-walker").kind == "invalid"


# --------------------------------------------------------------------------------- what is in order


def test_a_folder_outside_is_checked_and_listed(tmp_path: Path) -> None:
    toml = f'[content]\nfolders = ["{OUTSIDE}"]\n'
    (tmp_path / "keywatch.toml").write_text(toml, encoding="utf-8")
    listed = keywatch("sources", "list", cwd=tmp_path)
    assert (listed.code, listed.err) == (0, "")
    assert "forge               Forge audit log (JSON)" in listed.out
    assert "fge_(ENVIRONMENT_)…" in listed.out
    checked = keywatch("sources", "check", cwd=tmp_path)
    assert checked.code == 0
    assert re.fullmatch(r"\d+ vendors in order\n", checked.out)


def test_a_folder_is_checked_by_name_without_settings(tmp_path: Path) -> None:
    checked = keywatch("sources", "check", OUTSIDE / "vendors" / "forge", cwd=tmp_path)
    assert (checked.code, checked.out) == (0, "1 vendor in order\n")
    nothing = keywatch("sources", "check", tmp_path, cwd=tmp_path)
    assert nothing.code == 2
    assert "no vendor found there; give a folder vendors/NAME" in nothing.err


VENDOR, SOURCE = "vendor.toml", "sources/forge.toml"
LINES, KEYS = "tests/lines.toml", "tests/keys.toml"


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        (VENDOR, 'title = "Forge"', "", "`title` must be a string, not None"),
        (VENDOR, "length = 24", "length = 12", "keys[0]: `length` is 12; a secret has 16 or more"),
        (VENDOR, '"fge_"', '"f"', "`begins` has 'f'; 3 to 24 letters"),
        (VENDOR, "'dev|prod'", "'(dev)*'", "`environment` is '(dev)*'; [a-z0-9]{2,12} or dev|prod"),
        (VENDOR, '"A-Za-z0-9"', '"["', "`letters` is '['; a character class such as A-Za-z0-9"),
        (VENDOR, '{ "fgr_"', '{ "fgx_"', "keys[1].environments: unknown field 'fgx_'; use fgr_"),
        (VENDOR, "{team}", "{user}", "runbook: `revoke` has {user}, which is unknown; use"),
        (VENDOR, "team/([a-z]+)", "team/[a-z]+", "it needs one group, the word"),
        (VENDOR, 'of = "owner"', 'of = "name"', "`of` is 'name'; owner or key_id is expected"),
        (VENDOR, 'link = "https', 'links = "https', "runbook: unknown field 'links'"),
        (SOURCE, 'marks = ["token", "remote"]', "", "`marks` must be a list of strings, not None"),
        (SOURCE, '"json"', '"xml"', "`forms` has 'xml'; available: json, csv"),
        (SOURCE, 'time = "at"', "", "[fields] lacks time; add it"),
        (SOURCE, 'path = "regexp', 'object = "regexp', "[fields] lacks path; add it, or an"),
        (SOURCE, '"token.id"', '"token..id"', "`key_id` is 'token..id'; a path such as actor.id"),
        (SOURCE, '"http.code"', '"http"', "http is read whole and as http.verb"),
        (SOURCE, 'target = "', 'record = "', "'record' is taken by the query itself"),
        (SOURCE, '"address", "verb"', '"adress"', "`required` has 'adress', which [fields] does"),
        (SOURCE, "upper(verb)", "upper(word)", "word"),
        (SOURCE, "upper(verb)", "(SELECT content FROM read_text('x'))", "read_text"),
        ("catalogue.toml", '"repos"\nsens', '"repo"\nsens', "scope 'repo' is not in [[scopes]]"),
        (LINES, 'status = 200', 'status = 201', "(GET): status is 200, and 201 is expected"),
        (LINES, "line = 3", "line = 2", "rejected are [(3, 'http.verb is missing')], and [(2,"),
        (LINES, 'path = "/api', 'paths = "/api', "events[0] (GET): unknown field 'paths'"),
        (LINES, 'source = "forge"', 'source = "pulsely"', "source is 'pulsely'; forge has forge"),
        (LINES, '"token":', '"tokens":', "lines.toml: the top: log, line 1: not in a log"),
        (KEYS, 'environment = "prod"', "", "keys[0]: environment is 'prod', and '' is expected"),
        (KEYS, '"fge_4f8a2c…9e1d"', '"fge_4f8a…9e1d"', "keys[1]: is shown as 'fge_4f8a2c…9e1d'"),
        (KEYS, "fge_¦4f8a2c", "fge_¦4f", "keys[1]: is not a key of forge"),
        (KEYS, "/api/fge_docs/notes", "fge_" + "a1" * 12, "ordinary: 'fge_a1a1a1"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(
    file: str, old: str, new: str, said: str, forge: Path
) -> None:
    path = forge / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    faults = check_vendor(forge)
    assert any(said in fault for fault in faults), faults
    assert all(str(forge) in fault for fault in faults)


def test_a_source_without_a_test_is_a_fault(forge: Path) -> None:
    shutil.rmtree(forge / "tests")
    first, second = check_vendor(forge)
    assert "no test has source = 'forge'; add one" in first
    assert "no test has [[keys]]" in second


# ---------------------------------------------------------------------------- what a bad one leaves


def broken(forge: Path, file: str, old: str, new: str) -> None:
    path = forge / file
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


def test_a_bad_source_stops_its_own_log_only(known: Loading, forge: Path) -> None:
    broken(forge, SOURCE, 'time = "at"', "")
    assert known.take([event()]).total("events") == 1
    (fault,) = vendor_faults()
    assert f"{forge / SOURCE}: the top: [fields] lacks time; add it" in str(fault)
    with pytest.raises(
        InputError, match=r"unknown source 'forge'; available: .*lacks time; add it"
    ):
        named_source("forge")
    with pytest.raises(
        InputError, match=r"not in a log format known to Keywatch .*lacks time; add it"
    ):
        known.take([request()], "forge.jsonl")


def test_an_expression_that_fails_is_told_before_a_line_is_read(
    known: Loading, forge: Path
) -> None:
    broken(forge, SOURCE, "upper(verb)", "upper(word)")
    with pytest.raises(VendorError, match=r"forge\.toml: \[sql\]: .*word"):
        known.take([request()])
    assert known.lake.value("SELECT count(*) FROM lake.rejects") == 0


def test_keys_that_can_not_be_told_stop_each_load(forge: Path, tmp_path: Path) -> None:
    broken(forge, VENDOR, "length = 24", "length = 0")
    said = r"vendor\.toml: keys\[0\]: `length` must be a positive"
    with Lake.in_memory() as lake, pytest.raises(VendorError, match=said):
        Loading(tmp_path, lake).take([event()])
    assert without_tokens("an error is still told") == "an error is still told"
    assert {"aws", "generic", "pulsely"} <= (known := {vendor.name for vendor in vendors()})
    assert "forge" not in known


def test_doctor_tells_of_both(forge: Path, tmp_path: Path) -> None:
    toml = f'[content]\nfolders = ["{forge.parents[1]}"]\n'
    (tmp_path / "keywatch.toml").write_text(toml, encoding="utf-8")
    broken(forge, SOURCE, 'time = "at"', "")
    told = keywatch("doctor", cwd=tmp_path)
    assert "[fields] lacks time; add it" in told.out
    assert "BAD  " not in told.out.partition("lacks time")[0].rpartition("\n")[2]


def test_a_name_is_taken_once(forge: Path, tmp_path: Path) -> None:
    for root, name in (("a", "forge"), ("b", "smithy")):
        shutil.copytree(forge, tmp_path / root / "vendors" / name)
        add_folders([tmp_path / root])
    of_vendor, of_source = map(str, vendor_faults())
    assert of_vendor == (
        f"{tmp_path / 'a' / 'vendors' / 'forge'}: {forge} has this name already; rename the folder"
    )
    assert of_source.endswith(f"{forge / SOURCE} has this name already; rename the file")


# --------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("make", "said"),
    [(False, "is not a folder"), (True, "has no vendors/ or detectors/ in it")],
)
def test_a_folder_that_is_none_is_told(make: bool, said: str, tmp_path: Path) -> None:
    folder = tmp_path / "content"
    if make:
        folder.mkdir()
    with pytest.raises(ContentError, match=said):
        add_folders([folder])
    (tmp_path / "keywatch.toml").write_text(f'[content]\nfolders = ["{folder}"]\n', "utf-8")
    ran = keywatch("sources", "list", cwd=tmp_path)
    assert ran.code == 2
    assert f"keywatch.toml:2: content.folders: {folder}: {said}" in ran.err


def test_other_content_scores_otherwise(forge: Path) -> None:
    folder = forge.parents[1]
    settings = Settings.model_validate({"content": {"folders": [folder]}})
    before = settings.config_hash
    assert before != Settings().config_hash
    broken(forge, "catalogue.toml", '"critical"', '"high"')
    assert settings.config_hash != before
    assert digest_of([OUTSIDE]) != digest_of([folder])


def test_the_settings_make_a_folder_known(tmp_path: Path) -> None:
    assert content.known_folders() == ()
    file = tmp_path / "keywatch.toml"
    file.write_text(f'[content]\nfolders = ["{OUTSIDE}"]\n', encoding="utf-8")
    load_settings(file)
    load_settings(file)
    assert content.known_folders() == (OUTSIDE,)
    assert Redactor(b"s" * 32).mask_key(TOKEN).startswith(MASKED)


def test_a_detector_stands_outside_as_well(tmp_path: Path) -> None:
    mine = tmp_path / "detectors" / "my_scope"
    shutil.copytree(content_path("detectors") / "wildcard_scope", mine)
    assert [one.id for one in load_detectors([tmp_path])][-1] == "my_scope"
    (tmp_path / "keywatch.toml").write_text(f'[content]\nfolders = ["{tmp_path}"]\n', "utf-8")
    listed = keywatch("detectors", "list", cwd=tmp_path)
    assert "my_scope" in listed.out
    mine.rename(mine.parent / "wildcard_scope")
    with pytest.raises(DetectorError, match="has this name already; rename the folder"):
        load_detectors([tmp_path])
