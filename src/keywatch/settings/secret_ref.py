"""Where a secret is kept: settings name its place, never the secret itself."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, SecretStr, model_validator

from keywatch.errors import SecretError
from keywatch.hints import to_install

PrefectBlock = Callable[[str], str]
"""From the name of a Prefect Secret block to its value."""


class SecretRef(BaseModel):
    """The place of a secret: an environment variable, a file, or a Prefect Secret block."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    env: str | None = None
    """The name of an environment variable."""
    file: Path | None = None
    """A file that contains the secret and nothing else."""
    prefect: str | None = None
    """The name of a Prefect Secret block."""

    @model_validator(mode="before")
    @classmethod
    def _no_secret(cls, value: Any) -> Any:
        if isinstance(value, str):
            raise ValueError(
                'a secret is not allowed in the settings: write { env = "NAME" }, '
                '{ file = "PATH" } or { prefect = "BLOCK" }'
            )
        return value

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if sum(place is not None for place in (self.env, self.file, self.prefect)) != 1:
            raise ValueError("set exactly one of env, file and prefect")
        return self

    def __str__(self) -> str:
        """The place as text: ``env NAME``."""
        for kind in ("env", "file", "prefect"):
            if (place := getattr(self, kind)) is not None:
                return f"{kind} {place}"
        raise AssertionError("a place is always named")

    def read(self, prefect: PrefectBlock) -> SecretStr:
        """The secret, without the white space around it.

        Raises:
            SecretError: it is not there, or empty; names the place.
        """
        value = SecretStr(self._text(prefect).strip())
        if not value.get_secret_value():
            raise SecretError(f"the secret in {self} is empty")
        return value

    def _text(self, prefect: PrefectBlock) -> str:
        if self.env is not None:
            if self.env not in os.environ:
                raise SecretError(f"the environment variable {self.env} is not set")
            return os.environ[self.env]
        if self.file is not None:
            try:
                return self.file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as e:
                why = e.strerror if isinstance(e, OSError) else "no text"
                raise SecretError(f"{self.file}: the secret can't be read ({why})") from None
        assert self.prefect is not None
        return prefect(self.prefect)


def prefect_block(name: str) -> str:
    """The value of a Prefect Secret block, asked of Prefect's server.

    Raises:
        SecretError: Prefect is not installed, can't be asked, or has no block of that name.
    """
    try:
        # By name: Prefect takes a second to import, and is not there everywhere.
        secret = importlib.import_module("prefect.blocks.system").Secret
    except ModuleNotFoundError:
        raise SecretError(
            f"the Prefect block {name} can't be read: Prefect is not installed here; "
            f"{to_install('flows')}, or use env or file"
        ) from None
    try:
        return str(secret.load(name).get())
    except ValueError:
        raise SecretError(f"there is no Prefect Secret block {name!r}; create it") from None
    except Exception as e:  # noqa: BLE001 - Prefect's errors have many kinds, and may hold addresses
        raise SecretError(
            f"the Prefect block {name} can't be read ({type(e).__name__}): is its server running, "
            "and PREFECT_API_URL set?"
        ) from None
