"""A value as TOML, for the content files that Keywatch writes."""

from __future__ import annotations

import json
from datetime import datetime

__all__ = ["toml_value"]


def toml_value(value: object) -> str:
    """A text, number, truth value, moment (UTC) or list in TOML.

    Its texts are JSON's but for DEL.

    >>> toml_value(["a", 1, True])
    '["a", 1, true]'
    """
    if isinstance(value, datetime):
        return f"{value.isoformat()}Z"
    if isinstance(value, list):
        return f"[{', '.join(map(toml_value, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
