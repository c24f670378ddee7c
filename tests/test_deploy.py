"""The deployment: what Containerfile and compose.yaml name exists, and nothing is left open."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from cyclopts import CycloptsError
from pydantic import BaseModel

from keywatch.cli import app
from keywatch.settings import Settings, load_settings
from tests.prose import ROOT
from tools.lock import locked

DEPLOY = ROOT / "deploy"
CONTAINERFILE = (DEPLOY / "Containerfile").read_text("utf-8").replace("\\\n", " ")
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: one for name, one in SERVICES.items() if one["image"].startswith("keywatch:")}
SECRETS = Path("/run/secrets")


def instructions(name: str) -> list[str]:
    """The arguments of each instruction of the Containerfile called `name`."""
    return re.findall(rf"^{name} +(.*)$", CONTAINERFILE, re.MULTILINE)


def commands() -> Iterator[tuple[str, list[str]]]:
    """Each command of Keywatch, with the service, or the file, that runs it."""
    for name, service in OURS.items():
        if "entrypoint" not in service:
            yield name, service["command"]
        if (test := service.get("healthcheck", {}).get("test", [""]))[1:2] == ["keywatch"]:
            yield name, test[2:]
    for line in [*instructions("CMD"), *instructions("HEALTHCHECK")]:
        words: list[str] = yaml.safe_load(line[line.index("[") :])
        yield "Containerfile", words[1:] if words[0] == "keywatch" else words
    # `exec feed keywatch …` is checked as a command of any document (test_documents.py).
    page = (ROOT / "docs/deploy.md").read_text("utf-8").replace("\\\n", " ")
    for line in re.findall(r"^docker compose run .* init (.*)$", page, re.MULTILINE):
        yield "docs/deploy.md", shlex.split(line, comments=True)


def refused(words: list[str]) -> str:
    """Why the command line refuses `words`; empty if it takes them."""
    try:
        _, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    except CycloptsError as e:
        return str(e) or type(e).__name__
    paths = bound.arguments.get("paths", ())
    return next((f"unknown option {path}" for path in paths if path.startswith("-")), "")


@pytest.mark.parametrize(("where", "words"), list(commands()))
def test_each_command_is_one_of_the_command_line(where: str, words: list[str]) -> None:
    assert not refused(words), (where, words)


@pytest.mark.parametrize(
    "line", ["watch --evry 5s", "lake start", "lake init --force", "triage --host 0.0.0.0"]
)
def test_what_the_command_line_does_not_know_is_found(line: str) -> None:
    assert refused(line.split())


def test_the_commands_of_dask_are_its_own_and_meet_at_one_address() -> None:
    for name in ("scheduler", "reviewer"):
        assert SERVICES[name]["entrypoint"] == ["dask"]
        what, *words = SERVICES[name]["command"]
        main = import_module(f"distributed.cli.dask_{what}").main
        found = main.make_context(what, list(words)).params
        if what == "scheduler":
            address = f"tcp://{name}:{found['port']}"
        else:
            assert found["scheduler"] == address
    settings = (DEPLOY / "keywatch.toml").read_text("utf-8")
    assert f'# scheduler = "{address}"' in settings


def test_the_settings_are_settings_and_name_mounted_secrets() -> None:
    settings = load_settings(DEPLOY / "keywatch.toml")
    storage = settings.storage
    named = [storage.key_hash_secret, storage.s3.access_key_id, storage.s3.secret_access_key]
    files = {ref.file for ref in named if ref is not None and ref.file is not None}
    assert len(files) == len(named)
    for name in runs_keywatch():
        service = OURS[name]
        assert {"source": "settings", "target": "/srv/keywatch/keywatch.toml"} in service["configs"]
        assert files | {Path(service["environment"]["PGPASSFILE"])} <= mounted_secrets(service)
    # Where the feed finds the logs, and where the pages are kept.
    places = {target for _, target in mounts(OURS["feed"])}
    assert {*settings.ingest.places, str(settings.report.folder)} <= places


def runs_keywatch() -> list[str]:
    """The services that open the lake: by the command line, in a flow or in a task of Dask."""
    elsewhere = {"worker", "reviewer"}
    return [name for name, one in OURS.items() if "entrypoint" not in one or name in elsewhere]


def mounted_secrets(service: dict[str, Any]) -> set[Path]:
    return {
        SECRETS / one if isinstance(one, str) else Path(one["target"])
        for one in service.get("secrets", [])
    }


def mounts(service: dict[str, Any]) -> list[tuple[str, str]]:
    """Source and target of each volume of a service; a variable's message has colons of its own."""
    volumes = [re.sub(r"\$\{(\w+)[^}]*\}", r"$\1", one) for one in service.get("volumes", [])]
    return [(one.split(":")[0], one.split(":")[1]) for one in volumes]


def test_each_variable_of_keywatch_is_a_setting() -> None:
    texts = [
        path.read_text("utf-8") for path in [DEPLOY / "compose.yaml", DEPLOY / "Containerfile"]
    ]
    named = {name for text in texts for name in re.findall(r"\bKEYWATCH_[A-Z0-9_]+", text)}
    of_compose = {"KEYWATCH_LAKE", "KEYWATCH_LOGS", "KEYWATCH_VERSION"}
    assert {name for name in named - of_compose if not is_setting(name)} == set()
    assert is_setting("KEYWATCH_STORAGE__S3__ENDPOINT")
    assert not is_setting("KEYWATCH_STORAGE__S3__HOST")


