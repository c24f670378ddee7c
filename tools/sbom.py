"""The packages that a wheel needs, as a CycloneDX document.

Names and edges are the packages' own metadata, versions and hashes those of requirements.lock, and
licences what the packages installed here declare. It covers all platforms and Pythons that Keywatch
supports: a package that only another platform needs is listed without its licence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from itertools import product
from pathlib import Path
from uuid import NAMESPACE_OID, uuid5

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import (
    ExternalReference,
    ExternalReferenceType,
    HashAlgorithm,
    HashType,
    Property,
    XsUri,
)
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.license import License, LicenseAcknowledgement
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.lock import Locked

SYSTEMS = {"linux": "Linux", "darwin": "Darwin"}


def sbom(wheel: Path, locked: Mapping[str, Locked], made_at: int) -> str:
    """The packages of `wheel` in CycloneDX's JSON; the same arguments give the same text.

    What the wheel needs by itself has the scope ``required``; what only extras need is ``optional``
    and names them (``keywatch:extra``). `made_at` is in seconds since 1970.

    Raises:
        ValueError: a package is not in the lock, or is installed here in another version.
    """
    (root,) = distributions(path=[str(wheel)])
    extras = root.metadata.get_all("Provides-Extra", [])
    everything = needed(root, extras)
    required = needed(root, [])
    brought_by = {extra: needed(root, [extra]).keys() - required.keys() for extra in extras}

    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    components = {"keywatch": _program(root, digest)}
    for name in sorted(everything.keys() - {"keywatch"}):
        one = _package(name, locked)
        one.scope = ComponentScope.REQUIRED if name in required else ComponentScope.OPTIONAL
        for extra in (extra for extra, names in brought_by.items() if name in names):
            one.properties.add(Property(name="keywatch:extra", value=extra))
        components[name] = one

    library = "cyclonedx-python-lib"
    bom = Bom(serial_number=uuid5(NAMESPACE_OID, digest))
    bom.metadata = BomMetaData(
        component=components["keywatch"], timestamp=datetime.fromtimestamp(made_at, UTC)
    )
    bom.metadata.tools.components.add(
        Component(name=library, version=distribution(library).version)
    )
    bom.components.update(one for name, one in components.items() if name != "keywatch")
    for name, others in everything.items():
        bom.register_dependency(components[name], [components[other] for other in others])
    outputter = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6)
    return outputter.output_as_string(indent=2) + "\n"


def needed(root: Distribution, extras: Iterable[str]) -> dict[str, set[str]]:
    """Each package that `root` needs with `extras`, itself too, with the packages it needs."""
    pythons = [
        classifier.rpartition(" ")[2]
        for classifier in root.metadata.get_all("Classifier", [])
        if classifier.startswith("Programming Language :: Python :: 3.")
    ]
    environments = [
        {
            "sys_platform": system,
            "platform_system": SYSTEMS[system],
            "python_version": python,
            "python_full_version": f"{python}.0",
        }
        for system, python in product(SYSTEMS, pythons)
    ]
    found: dict[str, set[str]] = {}
    seen = set()
    todo = [("keywatch", tuple(extras))]
    while todo:
        name, wanted = todo.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        others = found.setdefault(name, set())
        for one in _requirements(root if name == "keywatch" else _installed(name)):
            if one.marker is None or any(
                one.marker.evaluate({**environment, "extra": extra})
                for environment, extra in product(environments, ("", *wanted))
            ):
                others.add(canonicalize_name(one.name))
                todo.append((canonicalize_name(one.name), tuple(sorted(one.extras))))
    return found


@cache
def _installed(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


@cache
def _requirements(package: Distribution | None) -> list[Requirement]:
    return [Requirement(line) for line in (package and package.requires) or []]


def _program(root: Distribution, digest: str) -> Component:
    # No package URL: what an index has under this name need not be this program.
    return Component(
        name="keywatch",
        version=root.version,
        type=ComponentType.APPLICATION,
        bom_ref="keywatch",
        description=root.metadata["Summary"],
        licenses=_licenses(root),
        hashes=[_sha256(digest)],
    )


def _package(name: str, locked: Mapping[str, Locked]) -> Component:
    if name not in locked:
        raise ValueError(f"{name} is not in requirements.lock: run make lock")
    version, hashes = locked[name]
    installed = _installed(name)
    if installed and installed.version != version:
        raise ValueError(
            f"{name} {installed.version} is installed, {version} is locked: run make setup"
        )
    url = PackageURL("pypi", name=name, version=version)
    # One reference for all files of a version: the lock says which hashes, not of which file.
    files = ExternalReference(
        type=ExternalReferenceType.DISTRIBUTION,
        url=XsUri(url.to_string()),
        hashes=map(_sha256, hashes),
    )
    return Component(
        name=name,
        version=version,
        bom_ref=url.to_string(),
        purl=url,
        licenses=_licenses(installed) if installed else [],
        external_references=[files],
    )


def _licenses(package: Distribution) -> list[License]:
    """What a package declares: an expression, else a short name, else its classifiers."""
    declared = LicenseAcknowledgement.DECLARED
    text = package.metadata["License-Expression"] or package.metadata["License"] or ""
    if text and "\n" not in text and text != "UNKNOWN":
        return [LicenseFactory().make_from_string(text, license_acknowledgement=declared)]
    return [
        LicenseFactory().make_with_name(classifier.rpartition(" :: ")[2], acknowledgement=declared)
        for classifier in package.metadata.get_all("Classifier", [])
        if classifier.startswith("License :: ")
    ]


def _sha256(digest: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=digest)
