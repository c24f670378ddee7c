"""All that is known of each vendor: ``vendors/NAME/``, bundled and of the settings' folders."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType

from keywatch.content import Entry, folders_of, known_folders
from keywatch.errors import VendorError
from keywatch.hints import unknown
from keywatch.text.key_forms import KEY_FIELDS, KeyForm, read_forms, read_toml
from keywatch.vendors.catalogue import Catalogue, Endpoint, read_catalogue
from keywatch.vendors.listing import Listing, read_listing
from keywatch.vendors.policy import POLICY_FIELDS, PolicyForm, read_policy
from keywatch.vendors.runbook_file import RUNBOOK_FIELDS, Runbook, read_runbook
from keywatch.vendors.source import Source, read_source

__all__ = [
    "GENERIC",
    "MAPPED",
    "Vendor",
    "catalogue_by_source",
    "generic_catalogues",
    "inventories",
    "leak_reports",
    "logged_ids",
    "read_vendor",
    "runbook_for",
    "service_words",
    "sources",
    "vendor_faults",
    "vendor_named",
    "vendor_of_key",
    "vendors",
]

GENERIC = "generic"
"""The folder of what has no vendor; its runbook is the one of keys whose vendor is not known."""
MAPPED = "mapped"
"""The log format of a load whose fields the user named (``--map``)."""
_VENDOR_FIELDS = frozenset(
    {"title", "keys", "principals", "runbook", "service_addresses", "sha256_ids", "policy"}
)
INVENTORY_COLUMNS = (
    "key_id", "key", "name", "owner", "environment", "scopes", "created_at", "expires_at",
    "revoked_at", "replaces", "honey",
)  # fmt: skip
"""What an inventory says of a key."""
LEAK_COLUMNS = ("secret", "key_id", "found_at", "location")
"""What a report says of a leaked key; `secret` as found, or masked."""
_PRINCIPAL_FIELDS = frozenset({"matches", "own_logs_only", "runbook"})
_SENSITIVITIES = ("none", "low", "high", "critical")


@dataclass(frozen=True)
class _Principals:
    """Principals whose ids look alike, and how their short-lived credentials are revoked.

    With `own_logs_only` the look is that of others' principals too, such as an e-mail address.
    """

    matches: re.Pattern[str]
    own_logs_only: bool
    runbook: Runbook


@dataclass(frozen=True)
class Vendor:
    """One folder of ``vendors/``; its name is the vendor's.

    Attributes:
        title: Its name for people.
        keys: How its keys look, and the runbook of each form, in the file's order.
        sources: Its log formats.
        catalogue: Its API's endpoints; None where none are listed.
        runbook: How its keys are replaced and revoked, where their form has no runbook of its own.
        principals: What the ids of its principals look like, whose short-lived credentials are used
            in their stead, and how these are revoked.
        policy: How it limits what a key may do; None where that is not known.
        service_addresses: What its logs have in place of an address where a service calls.
        inventories: Its lists of keys.
        leak_reports: Its reports of leaked keys.
        sha256_ids: What its tokens look like that its log names by their SHA-256, in base64.
    """

    name: str
    title: str
    folder: Path
    keys: tuple[tuple[KeyForm, Runbook | None], ...]
    sources: tuple[Source, ...]
    catalogue: Catalogue | None
    runbook: Runbook | None
    principals: tuple[_Principals, ...]
    service_addresses: tuple[str, ...]
    inventories: tuple[Listing, ...]
    leak_reports: tuple[Listing, ...]
    sha256_ids: re.Pattern[str] | None
    policy: PolicyForm | None

    def runbook_of(self, form: KeyForm | None) -> Runbook:
        """The runbook of its keys of a form; the generic one where it has none."""
        own = next((runbook for each, runbook in self.keys if each == form), None)
        found = own or self.runbook or vendor_named(GENERIC).runbook
        assert found is not None, "the bundled runbook"
        return found


def read_vendor(folder: Path) -> Vendor:
    """The vendor in `folder`, which is named after it.

    Raises:
        VendorError: a file can't be read, or a field of it is wrong.
    """
    file = folder / "vendor.toml"
    top = Entry(file, "the top", read_toml(file), _VENDOR_FIELDS, VendorError)
    title = top.text("title")
    runbooks = [_runbook_in(entry) for entry in top.entries("keys", KEY_FIELDS, least=0)]
    catalogue = folder / "catalogue.toml"
    return Vendor(
        name=folder.name,
        title=title,
        folder=folder,
        keys=tuple(zip(read_forms(folder), runbooks, strict=True)),
        sources=tuple(
            read_source(each, folder.name) for each in sorted((folder / "sources").glob("*.toml"))
        ),
        catalogue=read_catalogue(catalogue) if catalogue.is_file() else None,
        runbook=_runbook_in(top),
        principals=tuple(
            _read_principal(each) for each in top.entries("principals", _PRINCIPAL_FIELDS, least=0)
        ),
        service_addresses=top.texts("service_addresses", ()),
        inventories=_read_listings(folder, "inventories", INVENTORY_COLUMNS),
        leak_reports=_read_listings(folder, "leaks", LEAK_COLUMNS),
        sha256_ids=_pattern(top, "sha256_ids") if "sha256_ids" in top.table else None,
        policy=read_policy(top.inner("policy", POLICY_FIELDS)) if "policy" in top.table else None,
    )


def _read_listings(folder: Path, kind: str, columns: tuple[str, ...]) -> tuple[Listing, ...]:
    files = sorted((folder / kind).glob("*.toml"))
    return tuple(read_listing(each, folder.name, columns) for each in files)


def _pattern(entry: Entry, field: str) -> re.Pattern[str]:
    text = entry.text(field)
    try:
        return re.compile(text, re.ASCII)
    except re.error as e:
        raise entry.error(f"`{field}` is {text!r}, no regular expression: {e}") from e


def _read_principal(entry: Entry) -> _Principals:
    return _Principals(
        _pattern(entry, "matches"),
        entry.flag("own_logs_only"),
        read_runbook(entry.inner("runbook", RUNBOOK_FIELDS)),
    )


def _runbook_in(entry: Entry) -> Runbook | None:
    if "runbook" not in entry.table:
        return None
    return read_runbook(entry.inner("runbook", RUNBOOK_FIELDS))


@dataclass(frozen=True)
class _Known:
    vendors: Mapping[str, Vendor]
    sources: Mapping[str, Source]
    faults: tuple[VendorError, ...]
    service_words: frozenset[str]


def _known() -> _Known:
    return _read(known_folders())


@cache
def _read(outside: tuple[Path, ...]) -> _Known:
    found: dict[str, Vendor] = {}
    formats: dict[str, Source] = {}
    faults: list[VendorError] = []
    for folder in folders_of("vendors", outside):
        try:
            vendor = read_vendor(folder)
            _refuse_known(vendor, found, formats)
        except VendorError as e:
            faults.append(e)
            continue
        found[vendor.name] = vendor
        formats |= {source.name: source for source in vendor.sources}
    words = (word.lower() for vendor in found.values() for word in vendor.service_addresses)
    return _Known(
        MappingProxyType(found), MappingProxyType(formats), tuple(faults), frozenset(words)
    )


def _refuse_known(
    vendor: Vendor, found: Mapping[str, Vendor], formats: Mapping[str, Source]
) -> None:
    if other := found.get(vendor.name):
        raise VendorError(
            f"{vendor.folder}: {other.folder} has this name already; rename the folder"
        )
    for source in vendor.sources:
        if same := formats.get(source.name):
            raise VendorError(f"{source.file}: {same.file} has this name already; rename the file")


def read_again() -> None:
    """Read the vendors' folders again when next needed: one was added since."""
    for read in (_read, _by_source, _names):
        read.cache_clear()


