"""The vendors that are bundled: each is in order, and nothing of one stands elsewhere."""

from __future__ import annotations

import re

import pytest

from keywatch.vendors.checking import check_vendor
from keywatch.vendors.registry import Vendor, vendor_faults, vendor_of_key, vendors
from tests.conftest import ROOT

OF_A_VENDOR = re.compile(r"\b(?:pulsely|ply|aws|cloudtrail|akia|asia)(?:\b|_)", re.IGNORECASE)
OF_THE_STORE = {"lake/attach.py", "settings/storage.py"}
"""Where the lake's own files may be on S3, whose credentials have AWS's names."""


@pytest.mark.parametrize("vendor", vendors(), ids=lambda vendor: vendor.name)
def test_a_bundled_vendor_is_in_order(vendor: Vendor) -> None:
    assert check_vendor(vendor.folder) == []


def test_every_folder_is_read() -> None:
    assert vendor_faults() == ()
    folders = {path.name for path in (ROOT / "vendors").iterdir() if path.is_dir()}
    assert {vendor.name for vendor in vendors()} == folders


def test_nothing_of_a_vendor_stands_in_the_engine() -> None:
    engine = ROOT / "src" / "keywatch"
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file in sorted(engine.rglob("*"))
        if file.suffix in (".py", ".sql")
        and "sample" not in file.relative_to(engine).parts
        and file.relative_to(engine).as_posix() not in OF_THE_STORE
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1)
        if OF_A_VENDOR.search(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("key_id", "source", "vendor"),
    [
        ("arn:aws:iam::123456789012:role/app", "ocsf_api_activity", "aws"),
        # Others have e-mail addresses too: there the log decides.
        ("ana@example.com", "ocsf_api_activity", "generic"),
        ("ana@example.com", "gcp_audit", "google"),
        ("key_1", "pulsely", "pulsely"),
        ("key_1", "mapped", "generic"),
    ],
)
def test_the_look_of_a_principal_tells_its_vendor(key_id: str, source: str, vendor: str) -> None:
    assert vendor_of_key(key_id, None, source)[0].name == vendor
