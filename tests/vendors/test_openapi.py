"""A catalogue from an API's OpenAPI document."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from keywatch import pipeline
from keywatch.content import add_folders
from keywatch.errors import InputError, UsageError
from keywatch.vendors.catalogue import read_catalogue
from keywatch.vendors.openapi import ApiDocument, read_openapi, vendor_name, write_catalogue
from keywatch.vendors.registry import catalogue_names, generic_catalogues
from keywatch.vendors.sensitive_calls import proposed_endpoint
from tests.command import keywatch

PETS = """
openapi: 3.1.0
info: {title: Pet Store API, version: "2"}
servers:
  - {url: "https://{region}.pets.example/v2/", variables: {region: {default: eu}}}
security: [{oauth: [read]}]
paths:
  /pets/{petId}:
    parameters: []
    get: {responses: {}}
    delete: {security: [{oauth: [admin]}, {key: [], oauth: [admin]}]}
  /pets/{petId}/photos/{name}.jpg:
    servers: [{url: "https://cdn.pets.example"}]
    get: {security: [{}]}
  /api-keys:
    post: {security: [{oauth: [admin]}]}
    get: {security: [{oauth: [read, list]}]}
  /owners: {$ref: "#/components/pathItems/owners"}
  /elsewhere: {$ref: "other.yaml#/paths/x"}
  /%s: {get: {}}
components:
  pathItems: {owners: {get: {}}}
  securitySchemes:
    key: {type: apiKey}
    oauth:
      type: oauth2
      flows: {clientCredentials: {scopes: {admin: "Everything,\\n at all", old: ""}}}
