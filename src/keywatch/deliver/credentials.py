"""Secrets of channels, from where the settings say they are kept.

A resolved secret is a `pydantic.SecretStr`: it shows as ``**********`` wherever it is printed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from pydantic import SecretStr

from keywatch.errors import SecretError
from keywatch.settings.deliver import SecretRef
from keywatch.settings.web_address import web_address

PrefectBlock = Callable[[str], str]
"""From the name of a Prefect Secret block to its value."""

_FEWEST_TO_HIDE = 4


class Vault:
    """Resolves secrets and remembers them, so that none of them can stand in an error."""

    def __init__(self, prefect: PrefectBlock | None = None) -> None:
        self._prefect = prefect
        self._seen: set[SecretStr] = set()

    def __repr__(self) -> str:
        return f"Vault({len(self._seen)} secrets)"

    def resolve(self, ref: SecretRef) -> SecretStr:
        """The secret, without the white space around it.

        Raises:
            SecretError: it is not there, or empty; names the place.
        """
        value = SecretStr(self._read(ref).strip())
        if not value.get_secret_value():
            raise SecretError(f"the secret in {ref} is empty")
        self._seen.add(value)
        return value

    def web_address(self, ref: SecretRef) -> SecretStr:
        """The secret, which is an address that messages may be sent to.

        Raises:
            SecretError: it is not there, or no such address.
        """
        value = self.resolve(ref)
        try:
            web_address(value.get_secret_value())
        except ValueError as e:
            raise SecretError(f"the address in {ref}: {e}") from None
        return value

    def _read(self, ref: SecretRef) -> str:
        if ref.env is not None:
            if ref.env not in os.environ:
                raise SecretError(f"the environment variable {ref.env} is not set")
            return os.environ[ref.env]
        if ref.file is not None:
            try:
                return ref.file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as e:
                why = e.strerror if isinstance(e, OSError) else "no text"
                raise SecretError(f"{ref.file}: the secret can't be read ({why})") from None
        assert ref.prefect is not None
        if self._prefect is None:
            raise SecretError(
                f"the Prefect block {ref.prefect} can be read inside a Prefect flow only; "
                "use env or file on the command line"
            )
        return self._prefect(ref.prefect)

    def hide(self, text: str) -> str:
        """`text` without any secret that was resolved here."""
        for value in _plain(self._seen):
            text = text.replace(value, "**********")
        return text


def _plain(secrets: Iterable[SecretStr]) -> list[str]:
    """Longest first, and lines of their own: an address with a token may be cut in an error."""
    values = {secret.get_secret_value() for secret in secrets}
    values |= {path for value in values if (path := value.partition("://")[2].partition("/")[2])}
    return sorted((v for v in values if len(v) >= _FEWEST_TO_HIDE), key=len, reverse=True)
