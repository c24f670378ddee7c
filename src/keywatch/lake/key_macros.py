"""SQL macros that know how the vendors' keys look, made of their forms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from keywatch.text.key_forms import KeyForm, key_forms

_NOTHING = "[^\\x00-\\x{10FFFF}]"
"""Matches no text at all."""


def key_macros() -> str:
    """`environment_of` (of a key's masked form) and `exposed_keys` (of a redacted text)."""
    forms = key_forms()
    return f"""
        -- The environment that a masked key names: xyz_prod_4f8a2c…9e1d → prod.
        CREATE OR REPLACE TEMP MACRO environment_of("key") AS
            coalesce({", ".join([*_environments(forms), "NULL"])});
        -- The full keys that stood in a text, as redaction left them there, less the hash.
        CREATE OR REPLACE TEMP MACRO exposed_keys(text) AS
            list_transform(
                regexp_extract_all(coalesce(text, ''), '{_masked(forms)}'),
                lambda k: split_part(k, '#', 1)
            );
    """


def _environments(forms: Iterable[KeyForm]) -> Iterator[str]:
    for form in forms:
        if form.environment:
            yield f"nullif(regexp_extract(\"key\", '{form.environment_pattern}', 1), '')"
        for beginning, environment in form.environments.items():
            word = environment.replace("'", "''")
            yield f"CASE WHEN starts_with(\"key\", '{beginning}') THEN '{word}' END"


def _masked(forms: Iterable[KeyForm]) -> str:
    patterns = [form.masked_pattern for form in forms if form.is_secret]
    return "|".join(f"(?:{pattern})" for pattern in patterns) or _NOTHING
