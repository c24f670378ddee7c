"""Mail by SMTP over TLS: text and HTML, one thread an alert.

Each recipient has an answer of his own: who has the mail does not get it again, who was refused for
now is tried again, and who was refused for good is named in the error.
"""

from __future__ import annotations

import base64
import html
import smtplib
import ssl
from collections.abc import Iterable, Mapping
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from keywatch.deliver.channel import ACCEPTED, Envelope, Reply, SendError
from keywatch.deliver.credentials import Vault
from keywatch.deliver.message import Message
from keywatch.deliver.wording import (
    as_text,
    facts,
    inert_message,
    key_lines,
    label,
    reason_text,
    reply_lines,
    upkeep_lines,
)
from keywatch.errors import SecretError
from keywatch.settings.deliver import MailChannel
from keywatch.text.phrases import count, minute, sentence
from keywatch.text.safe_text import printable

SUBJECT_LENGTH = 150
_REPLIES = {
    421: "the server is temporarily unavailable",
    450: "the mailbox is temporarily unavailable",
    451: "the server can't accept the mail at the moment",
    452: "the server is temporarily out of storage",
    454: "the server temporarily can't check the login or use TLS",
    530: "the server requires a login or TLS: set username and password, or security",
    534: "the server requires another login method",
    535: "the server refuses the login: check username and password",
    550: "the mailbox does not exist or refuses mail from here",
    551: "the mailbox is not on this server",
    552: "the mailbox is full or the mail too large",
    553: "the server does not accept this address",
    554: "the server refuses the mail",
    556: "the domain accepts no mail",
}
"""Reply codes (RFC 5321, RFC 4954) in words."""
_GO_ON = 354
"""The reply to DATA: the mail's text is next (RFC 5321, 4.1.1.4)."""
_COLORS = {"critical": "#b00020", "high": "#b00020", "medium": "#b26a00", "low": "#1558b0"}


class _Smtp(smtplib.SMTP):
    """Knows the server's last answer, and so whether it may have the mail."""

    last_code = 0

    def getreply(self) -> tuple[int, bytes]:
        code, text = super().getreply()
        self.last_code = code
        return code, text

    @property
    def may_have_mail(self) -> bool:
        """Whether it asked for the mail's text and has said nothing since."""
        return self.last_code == _GO_ON


class _SmtpTls(_Smtp, smtplib.SMTP_SSL):
    """The same with TLS from the first byte."""


class MailSender:
    """Sends through one server; a connection lasts for a run."""

    def __init__(self, settings: MailChannel, vault: Vault) -> None:
        """Raises SecretError where the password or the certificates are not there."""
        self._settings = settings
        self._password = None if settings.password is None else vault.resolve(settings.password)
        try:
            self._tls = ssl.create_default_context(
                cafile=None if settings.ca_file is None else str(settings.ca_file)
            )
        except OSError as e:
            raise SecretError(f"{settings.ca_file}: no certificates can be read ({e})") from None
        self._server: _Smtp | None = None

    def send(self, envelope: Envelope) -> str:
        mail = mail_of(envelope.message, self._settings, envelope.previous, envelope.reply)
        message_id = str(mail["Message-ID"])
        recipients = recipients_of(envelope.message, self._settings)
        answers = {to: envelope.recipients.get(to, "") for to in recipients}
        left = [to for to, answer in answers.items() if answer != ACCEPTED and answer[:1] != "5"]
        if left:
            answers |= self._answers(mail, left)
        if all(answer == ACCEPTED for answer in answers.values()):
            return message_id
        raise _not_to_all(answers, message_id)

    def _answers(self, mail: EmailMessage, recipients: list[str]) -> dict[str, str]:
        try:
            server = self._server or self._connect()
            refused = server.send_message(mail, self._settings.sender, recipients)
        except smtplib.SMTPRecipientsRefused as e:
            self.close()  # nobody has it, and of whom it does not tell nobody was asked
            return {to: str(code) for to, (code, _) in e.recipients.items()}
        except SendError:
            self.close()
            raise
        except (OSError, smtplib.SMTPException) as e:
            may_have_mail = self._server is not None and self._server.may_have_mail
            self.close()
            if may_have_mail and not isinstance(e, smtplib.SMTPResponseException):
                raise SendError(
                    f"the mail was sent, but the server did not answer ({type(e).__name__})",
                    unanswered=True,
                ) from None
            raise _refused(e) from None
        return {to: str(refused[to][0]) if to in refused else ACCEPTED for to in recipients}

    def _connect(self) -> _Smtp:
        settings = self._settings
        where = (settings.host, settings.port)
        if settings.security == "tls":
            server: _Smtp = _SmtpTls(*where, timeout=settings.timeout_seconds, context=self._tls)
        else:
            server = _Smtp(*where, timeout=settings.timeout_seconds)
        self._server = server
        if settings.security == "starttls":
            try:
                server.starttls(context=self._tls)
            except smtplib.SMTPNotSupportedError:
                raise SendError(
                    'the server offers no STARTTLS: set security = "tls" and its port for that '
                    "(465), or set a server that does"
                ) from None
        if settings.username is not None and self._password is not None:
            try:
                server.login(settings.username, self._password.get_secret_value())
            except smtplib.SMTPNotSupportedError:
                raise SendError(
                    "the server offers no login: remove username and password, or set a server "
                    "that does"
                ) from None
        return server

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None