def vendors() -> tuple[Vendor, ...]:
    """The vendors that can be read, the bundled ones first."""
    return tuple(_known().vendors.values())


def vendor_faults() -> tuple[VendorError, ...]:
    """Why others can't be read: they are left out, and their logs are not known."""
    return _known().faults


def vendor_named(name: str) -> Vendor:
    """The vendor of that name.

    Raises:
        VendorError: there is none, or it can't be read.
    """
    known = _known()
    if name not in known.vendors:
        for fault in known.faults:
            raise fault
        raise VendorError(unknown("vendor", name, known.vendors))
    return known.vendors[name]


def sources() -> Mapping[str, Source]:
    """The log formats that can be read, by name."""
    return _known().sources


def inventories() -> tuple[Listing, ...]:
    """The lists of keys that are known by their content."""
    return tuple(each for vendor in vendors() for each in vendor.inventories)


def leak_reports() -> tuple[Listing, ...]:
    """The reports of leaked keys that are known by their content."""
    return tuple(each for vendor in vendors() for each in vendor.leak_reports)


def logged_ids(secret: str) -> Iterator[str]:
    """The ids by which vendors' logs name the key that a found text is or holds.

    Such as an access key's id, which is no secret, or the hash of a token.
    """
    for vendor in vendors():
        for form, _ in vendor.keys:
            if not form.is_secret:
                yield from re.findall(rf"(?<![A-Za-z0-9]){form.pattern}", secret, re.ASCII)
        if vendor.sha256_ids:
            for token in vendor.sha256_ids.finditer(secret):
                yield b64encode(sha256(token[0].encode()).digest()).decode()


