"""The buttons of questions in Slack, by socket mode: no port is open, for this side connects.

Slack says who pressed a button; whoever was not asked is refused by `on_answer`. Addresses are
asked for and messages changed with `keywatch.deliver.http`, as everything that is sent is;
slack-sdk only keeps the web socket.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from keywatch.deliver import http
from keywatch.deliver.channel import SendError
from keywatch.deliver.credentials import Vault
from keywatch.deliver.slack import BUTTONS, call_api
from keywatch.errors import KeywatchError, LakeBusyError, UsageError
from keywatch.hints import to_install
from keywatch.model import OwnerAnswer
from keywatch.notices import notice
from keywatch.settings.deliver import SlackChannel
from keywatch.settings.secret_ref import SecretRef
from keywatch.settings.web_address import web_address
from keywatch.text.safe_text import printable

_ANSWERS: dict[str, OwnerAnswer] = {
    "once": "yes", "until": "yes", "no": "no", "not_mine": "not_mine"
}  # fmt: skip
_TEXT_LENGTH = 1000
_TLS_PORT = 443
_SILENT = logging.getLogger(f"{__name__}.socket")
"""Of slack-sdk, whose texts hold addresses with tickets."""
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False
_SILENT.setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Pressed:
    """A button that `user` pressed, whose value is `code`; `until` is the day beside it."""

    code: str
    answer: OwnerAnswer
    until: date | None
    user: str


@contextmanager
def listening(
    channel: SlackChannel,
    app_token: SecretRef,
    vault: Vault,
    on_answer: Callable[[Pressed], str],
) -> Iterator[None]:
    """Take the buttons of questions that `channel` sent, until the end of the block.

    `on_answer` returns what the owner reads then; a `UsageError` of it is shown, and the buttons
    stay. It is called in threads.

    Raises:
        SecretError: a token is not where the settings say.
        UsageError: slack-sdk is not installed, or Slack does not accept the connection.
    """
    try:
        from slack_sdk.socket_mode import SocketModeClient
    except ModuleNotFoundError:
        raise UsageError(f"buttons in Slack need slack-sdk: {to_install('slack')}") from None
    slack = _Slack(channel, app_token, vault, on_answer)

    class Client(SocketModeClient):
        """Slack's own asks for its address in a way that follows redirects, and takes any."""

        def issue_new_wss_url(self) -> str:
            return slack.address()

    client = Client(app_token="", logger=_SILENT)
    client.socket_mode_request_listeners.append(slack.handle)
    try:
        client.connect()
        if not client.is_connected():
            raise SendError("no connection to the web socket")
        yield
    except SendError as e:
        raise UsageError(
            f"Slack does not accept the connection ({vault.hide(str(e))}): check app_token and "
            "that socket mode is on in the app's settings"
        ) from None
    finally:
        client.close()
        slack.close()


class _Slack:
    def __init__(
        self,
        channel: SlackChannel,
        app_token: SecretRef,
        vault: Vault,
        on_answer: Callable[[Pressed], str],
    ) -> None:
        assert channel.token is not None
        self._api = channel.api_url.rstrip("/")
        self._app_token = vault.resolve(app_token)
        self._token = vault.resolve(channel.token)
        self._http = http.client(channel.timeout_seconds)
        self._vault = vault
        self._on_answer = on_answer

    def close(self) -> None:
        self._http.close()

    def address(self) -> str:
        """Where to connect to, with a ticket.

        Raises:
            SendError: Slack does not say, or names a place that nothing is sent to.
        """
        url = str(self._call("apps.connections.open", self._app_token).get("url"))
        parts = urlsplit(url)
        try:
            if parts.scheme not in ("ws", "wss"):
                raise ValueError("it is not one")
            web_address(url.replace("ws", "http", 1))
            # slack-sdk uses TLS on this port only.
            if parts.scheme == "wss" and parts.port not in (None, _TLS_PORT):
                raise ValueError(f"its port is not {_TLS_PORT}")
        except ValueError as e:
            raise SendError(f"the address of the web socket: {e}") from None
        return url

    def handle(self, client: Any, request: Any) -> None:
        """Confirm what came, and answer what is a button of a question."""
        client.send_socket_mode_response({"envelope_id": request.envelope_id})
        payload = request.payload
        if request.type != "interactive" or not isinstance(payload, dict):
            return
        try:
            pressed = _pressed(payload)
            place = payload.get("container")
            if pressed is None or not isinstance(place, dict):
                return
            self._answer(pressed, str(place.get("channel_id")), str(place.get("message_ts")))
        except SendError as e:
            notice(f"Slack: the answer was recorded, but not confirmed: {self._hidden(e)}")
        except Exception as e:  # noqa: BLE001 - one button must not end the listening
            notice(f"Slack: a button was not understood ({type(e).__name__})")

    def _answer(self, pressed: Pressed, conversation: str, stamp: str) -> None:
        try:
            text = self._on_answer(pressed)
        except (UsageError, LakeBusyError) as e:
            busy = "Keywatch is loading a log. Press the button again in a few minutes."
            text = busy if isinstance(e, LakeBusyError) else f"Not recorded: {e}."
            self._say("chat.postEphemeral", text, channel=conversation, user=pressed.user)
        except KeywatchError as e:
            notice(f"an owner can't answer: {self._hidden(e)}")
            text = "Not recorded: this is not possible at the moment."
            self._say("chat.postEphemeral", text, channel=conversation, user=pressed.user)
        else:
            self._say("chat.update", text, channel=conversation, ts=stamp)

    def _say(self, method: str, text: str, **arguments: str) -> None:
        shown = printable(text, _TEXT_LENGTH)
        block = {"type": "section", "text": {"type": "plain_text", "text": shown, "emoji": False}}
        self._call(method, self._token, {"text": "Answer", "blocks": [block], **arguments})

    def _call(
        self, method: str, token: SecretStr, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        return call_api(self._http, self._api, method, token, body or {})

    def _hidden(self, error: Exception) -> str:
        return printable(self._vault.hide(str(error)), _TEXT_LENGTH)


def _pressed(payload: Mapping[str, Any]) -> Pressed | None:
    """The button of a question that was pressed; None for all else.

    Raises:
        UsageError, KeyError, TypeError, ValueError: Slack sends something else than it says.
    """
    if payload.get("type") != "block_actions":
        return None
    action = payload["actions"][0]
    answer = str(action["action_id"]).removeprefix(BUTTONS)
    if not str(action["action_id"]).startswith(BUTTONS) or answer not in _ANSWERS:
        return None
    until = None
    if answer == "until":
        until = date.fromisoformat(
            payload["state"]["values"][BUTTONS][f"{BUTTONS}day"]["selected_date"]
        )
    return Pressed(str(action["value"]), _ANSWERS[answer], until, str(payload["user"]["id"]))
