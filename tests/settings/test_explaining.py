"""What is wrong with the settings: where, the value found, what was expected, what was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from keywatch.errors import SettingsError
from keywatch.notices import notices_to
from keywatch.settings import Settings, load_settings


def said(tmp_path: Path, text: str) -> list[str]:
    """The lines about a file, without its folder."""
    file = tmp_path / "keywatch.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as raised:
        load_settings(file)
    return str(raised.value).replace(f"{tmp_path}/", "").splitlines()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\n[ingst]\n", "keywatch.toml:2: ingst: unknown setting; did you mean 'ingest'?"),
        (
            '[ingest]\nplacs = [\n  "a",\n]\n',
            "keywatch.toml:2: ingest.placs: unknown setting; did you mean 'places'?",
        ),
        (
            "[ingest]\n# a note\n\nmax_reject_share = 3\n",
            "keywatch.toml:4: ingest.max_reject_share: 3 should be less than or equal to 1",
        ),
        (
            "ingest.chunk_bytes = 'many'\n",
            'keywatch.toml:1: ingest.chunk_bytes: "many" should be a valid integer',
        ),
        (
            'x = """\n[metrics]\nfyle = 1\n"""\n[metrics]\nfyle = "a"\n',
            "keywatch.toml:6: metrics.fyle: unknown setting; did you mean 'file'?",
        ),
        (
            "[report]\nquite_different = 1\n",
            "keywatch.toml:2: report.quite_different: unknown setting; available: folder",
        ),
        (
            '[deliver.channels.chat]\nurl = "x"\nkind = "slak"\n',
            'keywatch.toml:1: deliver.channels.chat: kind is "slak", but should be one of '
            "'slack', 'pagerduty', 'webhook', 'mail', 'file', 'stdout'; did you mean 'slack'?",
        ),
        (
            '[deliver.channels.chat]\nurl = "x"\n',
            "keywatch.toml:1: deliver.channels.chat: kind is missing; set it to one of 'slack', "
            "'pagerduty', 'webhook', 'mail', 'file', 'stdout'",
        ),
        (
            '[deliver.channels.slack]\nkind = "slack"\nwebhok_url = { env = "A" }\n',
            "keywatch.toml:3: deliver.channels.slack.webhok_url: unknown setting; did you mean "
            "'webhook_url'?",
        ),
        (
            '[deliver.channels.to]\nkind = "file"\n',
            "keywatch.toml:1: deliver.channels.to.path: missing; it is required",
        ),
        (
            '[deliver.channels.chat]\nkind = "stdout"\n\n[[deliver.routes]]\nchannels = ["chat"]\n'
            '[[deliver.routes]]\nactions = ["revke"]\nchannels = ["chat"]\n',
            "keywatch.toml:7: deliver.routes.1.actions.0: \"revke\" should be 'revoke', 'rotate', "
            "'investigate' or 'none'; did you mean 'revoke'?",
        ),
        (
            '[deliver.channels.chat]\nkind = "stdout"\n[[deliver.routes]]\nchannels = ["chta"]\n',
            "keywatch.toml:1: deliver: routes name unknown channels: chta; did you mean 'chat'?",
        ),
        (
            "[storage]\nwait_seconds = inf\n",
            "keywatch.toml:2: storage.wait_seconds: Infinity should be less than or "
            "equal to 2000000",
        ),
        (
            "[storage]\nwait_seconds = nan\n",
            "keywatch.toml:2: storage.wait_seconds: NaN should be less than or equal to 2000000",
        ),
        (
            "[scoring.family_caps_bits]\norign = 2\n",
            "keywatch.toml:2: scoring.family_caps_bits.orign: \"orign\" should be 'origin', "
            "'endpoints', 'volume', 'client', 'policy' or 'all'; did you mean 'origin'?",
        ),
    ],
)
def test_a_fault_has_its_line_and_what_was_meant(text: str, expected: str, tmp_path: Path) -> None:
    assert expected in said(tmp_path, text)


def test_all_faults_are_said_in_the_order_of_the_file(tmp_path: Path) -> None:
    found = said(tmp_path, "[review]\nbaseline_days = 1\n[ingest]\nchunk_bytes = 1\nx = 1\n")
    assert [line.split(": ")[:2] for line in found] == [
        ["keywatch.toml:2", "review.baseline_days"],
        ["keywatch.toml:4", "ingest.chunk_bytes"],
        ["keywatch.toml:5", "ingest.x"],
    ]


@pytest.mark.parametrize(
    "text",
    [
        '[storage]\ncatalog = "very-secret"\n',
        '[storage]\ncatalgo = "very-secret"\n',
        '[storage.s3]\nendpoint = "user:very-secret@host"\n',
        '[deliver.channels.a]\nkind = "slack"\nwebhook_url = "very-secret"\n',
        '[deliver.channels.a]\nkind = "slack"\nwebhook = "very-secret"\n',
        '[deliver.channels.a]\nkind = "pagerduty"\nrouting_key = { value = "very-secret" }\n',
        '[deliver.channels.a]\nkind = "webhook"\nurl = ["very-secret"]\nsecret = { env = "A" }\n',
    ],
)
def test_what_may_be_a_secret_is_not_shown(text: str, tmp_path: Path) -> None:
    found = said(tmp_path, text)
    assert found
    assert "very-secret" not in "\n".join(found)


def test_a_fault_of_a_variable_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEYWATCH_INGEST__MAX_REJECT_SHARE", "9")
    monkeypatch.setenv("KEYWATCH_REVIEW__BASELIN_DAYS", "30")
    assert sorted(said(tmp_path, "[ingest]\nchunk_bytes = 1\n")) == [
        'KEYWATCH_INGEST__MAX_REJECT_SHARE: ingest.max_reject_share: "9" should be less than or '
        "equal to 1",
        "KEYWATCH_REVIEW__BASELIN_DAYS: review.baselin_days: unknown setting; did you mean "
        "'baseline_days'?",
        "keywatch.toml:2: ingest.chunk_bytes: 1 should be greater than or equal to 1024",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [("KEYWATCH_INGEST__PLACES", "/var/log"), ("KEYWATCH_GEOIP", "city.mmdb")],
)
def test_a_variable_that_needs_json_says_so(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as raised:
        load_settings()
    assert str(raised.value).startswith(f'{name}: not valid JSON: write a list as \'["a", "b"]\'')
    assert value not in str(raised.value)


def test_a_variable_of_no_section_is_reported_where_one_is_near(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KEYWATCH_INGST__PLACES", "[]")
    monkeypatch.setenv("KEYWATCH_LAKE", "lake")
    monkeypatch.setenv("KEYWATCH_SMTP__PASSWORD", "x")
    heard: list[str] = []
    with notices_to(heard.append):
        assert load_settings() == Settings()
    assert heard == [
        "the variable KEYWATCH_INGST__PLACES is ignored: it names no section of the settings; did "
        "you mean KEYWATCH_INGEST__PLACES?"
    ]