def catalogue_by_source() -> tuple[tuple[str, Endpoint], ...]:
    """By log format (`sources`) the endpoints that its catalogue lists, each name once.

    A vendor's log has the vendor's. One in a format of no vendor has those of the user's own
    vendors (``[content] folders``), and the calls of the bundled catalogues, whose names are one
    vendor's alone (``iam:CreateUser``); their paths (``GET /v1/keys``) are any API's.
    """
    return _by_source(known_folders())


def catalogue_names() -> frozenset[str]:
    """The names of all endpoints of `catalogue_by_source`."""
    return _names(known_folders())


@cache
def _names(outside: tuple[Path, ...]) -> frozenset[str]:
    return frozenset(endpoint.name for _, endpoint in _by_source(outside))


@cache
def _by_source(outside: tuple[Path, ...]) -> tuple[tuple[str, Endpoint], ...]:
    known = _read(outside)
    by_vendor = {
        vendor.name: vendor.catalogue.endpoints if vendor.catalogue else ()
        for vendor in known.vendors.values()
    }
    own = [*_own_endpoints(outside)]
    named = {each.name for each in own}
    calls = (
        each for endpoints in by_vendor.values() for each in endpoints if each.method == "CALL"
    )
    by_vendor[GENERIC] = (*own, *(each for each in calls if each.name not in named))
    readers = {source.name: source.vendor for source in known.sources.values()} | {MAPPED: GENERIC}
    return tuple(
        (name, endpoint) for name, vendor in readers.items() for endpoint in by_vendor[vendor]
    )


def generic_catalogues() -> tuple[Catalogue, ...]:
    """The catalogues whose paths a log in a format of no vendor may have: the user's own."""
    return _own_catalogues(known_folders())


def _own_catalogues(outside: tuple[Path, ...]) -> tuple[Catalogue, ...]:
    roots = {folder.resolve() for folder in outside}
    return tuple(
        vendor.catalogue
        for vendor in _read(outside).vendors.values()
        if vendor.catalogue and vendor.folder.parent.parent.resolve() in roots
    )


def _own_endpoints(outside: tuple[Path, ...]) -> Iterable[Endpoint]:
    """Those of the user's own catalogues; of two of one name the more sensitive one."""
    named: dict[str, Endpoint] = {}
    for endpoint in (
        each for catalogue in _own_catalogues(outside) for each in catalogue.endpoints
    ):
        other = named.get(endpoint.name)
        if other is None or _rank(endpoint) > _rank(other):
            named[endpoint.name] = endpoint
    return named.values()


def _rank(endpoint: Endpoint) -> int:
    return _SENSITIVITIES.index(endpoint.sensitivity)


def service_words() -> frozenset[str]:
    """What logs have in place of an address where a service calls, in small letters."""
    return _known().service_words


def vendor_of_key(
    key_id: str, shown: str | None, source: str | None
) -> tuple[Vendor, KeyForm | None]:
    """Whose a key or a principal is, by its look, else by the format of its log; and its form.

    `shown` is the masked key. Where neither tells, the vendor is ``generic``.
    """
    for vendor in vendors():
        for form, _ in vendor.keys:
            named = not form.is_secret and form.whole.fullmatch(key_id)
            if named or (shown and form.is_form_of(shown)):
                return vendor, form
    for vendor in vendors():
        for each in vendor.principals:
            if not each.own_logs_only and each.matches.fullmatch(key_id):
                return vendor, None
    known = sources().get(source or "")
    return vendor_named(known.vendor if known else GENERIC), None


def runbook_for(key_id: str, shown: str | None, source: str | None) -> Runbook:
    """How a key, or the credentials of a principal, are replaced and revoked.

    `shown` is the masked key, `source` the format of its log.
    """
    own = known.vendor if (known := sources().get(source or "")) else ""
    for vendor in sorted(vendors(), key=lambda each: each.name != own):
        for each in vendor.principals:
            if each.matches.fullmatch(key_id) and (vendor.name == own or not each.own_logs_only):
                return each.runbook
    vendor, form = vendor_of_key(key_id, shown, source)
    return vendor.runbook_of(form)