def is_setting(name: str) -> bool:
    model: Any = Settings
    for part in name.removeprefix("KEYWATCH_").lower().split("__"):
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return False
        if part not in model.model_fields:
            return False
        model = model.model_fields[part].annotation
    return True


def test_secrets_configs_volumes_and_services_that_are_used_are_declared_and_back() -> None:
    sources = {
        kind: {
            one if isinstance(one, str) else one["source"]
            for service in SERVICES.values()
            for one in service.get(kind, [])
        }
        for kind in ("secrets", "configs")
    }
    sources["volumes"] = {
        source for service in SERVICES.values() for source, _ in mounts(service) if source[0] != "$"
    }
    assert {kind: set(COMPOSE[kind]) for kind in sources} == sources
    needed = {name for service in SERVICES.values() for name in service.get("depends_on", {})}
    assert needed <= set(SERVICES)


def test_each_wait_is_for_something_that_comes() -> None:
    stays = {name for name, one in SERVICES.items() if "restart" in one}
    for name, service in SERVICES.items():
        for other, wait in service.get("depends_on", {}).items():
            ends = wait["condition"] == "service_completed_successfully"
            assert ends == (other not in stays), (name, other)
            if not ends:
                assert SERVICES[other]["healthcheck"]["test"], (name, other)


def test_every_port_is_of_this_machine_alone() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 4
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []
    on_the_host = [name for name, one in SERVICES.items() if one.get("network_mode") == "host"]
    assert on_the_host == ["triage"]  # which listens on 127.0.0.1 only (tests/explore)


def test_every_image_of_others_has_a_tag_with_a_version() -> None:
    images = [one["image"] for one in SERVICES.values()]
    images += [line.split(" AS ")[0] for line in instructions("FROM")]
    without = {one for one in images if not re.search(r":\d+\.\d+[\w.-]*$", one)}
    assert without == {one["image"] for one in OURS.values()} == {"keywatch:local"}


def test_no_password_is_in_the_files() -> None:
    for name, service in SERVICES.items():
        secret = [
            (key, value)
            for key, value in service.get("environment", {}).items()
            if re.search("PASS|SECRET|TOKEN|KEY", key) and not str(value).startswith(f"{SECRETS}/")
        ]
        assert secret == [], name
    ignored = ["deploy/secrets/pgpass", "deploy/.env"]
    if (ROOT / ".git").exists():
        shown = subprocess.run(
            ["git", "check-ignore", *ignored], cwd=ROOT, check=True, capture_output=True, text=True
        )
        assert shown.stdout.split() == ignored
    context = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    admitted = {line[1:] for line in context if line.startswith("!")}
    assert "*" in context
    assert admitted.isdisjoint({"deploy", "deploy/secrets", "deploy/.env", "lake", "tests"})


def test_each_secret_is_written_by_the_script() -> None:
    script = (DEPLOY / "secrets.sh").read_text("utf-8")
    written = {f"secrets/{name}" for name in re.findall(r">([a-z_]+)$", script, re.MULTILINE)}
    assert {one["file"] for one in COMPOSE["secrets"].values()} == written


def test_containers_of_keywatch_are_no_root_and_write_to_volumes_only() -> None:
    assert instructions("USER")[-1] == "10001:10001"
    for service in OURS.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
    kept = yaml.safe_load(instructions("VOLUME")[0])
    assert set(kept) <= {target for _, target in mounts(OURS["feed"])}


def test_what_the_containerfile_copies_exists_and_is_in_the_context() -> None:
    context = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    admitted = {line[1:] for line in context if line.startswith("!")}
    copied = {
        word
        for line in instructions("COPY")
        if not line.startswith("--from")
        for word in line.split()[:-1]
    }
    assert [path for path in copied if not (ROOT / path).exists()] == []
    assert copied == admitted


def test_the_image_has_versions_of_the_lock_and_no_tools_of_developers() -> None:
    everything = locked()
    for name in ("requirements.lock", "build.lock"):
        entries = locked(DEPLOY / name)
        assert entries
        assert {one: found for one, found in entries.items() if everything.get(one) != found} == {}
    product = locked(DEPLOY / "requirements.lock")
    assert {"duckdb-extension-postgres-scanner", "prefect", "starlette"} <= set(product)
    assert set(product).isdisjoint({"hatchling", "pytest", "ruff", "mypy", "moto", "marimo", "pip"})


def test_the_image_is_installed_from_wheels_by_their_hashes_alone() -> None:
    script = (DEPLOY / "install.sh").read_text("utf-8").replace("\\\n", "")
    installs = re.findall(r"\$pip .*?\binstall .*", script)
    of_a_lock = [one for one in installs if ".lock" in one]
    assert len(of_a_lock) == 2
    assert all("--no-deps --require-hashes --only-binary :all:" in one for one in of_a_lock)
    assert all("--no-index --no-deps" in one for one in set(installs) - set(of_a_lock))
