"""Mail by SMTP over TLS: text and HTML, one thread an alert."""

from __future__ import annotations

import base64
import html
import smtplib
import ssl
from collections.abc import Iterable
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from keywatch.deliver.channel import Envelope, SendError
from keywatch.deliver.credentials import Vault
from keywatch.deliver.message import Message
from keywatch.deliver.wording import (
    as_text,
    facts,
    inert_message,
    key_lines,
    label,
    reason_text,
    upkeep_lines,
)
from keywatch.deliver_settings import MailChannel
from keywatch.report.phrases import count, sentence
from keywatch.report.safe_text import printable

SUBJECT_LENGTH = 150
_COLORS = {"critical": "#b00020", "high": "#b00020", "medium": "#b26a00", "low": "#1558b0"}


class MailSender:
    """Sends through one server; a connection lasts for a run."""

    def __init__(self, settings: MailChannel, vault: Vault) -> None:
        """Raises SecretError where the password is not there."""
        self._settings = settings
        self._password = None if settings.password is None else vault.resolve(settings.password)
        self._tls = ssl.create_default_context(
            cafile=None if settings.ca_file is None else str(settings.ca_file)
        )
        self._server: smtplib.SMTP | None = None

    def send(self, envelope: Envelope) -> str:
        mail = mail_of(envelope.message, self._settings, envelope.previous)
        try:
            server = self._server or self._connect()
            server.send_message(mail, self._settings.sender, self._settings.to)
        except (OSError, smtplib.SMTPException) as e:
            self.close()
            raise _refused(e) from None
        return str(mail["Message-ID"])

    def _connect(self) -> smtplib.SMTP:
        settings = self._settings
        where = (settings.host, settings.port)
        if settings.security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                *where, timeout=settings.timeout_seconds, context=self._tls
            )
        else:
            server = smtplib.SMTP(*where, timeout=settings.timeout_seconds)
        self._server = server
        if settings.security == "starttls":
            server.starttls(context=self._tls)
        if settings.username is not None and self._password is not None:
            server.login(settings.username, self._password.get_secret_value())
        return server

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None


def _refused(error: Exception) -> SendError:
    match error:
        case smtplib.SMTPRecipientsRefused():
            codes = [code for code, _ in error.recipients.values()]
            said = ", ".join(f"{code}" for code in sorted(set(codes)))
            return SendError(f"no recipient accepted: {said}", permanent=min(codes) >= 500)
        case smtplib.SMTPDataError():
            return SendError(f"refused: {error.smtp_code}", permanent=error.smtp_code >= 500)
        case smtplib.SMTPResponseException():
            return SendError(f"{type(error).__name__} {error.smtp_code}")
        case _:
            return SendError(f"no connection or no answer ({type(error).__name__})")


def mail_of(message: Message, settings: MailChannel, previous: str | None) -> EmailMessage:
    """The mail; its Message-ID is made of the message's id, so a second one can be known."""
    shown = inert_message(message)
    mail = EmailMessage(policy=SMTP)
    mail["Message-ID"] = f"<{message.id}@{settings.sender.rpartition('@')[2]}>"
    mail["From"] = settings.sender
    mail["To"] = ", ".join(settings.to)
    mail["Subject"] = printable(f"[Keywatch] {shown.title}", SUBJECT_LENGTH)
    mail["Date"] = format_datetime(datetime.fromisoformat(message.at))
    mail["Auto-Submitted"] = "auto-generated"
    if previous is not None and message.alert_id is not None:
        mail["In-Reply-To"] = previous
        mail["References"] = previous
    mail.set_content(as_text(shown))
    mail.add_alternative(html_of(shown), subtype="html")
    if message.attachment is not None:
        maintype, _, subtype = message.attachment.media_type.partition("/")
        mail.add_attachment(
            base64.b64decode(message.attachment.content),
            maintype=maintype,
            subtype=subtype,
            filename=message.attachment.name,
        )
    return mail


def html_of(message: Message) -> str:
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
        parts.append("<h3>Do now</h3>" + _list("ol", [sentence(step) for step in message.steps]))
    if message.link:
        parts.append(f'<p><a href="{_h(message.link)}">Open the case</a></p>')
    foot = "<br>".join(_h(text) for text in (message.id, message.attribution) if text)
    parts.append(f"<p><code>{_h(message.command)}</code><br><small>{foot}</small></p>")
    body = "\n".join(part for part in parts if part)
    return f'<html><body style="font-family:sans-serif">\n{body}\n</body></html>\n'


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
