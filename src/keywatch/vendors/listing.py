"""Lists that are no logs: ``vendors/NAME/inventories/`` of keys, ``vendors/NAME/leaks/`` of finds.

A TOML file says by which fields a list is known and which of its fields is what, as a source does
of a log.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from keywatch.content import Entry
from keywatch.errors import InputError, UsageError, VendorError
from keywatch.notices import notice
from keywatch.text.key_forms import read_toml
from keywatch.text.safe_text import printable
from keywatch.text.secrets import without_tokens
from keywatch.vendors.listed import Listed, listed_records
from keywatch.vendors.source import SOURCE_NAME, FieldPath, columns_said, read_path, value_at

__all__ = ["Listing", "listing_of", "mapped_listing", "read_listing", "tell_absent", "unknown_list"]

_FIELDS = frozenset(
    {
        "title", "command", "hint", "records", "encoded", "marks", "repeat", "nothing",
        "skip_without", "fields", "texts", "unless", "inactive", "clean",
    }
)  # fmt: skip
_REPEAT = "{repeat}"
_NAMED = re.compile(r"\{(\w+)\}")
_LOOKED_AT, _TOLD = 50, 20
_LONGEST_NOTICE = 1_000


@dataclass(frozen=True)
class Listing:
    """A form of list.

    Attributes:
        name: The file's.
        vendor: Whose list it is.
        title: Its name for people.
        command: What makes it, for a shell.
        hint: What to do where its keys are not known.
        records: Where the records stand in a JSON object: names from the outside in, the first
            that is there.
        encoded: A field that holds the list itself, in base64.
        marks: Field names, all of which a record has; of alternatives, ``a|b``, one.
        fields: By column, or a name of its own for the rest: where the value stands.
        texts: By column: a text of ``{names}`` in `fields`, where none of its fields is there.
        repeat: What ``{repeat}`` in `fields` stands for: a record is read once with each.
        nothing: Values that stand for none.
        skip_without: Columns without which a record is passed over.
        unless: By name in `fields`: values with which a record is passed over.
        inactive: By name in `fields`: values that say that the key is out of force.
        clean: By path in a file without records: values, all of which it has.
    """

    name: str
    vendor: str
    title: str
    fields: Mapping[str, tuple[str, ...]] = field(hash=False)
    command: str = ""
    hint: str = ""
    records: tuple[tuple[str, ...], ...] = ()
    encoded: str = ""
    marks: tuple[str, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict, hash=False)
    repeat: tuple[str, ...] = ("",)
    nothing: frozenset[str] = frozenset()
    skip_without: tuple[str, ...] = ()
    unless: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    inactive: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    clean: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)

    def told(self, columns: Collection[str]) -> frozenset[str]:
        """Those of `columns` that such a list has at all."""
        return frozenset({*self.fields, *self.texts}.intersection(columns))

    def fits(self, text: str, path: str) -> bool:
        """Whether one of the first records of `text` bears the marks, or it is clean."""
        return self._is_clean(text, path) or any(
            all(any(name in one.record for name in mark.split("|")) for mark in self.marks)
            for one in islice(self._records(text, path), _LOOKED_AT)
        )

    def _is_clean(self, text: str, path: str) -> bool:
        is_clean = False
        for one in listed_records(text, path) if self.clean else ():
            is_clean = all(
                any(str(value_at(one.record, steps)) in values for steps in _steps(iter([place])))
                for place, values in self.clean.items()
            )
            if not is_clean:
                break
        return is_clean

    def rows(self, text: str, path: str) -> Iterator[Listed]:
        """The columns of each record that is not passed over; `inactive` is true or false."""
        if self._is_clean(text, path):
            return
        for where, record in self._records(text, path):
            for repeated in self.repeat:
                row = self._row(record, repeated)
                if all(row.get(name) is not None for name in self.skip_without) and not any(
                    str(row.get(name)) in values for name, values in self.unless.items()
                ):
                    yield Listed(where, row)

    def _records(self, text: str, path: str) -> Iterator[Listed]:
        return listed_records(text, path, self.records, self.encoded)

    def _row(self, record: Mapping[str, Any], repeated: str) -> dict[str, Any]:
        row: dict[str, Any] = {}
        for name, paths in self.fields.items():
            values = (
                value_at(record, steps)
                for steps in _steps(each.replace(_REPEAT, repeated) for each in paths)
            )
            row[name] = next((one for one in values if one not in (None, "", *self.nothing)), None)
        for name, text in self.texts.items():
            needed = _NAMED.findall(text)
            if row.get(name) is None and row.get(needed[0]) is not None:
                filled = text.format_map({one: row.get(one) or "" for one in needed})
                row[name] = filled.replace(": ", " ").strip(" :")
        if self.inactive:
            row["inactive"] = any(
                str(row.get(name)) in values for name, values in self.inactive.items()
            )
        return row


def _steps(paths: Iterator[str]) -> Iterator[FieldPath]:
    for path in paths:
        # A name may have dots itself, and a table's header has names only.
        yield (path,)
        if (steps := read_path(path)) not in (None, (path,)):
            assert steps is not None
            yield steps


def listing_of(listings: Sequence[Listing], text: str, path: str) -> Listing | None:
    """The form of the list in `text`, by its content; None where none knows it."""
    return next((each for each in listings if each.fits(text, path)), None)


def mapped_listing(said: Sequence[str], columns: Sequence[str], needed: str, title: str) -> Listing:
    """The form of a list whose columns the user names, each as ``column=field``.

    Raises:
        UsageError: a column is not known, named twice or lacking.
    """
    named = columns_said(said, columns, f"{needed}=id")
    fields = {column: (name,) for column, name in named.items()}
    if needed not in fields:
        raise UsageError(f"--map lacks {needed}; add --map {needed}=FIELD")
    name = " ".join(["--map", *sorted(said)])
    return Listing(name, "generic", title, fields)


def tell_absent(form: Listing, text: str, path: str) -> None:
    """Say which fields of `form`, which the user named, no record has: most likely misspelt."""
    records = [*listed_records(text, path)]
    for column, (name,) in form.fields.items():
        paths = [*_steps(iter([name]))]
        if records and all(
            value_at(one.record, steps) is None for one in records for steps in paths
        ):
            text = (
                f"{path}: no record has a value in {name} (--map {column}={name}); "
                f"the first has {_names_of(records[0])}"
            )
            # Of a table without a header the first keys are the names.
            notice(printable(without_tokens(text), max_length=_LONGEST_NOTICE))


def read_listing(file: Path, vendor: str, columns: Collection[str]) -> Listing:
    """The list that `file` tells, which is named after it; of `columns` it has to have one.

    Raises:
        VendorError: the file can't be read, or a field of it is wrong.
    """
    if not SOURCE_NAME.fullmatch(file.stem):
        raise VendorError(f"{file}: a list's name has only lower-case letters, digits and _")
    top = Entry(file, "the top", read_toml(file), _FIELDS, VendorError)
    entry = top.inner("fields")
    fields = {
        name: (entry.text(name),) if isinstance(value, str) else entry.texts(name)
        for name, value in entry.table.items()
    }
    for name, paths in fields.items():
        for path in paths:
            if read_path(path.replace(_REPEAT, "x")) is None:
                raise entry.error(f"`{name}` is {path!r}; a path such as owner.login is expected")
    texts = _texts_in(top, fields)
    if not (fields.keys() | texts.keys()) & {*columns}:
        raise top.error(f"[fields] has none of {', '.join(columns)}; add one")
    return Listing(
        file.stem, vendor, top.text("title"), fields,
        command=top.text("command", ""),
        hint=top.text("hint", ""),
        records=tuple(tuple(each.split(".")) for each in top.texts("records", ())),
        encoded=top.text("encoded", ""),
        marks=top.texts("marks"),
        texts=texts,
        repeat=top.texts("repeat", ()) or ("",),
        nothing=frozenset(top.texts("nothing", ())),
        skip_without=top.texts("skip_without", ()),
        unless=_values_in(top, "unless", fields),
        inactive=_values_in(top, "inactive", fields),
        clean=_clean_in(top),
    )  # fmt: skip


def _texts_in(top: Entry, fields: Collection[str]) -> dict[str, str]:
    entry = top.inner("texts")
    texts = {name: entry.text(name) for name in entry.table}
    for name, text in texts.items():
        named = _NAMED.findall(text)
        if not named or not {*named} <= {*fields} or set(_NAMED.sub("", text)) & set("{}"):
            raise entry.error(
                f"`{name}` is {text!r}; a text with {{names}} of [fields] is expected"
            )
    return texts


def _clean_in(top: Entry) -> dict[str, tuple[str, ...]]:
    entry = top.inner("clean")
    for path in entry.table:
        if read_path(path) is None:
            raise entry.error(f"{path!r} is no path; one such as runs[0].results is expected")
    return {path: entry.texts(path) for path in entry.table}


def _values_in(top: Entry, name: str, fields: Collection[str]) -> dict[str, tuple[str, ...]]:
    entry = top.inner(name, frozenset(fields))
    return {each: entry.texts(each) for each in entry.table}


def _names_of(one: Listed) -> str:
    return ", ".join(islice(one.record, _TOLD))


def unknown_list(first: Listed, listings: Sequence[Listing], needed: str) -> InputError:
    """What to say of a list that no form knows, of which this is the first record."""
    names = _names_of(first)
    forms = ", ".join(each.title for each in listings)
    return InputError(
        f"{first.where}: not in a form known to Keywatch ({forms}); name its fields with "
        f"--map {needed}=FIELD; it has {names}"
    )