def _not_to_all(answers: Mapping[str, str], message_id: str) -> SendError:
    refused = {to: answer for to, answer in answers.items() if answer != ACCEPTED}
    told = "; ".join(f"{to}: {_reply(int(code or 421))}" for to, code in refused.items())
    return SendError(
        f"not delivered to {told}",
        permanent=all(_is_final(int(code or 421)) for code in refused.values()),
        recipients={to: answer for to, answer in answers.items() if answer},
        remote=message_id if len(refused) < len(answers) else None,
    )


def _refused(error: Exception) -> SendError:
    match error:
        case smtplib.SMTPAuthenticationError():
            return SendError(_reply(error.smtp_code))  # somebody may be mending the settings
        case smtplib.SMTPSenderRefused():
            what = "the sender is refused"
        case smtplib.SMTPDataError():
            what = "the mail is refused"
        case smtplib.SMTPResponseException():
            what = "the connection is refused"
        case ssl.SSLCertVerificationError():
            return SendError(
                f"the server's certificate can't be verified ({type(error).__name__}): renew it, "
                "or name its authority's in ca_file"
            )
        case ssl.SSLError():
            return SendError(
                f"no TLS with the server ({type(error).__name__}): check that security and port "
                "match (tls 465, starttls 587)"
            )
        case _:
            return SendError(f"no connection or no answer ({type(error).__name__})")
    code = error.smtp_code
    return SendError(f"{what}: {_reply(code)}", permanent=_is_final(code))


def _is_final(code: int) -> bool:
    return 500 <= code < 600


def _reply(code: int) -> str:
    other = "refused" if _is_final(code) else "temporarily refused"
    return f"{_REPLIES.get(code, other)} ({code})"


def recipients_of(message: Message, settings: MailChannel) -> list[str]:
    """Whom a message goes to: a question to the owner alone."""
    if message.recipient is not None:
        return [message.recipient.to]
    return list(dict.fromkeys(settings.to))


def mail_of(
    message: Message, settings: MailChannel, previous: str | None, reply: Reply | None = None
) -> EmailMessage:
    """The mail; its Message-ID is made of the message's id, so a second one can be known.

    `reply` is how its owner answers a question.
    """
    shown = inert_message(message)
    mail = EmailMessage(policy=SMTP)
    mail["Message-ID"] = f"<{message.id}@{settings.sender.rpartition('@')[2]}>"
    mail["From"] = settings.sender
    mail["To"] = ", ".join(recipients_of(message, settings))
    mail["Subject"] = printable(f"[Keywatch] {shown.title}", SUBJECT_LENGTH)
    mail["Date"] = format_datetime(datetime.fromisoformat(message.at))
    mail["Auto-Submitted"] = "auto-generated"
    if previous is not None and message.alert_id is not None:
        mail["In-Reply-To"] = previous
        mail["References"] = previous
    mail.set_content(as_text(shown, reply))
    mail.add_alternative(html_of(shown, reply), subtype="html")
    if message.attachment is not None:
        maintype, _, subtype = message.attachment.media_type.partition("/")
        mail.add_attachment(
            base64.b64decode(message.attachment.content),
            maintype=maintype,
            subtype=subtype,
            filename=message.attachment.name,
        )
    return mail


def html_of(message: Message, reply: Reply | None = None) -> str:
    """The message as HTML, every text escaped; of nothing that has to be fetched."""
    color = _COLORS[message.severity]
    parts = [
        f'<h2 style="color:{color}">{_h(message.title)}</h2>',
        f"<p><b>{_h(label(message))}</b> · {_h(message.severity)}<br>{_h(message.why)}</p>",
        _table(facts(message)),
        _list("ul", (*key_lines(message), *message.worst)),
    ]
    for rule, lines in upkeep_lines(message).items():
        parts.append(f"<h3>{_h(sentence(rule))}</h3>" + _list("ul", lines))
    for reason in message.reasons:
        parts.append(f"<p><b>{_h(reason_text(reason))}</b></p>")
        parts.append(_table([("typical", reason.typical), ("actual", reason.actual)]))
    if message.more_reasons:
        parts.append(f"<p>and {_h(count(message.more_reasons, 'more reason'))}</p>")
    if message.steps:
        parts.append(
            "<h3>Next steps</h3>" + _list("ol", [sentence(step) for step in message.steps])
        )
    if message.link:
        parts.append(f'<p><a href="{_h(message.link)}">Open the case</a></p>')
    if reply is not None:
        parts.append(_answering(reply))
    foot = "<br>".join(_h(text) for text in (message.id, message.attribution) if text)
    parts.append(f"<p><code>{_h(message.command)}</code><br><small>{foot}</small></p>")
    body = "\n".join(part for part in parts if part)
    return f'<html><body style="font-family:sans-serif">\n{body}\n</body></html>\n'


def _answering(reply: Reply) -> str:
    if reply.link is None:
        return f"<pre>{_h(chr(10).join(reply_lines(reply)))}</pre>"
    link, warning = _h(reply.link.get_secret_value()), _h(reply_lines(reply)[-1])
    until = f"until {minute(reply.expires_at)} UTC"
    return f'<p><b><a href="{link}">Answer this question</a></b>, {until}. {warning}</p>'


def _table(rows: Iterable[tuple[str, str]]) -> str:
    cells = "".join(
        f'<tr><td style="color:#666;padding-right:1em">{_h(name)}</td><td>{_h(text)}</td></tr>'
        for name, text in rows
    )
    return f"<table>{cells}</table>" if cells else ""


def _list(tag: str, items: Iterable[str]) -> str:
    lines = "".join(f"<li>{_h(item)}</li>" for item in items)
    return f"<{tag}>{lines}</{tag}>" if lines else ""


def _h(text: str) -> str:
    return html.escape(text, quote=True)
