"""From a channel's settings to the channel."""

from __future__ import annotations

from keywatch.deliver.channel import Channel
from keywatch.deliver.credentials import Vault
from keywatch.settings.deliver import ChannelSettings


def open_channel(settings: ChannelSettings, vault: Vault) -> Channel:
    """The channel that `settings` describe; nothing is sent, and nobody is connected to.

    Raises:
        SecretError: a secret is not where the settings say.
    """
    # Each with its library: only those that are used are loaded.
    match settings.kind:
        case "slack":
            from keywatch.deliver.slack import open_slack

            return open_slack(settings, vault)
        case "pagerduty":
            from keywatch.deliver.pagerduty import PagerDutySender

            return PagerDutySender(settings, vault)
        case "webhook":
            from keywatch.deliver.webhook import WebhookSender

            return WebhookSender(settings, vault)
        case "mail":
            from keywatch.deliver.mail import MailSender

            return MailSender(settings, vault)
        case "file":
            from keywatch.deliver.file import FileWriter

            return FileWriter(settings, vault)
        case "stdout":
            from keywatch.deliver.stdout import StdoutWriter

            return StdoutWriter(settings, vault)
