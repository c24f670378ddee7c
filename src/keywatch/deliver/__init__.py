"""Alerts to people and programs: the outbox, who hears of what, and one module a channel."""

from keywatch.deliver.claims import Claim, claimed
from keywatch.deliver.codes import Codes
from keywatch.deliver.message import Message, message_schema, question_message
from keywatch.deliver.outbox import (
    LONG_WAIT,
    Standing,
    awaiting_approval,
    describe,
    enqueue_heartbeat,
    heartbeat_is_due,
    standings,
)
from keywatch.deliver.questions import overdue
from keywatch.deliver.run import (
    DeliveryReport,
    Outbox,
    deliver_due,
    near_channels,
    preview,
    put_report,
    render_delivery,
    unusable_channels,
)
from keywatch.deliver.sender import ChannelReport
from keywatch.deliver.trial import send_test
from keywatch.deliver.wording import as_text

__all__ = [
    "LONG_WAIT",
    "ChannelReport",
    "Claim",
    "Codes",
    "DeliveryReport",
    "Message",
    "Outbox",
    "Standing",
    "as_text",
    "awaiting_approval",
    "claimed",
    "deliver_due",
    "describe",
    "enqueue_heartbeat",
    "heartbeat_is_due",
    "message_schema",
    "near_channels",
    "overdue",
    "preview",
    "put_report",
    "question_message",
    "render_delivery",
    "send_test",
    "standings",
    "unusable_channels",
]
