"""Secrets of channels, from where the settings say they are kept.

A resolved secret is a `pydantic.SecretStr`: it shows as ``**********`` wherever it is printed.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import SecretStr

from keywatch.errors import SecretError
from keywatch.settings.secret_ref import PrefectBlock, SecretRef
from keywatch.settings.web_address import web_address

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
        value = ref.read(self._prefect or _outside_a_flow)
        self._seen.add(value)
        return value

    def hold(self, value: SecretStr) -> SecretStr:
        """`value`, a secret that was made here, so that it stands in no error either."""
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

    def hide(self, text: str) -> str:
        """`text` without any secret that was resolved here."""
        for value in _plain(self._seen):
            text = text.replace(value, "**********")
        return text


def _outside_a_flow(name: str) -> str:
    raise SecretError(
        f"the Prefect block {name} can be read inside a Prefect flow only; "
        "use env or file on the command line"
    )


def _plain(secrets: Iterable[SecretStr]) -> list[str]:
    """Longest first, and lines of their own: an address with a token may be cut in an error."""
    values = {secret.get_secret_value() for secret in secrets}
    values |= {path for value in values if (path := value.partition("://")[2].partition("/")[2])}
    return sorted((v for v in values if len(v) >= _FEWEST_TO_HIDE), key=len, reverse=True)
