"""Owners are asked, and what follows from their answers, on a lake in a folder."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from jsonschema import Draft202012Validator

from keywatch import pipeline
from keywatch.deliver.codes import VALID, Codes
from keywatch.errors import UsageError
from keywatch.lake import Lake, utc_now
from keywatch.model import OwnerAnswer
from keywatch.operate import health
from keywatch.report.html import render_html
from keywatch.review.questions import Answered
from keywatch.text.document import review_document, review_schema
from tests.command import keywatch
from tests.deliver.asking import BOT_TOKEN, HOSTING, ISP, OWNER, Asking, asking, in_days
from tests.deliver.receivers import Answer, mail_server
from tests.deliver.test_channels import HOSTILE_TEXT, check_slack
from tests.test_pipeline import WEEK

pytestmark = pytest.mark.slow

HOURS = timedelta(hours=3)
"""Longer than there is to answer."""
ASKED = "SELECT owner, recipient, channel, key_ids, origins, action FROM lake.questions"
SAID = "SELECT verdict, by_whom, because, until, origins FROM lake.verdicts"
ANSWERS = "SELECT answer, until, way, by_whom FROM lake.answers ORDER BY answered_at"
STATES = "SELECT state, action, why FROM lake.alerts ORDER BY sequence DESC LIMIT 1"


def test_an_owner_who_confirms_is_asked_once_and_nobody_else_hears(tmp_path: Path) -> None:
    with asking(tmp_path) as made:
        for _ in range(2):
            assert made.deliver().later == 0
            made.review()
        (body,) = made.asked()
        assert body["channel"] == OWNER
        text = made.slack.requests[0].body.decode()
        check_slack(made.slack.requests[0])
        for part in ("Was this you?", "status board", "ply_live_prod_4f8a2c", HOSTING):
            assert part.replace(".", "[.]") in text or part in text
        assert "keywatch verdict" not in text
        assert "84[.]151" not in text  # where the owner is as ever
        assert made.rows(ASKED) == [
            ("team-a", OWNER, "bot", ["key_1"], ["45.153.78.0/24"], "investigate")
        ]
        assert made.told() == []
        code = made.code()
        ran = keywatch("answer", code, "yes", "--lake", made.lake, "--config", _config(made.folder))
        said = "key_1: team-a answered yes, this once: the use counts as yours (verdict benign).\n"
        assert ran.out == said, ran.err
        by = "team-a (owner, by command)"
        assert made.rows(SAID) == [
            ("benign", by, "answered yes, this once", None, ["45.153.78.0/24"])
        ]
        assert made.rows(STATES)[0][0] == "closed"
        made.deliver(HOURS)
        assert made.told() == []
        assert len(made.asked()) == 1
        for secret in (code, BOT_TOKEN):
            assert secret.encode() not in made.every_byte()


def _overdue(made: Asking, after: timedelta) -> list[str]:
    """What `doctor` says of questions, so long after now."""
    with Lake.open(made.lake) as lake:
        found = health.findings(lake, made.settings, utc_now() + after)
    return [one.text for one in found if one.check == "question_overdue"]


def _config(folder: Path) -> Path:
    """Settings without channels: who answers need not have their secrets."""
    file = folder / "keywatch.toml"
    file.write_text("[review]\npower_keys = 0\nreplayed_windows = 0\n", encoding="utf-8")
    return file


def test_yes_until_a_day_expects_the_network_until_then(tmp_path: Path) -> None:
    with asking(tmp_path, ISP) as made:
        made.deliver()
        for day, why in ((in_days(-1), "choose a day"), (in_days(300), "choose a day")):
            with pytest.raises(UsageError, match=why):
                _answer(made, "yes", until=day)
        with pytest.raises(UsageError, match="with yes only"):
            _answer(made, "no", until=in_days(3))
        assert made.rows(ANSWERS) == []
        _answer(made, "yes", until=in_days(30))
        ((verdict, _, because, until, origins),) = made.rows(SAID)
        assert (verdict, until, origins) == ("expected", in_days(30), ["AS3209"])
        assert because == f"answered yes, until {in_days(30)}"
        assert made.rows(ANSWERS) == [("yes", in_days(30), "command", None)]
        config = _config(made.folder)
        shown = keywatch("case", "key_1", "--lake", made.lake, "--config", config).out
        said = f"answered yes, until {in_days(30)}, by command at "
        assert said in " ".join(shown.split())
        answer = made.review()
        (asked,) = review_document(answer)["cases"][0]["asked"]
        assert (asked["owner"], asked["answer"], asked["way"]) == ("team-a", "yes", "command")
        jsonschema.validate(review_document(answer), review_schema(), cls=Draft202012Validator)


def _answer(made: Asking, said: OwnerAnswer, **more: Any) -> Answered:
    return pipeline.answer_question(
        made.lake, made.code(), said, made.settings, way="command", **more
    )


def test_no_is_a_theft_of_which_the_channels_hear_at_once(tmp_path: Path) -> None:
    with asking(tmp_path) as made:
        made.deliver()
        _answer(made, "no")
        assert made.rows(SAID)[0][:2] == ("compromised", "team-a (owner, by command)")
        made.deliver()
        (message,) = made.told()
        assert (message["kind"], message["action"]) == ("trigger", "revoke")
        assert message["why"] == "Compromised, says team-a (owner, by command): answered no."
        assert "answered no, by command" in message["asked"][0]
        for said in ("yes", "no"):
            with pytest.raises(UsageError, match=r"was answered at .* by command: no"):
                _answer(made, said)
        assert len(made.rows(ANSWERS)) == 1


def test_not_my_key_goes_to_the_channels_without_a_verdict(tmp_path: Path) -> None:
    with asking(tmp_path) as made:
        made.deliver()
        _answer(made, "not_mine")
        made.deliver()
        (message,) = made.told()
        assert message["kind"] == "trigger"
        assert message["why"].startswith("Team-a answered that it is not their key, by command.")
        assert made.rows(SAID) == []


def test_no_answer_raises_the_alert_once_and_one_that_is_late_counts(tmp_path: Path) -> None:
    with asking(tmp_path) as made:
        made.deliver()
        assert made.told() == []
        assert _overdue(made, timedelta(hours=2.5)) == []
        (late,) = _overdue(made, HOURS)
        assert "1 question to team-a: the time to answer is over" in late
        ended = made.deliver(HOURS)
        assert "no answer within 2 hours" in ended.followed[0]
        assert _overdue(made, HOURS) == []
        for _ in range(2):
            made.deliver(HOURS)
        (message,) = made.told()
        assert message["kind"] == "trigger"
        assert "no answer within 2 hours. This key" in message["why"]
        assert "; no answer within 2 hours" in message["asked"][0]
        page = render_html(*pipeline.review_in_detail(made.lake, WEEK, made.settings))
        assert f"{message['asked'][0]}</p>" in page
        assert [row[0] for row in made.rows(ANSWERS)] == ["unanswered"]
        _answer(made, "yes")
        made.deliver(HOURS)
        assert [each["kind"] for each in made.told()] == ["trigger", "resolve"]


@pytest.mark.parametrize("said", ["permanent", "down"])
def test_a_question_that_does_not_arrive_raises_the_alert(said: str, tmp_path: Path) -> None:
    with asking(tmp_path) as made:
        refused = '{"ok": false, "error": "invalid_blocks"}'
        made.slack.behave = lambda _: Answer(body=refused) if said == "permanent" else Answer(503)
        made.deliver()
        assert made.told() == []
        made.deliver(timedelta(seconds=1) if said == "permanent" else HOURS)
        (message,) = made.told()
        why = {"permanent": "not be delivered (Slack answered invalid_blocks)", "down": "within 2"}
        assert f"the question could {why[said]}" in message["why"] or why[said] in message["why"]
        tries = len(made.asked())
        made.slack.behave = lambda _: Answer(body='{"ok": true, "channel": "D01", "ts": "1.2"}')
        made.deliver(HOURS * 9)
        assert len(made.asked()) == tries  # nobody waits for that answer any more


def test_a_key_to_revoke_goes_to_the_channels_and_a_yes_is_a_note(tmp_path: Path) -> None:
    with asking(tmp_path, action="revoke", ask=["investigate", "revoke"]) as made:
        made.deliver()
        (message,) = made.told()
        assert message["action"] == "revoke"
        assert message["asked"][0].startswith("asked team-a at ")
        _answer(made, "yes")
        made.deliver(HOURS)
        assert [each["kind"] for each in made.told()] == ["trigger", "update"]
        assert "answered yes, this once; the verdict is yours" in made.told()[1]["why"]
        assert made.rows("SELECT kind, text, noted_by FROM lake.alert_notes") == [
            (
                "comment", "answered yes, this once; the verdict is yours, by command",
                "team-a (owner)",
            )
        ]  # fmt: skip
        assert made.rows(SAID) == []


def test_an_owner_without_a_contact_is_not_asked(tmp_path: Path) -> None:
    with asking(tmp_path, people={"team-b": {"slack": OWNER}}) as made:
        made.deliver()
        assert made.asked() == []
        assert [each["kind"] for each in made.told()] == ["trigger"]


def test_a_question_by_mail_goes_to_the_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_MAIL", "mail-pass-word")
    box_folder = tmp_path / "box"
    box_folder.mkdir()
    with mail_server(box_folder) as box:
        mail_channel = {
            "kind": "mail", "host": "localhost", "port": box.port, "username": "keywatch",
            "password": {"env": "TEST_MAIL"}, "sender": "keywatch@alerts.example.com",
            "to": ["soc@example.com"], "ca_file": box.ca_file,
        }  # fmt: skip
        people = {"team-a": {"mail": "ana@example.com"}}
        channels = {"mail": mail_channel}
        with asking(
            tmp_path, name=HOSTILE_TEXT, channels=channels, channel="mail", people=people
        ) as made:
            made.deliver()
        (mail,) = box.mails
        assert box.asked == ["ana@example.com"]
        assert mail["To"] == "ana@example.com"
        plain, page = mail.get_body(("plain",)), mail.get_body(("html",))
        assert plain is not None
        assert page is not None
        link = "https://keys.example.com/answer?code=ask_"
        assert link in plain.get_content()
        assert f'href="{link}' in page.get_content()
        assert "<script>" not in page.get_content()
        assert "https://evil" not in plain.get_content()


def test_a_code_is_of_one_question_one_lake_and_a_week() -> None:
    now = utc_now()
    codes, others = Codes(b"a" * 32), Codes(b"b" * 32)
    one, two = f"ask_{'0' * 24}", f"ask_{'1' * 24}"
    code = codes.code(one, now).get_secret_value()
    assert codes.question_id(code, now) == one
    assert code not in repr(codes) + repr(codes.code(one, now))
    _, expires, digest = code.split(".")
    forged = [
        "", "x", code[:-1], code + "A", f"{two}.{expires}.{digest}", f"{one}.{expires}0.{digest}",
        others.code(one, now).get_secret_value(), code.replace("ask_", "ASK_"), "é" * 90,
    ]  # fmt: skip
    for each in forged:
        with pytest.raises(UsageError, match="not valid"):
            codes.question_id(each, now)
    with pytest.raises(UsageError, match="expired"):
        codes.question_id(code, now + VALID)


def test_what_was_forgotten_can_not_be_answered(tmp_path: Path) -> None:
    with asking(tmp_path) as made:
        made.deliver()
        pipeline.forget(made.lake, "key_1", made.settings)
        for table in ("questions", "answers", "deliveries"):
            assert made.rows(f"FROM lake.{table}") == []
        with pytest.raises(UsageError, match="not stored any more"):
            _answer(made, "yes")