""" % ("long/" * 40)


def document_of(folder: Path, text: str | dict[str, Any], name: str = "openapi.yaml") -> Path:
    file = folder / name
    file.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    return file


def read(folder: Path, text: str | dict[str, Any]) -> ApiDocument:
    return read_openapi(document_of(folder, text))


def test_what_is_read(tmp_path: Path) -> None:
    api = read(tmp_path, PETS)
    assert vendor_name(api) == "pet_store"
    assert [(each.name, each.scope, each.sensitivity) for each in api.endpoints] == [
        # `read` stands beside `list` at one call: whether both are needed nobody knows.
        ("GET /v2/pets/{id}", None, "none"),
        ("DELETE /v2/pets/{id}", "admin", "none"),
        ("GET /pets/{id}/photos/{id}", None, "none"),
        ("GET /v2/api-keys", None, "low"),
        ("POST /v2/api-keys", "admin", "critical"),
        ("GET /v2/owners", None, "none"),
    ]
    # What any key may call is said by a way without scopes, where others have some.
    assert [each.name for each in api.endpoints if each.any_key] == ["GET /pets/{id}/photos/{id}"]
    assert {each.name: each.meaning for each in api.scopes} == {
        "admin": "Everything, at all", "old": "old",
    }  # fmt: skip
    assert api.unclear_scopes == ("list", "read")
    assert api.passed_over == ("/elsewhere", f"GET /v2/{'long/' * 39}long")


def test_swagger_2(tmp_path: Path) -> None:
    api = read(tmp_path, {
        "swagger": "2.0", "info": {"title": "V1"}, "basePath": "/api/",
        "securityDefinitions": {"o": {"type": "oauth2", "scopes": {"users:write": "Users."}}},
        "paths": {"/admin.users.invite": {"post": {"security": [{"o": ["users:write"]}]}}},
    })  # fmt: skip
    (one,) = api.endpoints
    assert (one.name, one.scope, one.sensitivity) == (
        "POST /api/admin.users.invite", "users:write", "high",
    )  # fmt: skip
    assert vendor_name(api) == ""


@pytest.mark.parametrize(
    ("method", "template", "sensitivity"),
    [
        ("POST", "/v1/keys/{id}/rotate", "critical"),
        ("DELETE", "/orgs/{id}/apiKeys/{id}", "critical"),
        ("HEAD", "/v1/members", "low"),
        ("GET", "/v1/members/{id}/photos", "none"),
        ("POST", "/v1/alerts/{id}:mute", "high"),
        ("GET", "/v1/exports/{id}", "high"),
        ("GET", "/v1/exports/{id}/cancel", "none"),
        ("PUT", "/v1/iam/role-bindings", "critical"),
        ("GET", "/", "none"),
    ],
)
def test_what_looks_sensitive(method: str, template: str, sensitivity: str) -> None:
    assert proposed_endpoint(method, template, None).sensitivity == sensitivity


def test_a_later_import_adds_what_is_new_and_changes_nothing_else(tmp_path: Path) -> None:
    first = write_catalogue(read(tmp_path, PETS), "pets", tmp_path)
    file = tmp_path / "vendors" / "pets" / "catalogue.toml"
    mine = file.read_text(encoding="utf-8").replace('"low"', '"high"') + "# mine\n"
    file.write_text(mine, encoding="utf-8")

    again = write_catalogue(read(tmp_path, PETS), "pets", tmp_path)
    assert (again.added, again.known, again.gone) == ((), 6, ())
    assert file.read_text(encoding="utf-8") == mine

    newer = PETS.replace("/owners:", "/keepers:").replace("old:", "new:")
    later = write_catalogue(read(tmp_path, newer), "pets", tmp_path)
    assert [each.name for each in later.added] == ["GET /v2/keepers"]
    assert (later.known, later.gone) == (5, ("GET /v2/owners",))
    assert file.read_text(encoding="utf-8").startswith(mine)
    catalogue = read_catalogue(file)
    assert set(first.added) - set(catalogue.endpoints) == {
        each for each in first.added if each.sensitivity == "low"
    }
    assert len(catalogue.endpoints) == 7 == len(first.added) + 1
    assert [each.name for each in catalogue.scopes] == ["admin", "old", "new"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not valid JSON"),
        ("a: [", "line 2: is not valid YAML"),
        ("- a", "is no OpenAPI document"),
        ("", "is no OpenAPI document"),
        ("{}", "no `openapi` or `swagger`"),
        ('{"openapi": "3.0.0", "paths": {}}', "`paths` is empty"),
        ('{"openapi": "3.0.0", "paths": []}', "`paths` is empty"),
        ("\x00", "is not valid YAML"),
        ("[" * 100_000, "YAML|JSON"),
        ("{\"a\":" * 100_000, "JSON"),
    ],
)  # fmt: skip
def test_what_is_no_document_is_told(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        read(tmp_path, text)


@pytest.mark.parametrize(
    "paths",
    [
        {"/a": None, "/b": [], "/c": {"get": None}, "/d": {"get": {"security": 1}}},
        {"/e": {"get": {"security": [{"o": "read"}, 7]}, "servers": "x"}, "x": {"get": {}}},
        {"/f": {"$ref": "#/paths/~1f"}, "/g": {"$ref": "#/nowhere"}, "/h": {"$ref": 3}},
        {"/i": {"get": {}, "servers": [{"url": "http://[", "variables": 3}]}},
    ],
)
def test_odd_parts_end_nothing(paths: dict[str, Any], tmp_path: Path) -> None:
    api = read(tmp_path, {"openapi": "3.0.0", "paths": paths, "components": 3, "info": []})
    assert all(each.scope is None and not each.any_key for each in api.endpoints)


def test_a_key_in_a_document_is_masked_and_an_extension_is_no_path(tmp_path: Path) -> None:
    full = "ply_live_prod_" + "4f8a2c0000000000009e1d"
    text = json.dumps({
        "openapi": "3.0.0", "info": {"title": full},
        "paths": {"/a": {"get": {"security": [{"o": [full]}]}}, "x-internal": {"get": {}}},
    })  # fmt: skip
    file = tmp_path / "openapi.json.gz"
    file.write_bytes(gzip.compress(text.encode()))
    api = read_openapi(file)
    assert api.passed_over == ()
    done = write_catalogue(api, "mine", tmp_path)
    assert full not in str(api) + (done.home / "catalogue.toml").read_text("utf-8")


def test_what_was_imported_is_known_at_once(tmp_path: Path) -> None:
    add_folders([write_catalogue(read(tmp_path, PETS), "pets", tmp_path).home.parents[1]])
    assert "GET /v2/keepers" not in catalogue_names()
    newer = document_of(tmp_path, PETS.replace("/owners:", "/keepers:"))
    _, done, faults = pipeline.import_openapi(newer, "pets", tmp_path)
    assert (len(done.added), faults) == (1, [])
    assert "GET /v2/keepers" in {endpoint.name for endpoint in generic_catalogues()[0].endpoints}
    assert "GET /v2/keepers" in catalogue_names()


def test_another_vendors_folder_is_left_alone(tmp_path: Path) -> None:
    api = read(tmp_path, PETS)
    with pytest.raises(UsageError, match="a vendor 'aws' already exists"):
        write_catalogue(api, "aws", tmp_path)
    with pytest.raises(UsageError, match="no vendor's name"):
        write_catalogue(api, "../x", tmp_path)


def test_the_command(tmp_path: Path) -> None:
    file = document_of(tmp_path, PETS)
    done = keywatch("sources", "import", file, "--output", tmp_path / "mine")
    assert (done.code, done.err) == (0, "")
    assert "6 endpoints added, 2 of them proposed as sensitive, 2 with a scope" in done.out
    assert "critical" in done.out
    checked = keywatch("sources", "check", tmp_path / "mine")
    assert checked.out == "1 vendor in order\n"
    nameless = document_of(tmp_path, PETS.replace("Pet Store ", ""), "other.yaml")
    refused = keywatch("sources", "import", nameless, "--output", tmp_path / "mine")
    assert refused.code == 2
    assert "--vendor" in refused.err
