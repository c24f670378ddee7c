"""The commands; thin: each calls one function of `keywatch.pipeline` and shows what came of it."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, CycloptsError, Parameter

from keywatch import __version__
from keywatch.errors import KeywatchError, LakeError, UsageError
from keywatch.hints import to_install, unknown
from keywatch.model import ACTIONS, Family, KeyOrder, OwnerAnswer, Review, Verdict, Window
from keywatch.notices import notices_to, steps_to

if TYPE_CHECKING:
    from keywatch.detect.detectors import Detector
    from keywatch.settings import Settings

EXIT_FINDINGS = 1
EXIT_USAGE = 2
_DEMO_KEYS = 200
_DEMO_WEEKS = 9
_DEMO_SEED = 1

Format = Literal["text", "json", "html", "ocsf"]
CaseFormat = Literal["text", "json"]
Finding = Literal["revoke", "rotate", "investigate"]


def _examples(*lines: str) -> str:
    """The end of a command's help: command lines as a user gives them."""
    return "Examples:\n\n" + "\n".join(f"    {line}" for line in lines)


app = App(
    name="keywatch",
    version=__version__,
    help="Finds API keys that look stolen, and explains why and what to do.",
    help_epilogue=_examples(
        "keywatch demo     # a sample with stolen keys, from log to review",
        "keywatch init     # the settings for your own log",
        "keywatch review --week 2026-W40",
    ),
)
keys_app = App(
    name="keys",
    help="Import the key inventory and leaked keys, and list keys.",
    help_epilogue=_examples("keywatch keys import keys.jsonl", "keywatch keys list"),
)
detectors_app = App(
    name="detectors",
    help="List, check and test the detectors.",
    help_epilogue=_examples("keywatch detectors list"),
)
sources_app = App(
    name="sources",
    help="List, check and add log formats and API catalogues.",
    help_epilogue=_examples("keywatch sources list", "keywatch sources new app.log --vendor shop"),
)
lake_app = App(
    name="lake",
    help="Create, show, maintain and repair the lake.",
    help_epilogue=_examples("keywatch lake status", "keywatch lake maintain"),
)
alerts_app = App(
    name="alerts",
    help="List open alerts, assign them and comment on them.",
    help_epilogue=_examples("keywatch alerts list"),
)
answers_app = App(
    name="answers",
    help="Take the answers of owners of keys.",
    help_epilogue=_examples("keywatch answers serve"),
)
app.command(keys_app)
app.command(alerts_app)
app.command(lake_app)
app.command(detectors_app)
app.command(sources_app)
app.command(answers_app)


_DEFAULT_LAKE = Path("lake")


@Parameter(name="*")
@dataclass(frozen=True)
class Common:
    """What every command takes."""

    lake: Annotated[Path, Parameter(env_var="KEYWATCH_LAKE")] = _DEFAULT_LAKE
    "Folder of the lake."
    config: Path | None = None
    "Settings file (TOML); the default is keywatch.toml in the current folder, if present."

    def settings(self) -> Settings:
        """The settings these options name."""
        return _settings(self.config)

    def lake_to_name(self) -> Path | None:
        """The lake, where a command that asks it has to name it."""
        return None if self.lake == _DEFAULT_LAKE else self.lake


@Parameter(name="*")
@dataclass(frozen=True)
class WindowOptions:
    """Which window a command is about."""

    week: str | None = None
    "ISO week such as 2026-W40."
    from_: Annotated[date | None, Parameter(name="--from")] = None
    "First day of the window (UTC)."
    to: date | None = None
    "Day after the last day of the window (UTC)."

    def chosen(self) -> Window | None:
        """The window these options name; None where they name none.

        Raises:
            UsageError: they name two, half of one, or one that can't be.
        """
        from keywatch.lake.weeks import days_window, week_window

        if self.week is not None:
            if self.from_ or self.to:
                raise UsageError("use either --week, or --from and --to")
            return week_window(self.week)
        if self.from_ is None and self.to is None:
            return None
        if self.from_ is None or self.to is None:
            raise UsageError("--from and --to must be given together")
        return days_window(self.from_, self.to)


@app.command(
    name="--completion",
    help_epilogue=_examples(
        "keywatch --completion bash >~/.keywatch-completion  # source it in ~/.bashrc",
        "keywatch --completion zsh >~/.zfunc/_keywatch",
        "keywatch --completion fish >~/.config/fish/completions/keywatch.fish",
    ),
)
def completion(shell: Literal["bash", "zsh", "fish"], /) -> None:
    """Print a script that completes commands, options and their values in a shell.

    The script has all names in it and starts no Keywatch. Print it again after an upgrade.

    Parameters
    ----------
    shell
        The shell.
    """
    print(app.generate_completion(shell=shell), end="")


def _settings(config: Path | None) -> Settings:
    # To check settings is half of what the command line has to import.
    from keywatch.settings import load_settings

    return load_settings(config)


_DEFAULTS = Common()
_NO_WINDOW = WindowOptions()

Paths = Annotated[str, Parameter(allow_leading_hyphen=True)]
ListFile = Annotated[Path, Parameter(allow_leading_hyphen=True)]
"""Allowed to begin with a hyphen for the sake of ``-``; `_paths` refuses the others."""


def _paths(named: Sequence[str]) -> list[str]:
    """The paths of a command line, an option that there is not among them refused."""
    for path in named:
        if path.startswith("-") and path != "-":
            raise UsageError(f"Unknown option: {path!r}. For a file of that name, use ./{path}")
    return list(named)


@app.command(
    help_epilogue=_examples(
        "keywatch demo",
        "keywatch demo --html review.html --keep demo    # keep the log and the lake",
    )
)
def demo(
    *,
    keys: int = _DEMO_KEYS,
    weeks: int = _DEMO_WEEKS,
    seed: int = _DEMO_SEED,
    keep: Path | None = None,
    html: Path | None = None,
    config: Path | None = None,
) -> None:
    """Generate a sample log with stolen keys, review its last week, and compare with the truth.

    Parameters
    ----------
    keys
        Number of keys in the sample.
    weeks
        Number of weeks in the log, including the reviewed one.
    seed
        Seed of the random generator; the same seed gives the same sample.
    keep
        Keep the sample and its lake in this folder; by default they are deleted.
    html
        Also write the review to this file, as an HTML page with charts.
    config
        Settings file (TOML).
    """
    from keywatch import pipeline, sample
    from keywatch.report import render_demo_verdict, render_review
    from keywatch.text.phrases import count

    if not sample.can_be_made(keys, weeks, seed):
        raise UsageError(
            f"--keys {keys} --weeks {weeks} --seed {seed}: a sample has {sample.LEAST_KEYS} keys "
            f"or more, {sample.LEAST_WEEKS} to {sample.MOST_WEEKS} weeks, and a seed of 0 or more"
        )
    settings = _settings(config)
    # The sample has a lake of its own, also where the settings are a team's.
    own = settings.storage.model_copy(
        update=dict.fromkeys(("catalog", "data_path", "key_hash_secret", "encrypted"))
    )
    settings = settings.model_copy(update={"storage": own})
    with _folder(keep) as folder:
        _keep_out_of_lake(html, folder / "lake", settings)
        world = sample.generate(folder / "sample", keys=keys, weeks=weeks, seed=seed)
        print(
            f"Generated a log with {count(world.events, 'request')} by {count(keys, 'key')} over "
            f"{count(weeks, 'week')}."
        )
        lake = folder / "lake"
        _load(lake, [str(folder / "sample" / "logs")], settings)
        pipeline.import_keys(lake, world.inventory, settings)
        # The sample's own clock: that its log ended long ago is no news.
        now = datetime.combine(world.end, time())
        if html is None:
            with _steps():
                answer = pipeline.review(lake, None, settings, whole=False, now=now)
        else:
            answer = _write_page(lake, None, settings, html, now)
        kept = lake if keep else None
        print(render_review(answer, color=_color(), width=_width(), lake=kept))
        truth = [json.loads(line) for line in world.truth.read_text("utf-8").splitlines()]
        print(render_demo_verdict(answer, truth))
        closer = f"case KEY --lake {shlex.quote(str(lake))}" if keep else "demo --keep FOLDER"
        print(f"\nFor details: keywatch {closer}\nFor your own log: keywatch init")


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="keywatch-") as name:
            yield Path(name)
    elif keep.exists() and any(keep.iterdir()):
        raise UsageError(f"{keep}: the folder is not empty; choose a new one")
    else:
        keep.mkdir(parents=True, exist_ok=True, mode=0o700)
        yield keep


@app.command(
    help_epilogue=_examples(
        "keywatch init",
        "keywatch init --place /var/log/api --channel 'slack env:SLACK_WEBHOOK'",
        "keywatch init --place logs --channel 'file alerts.jsonl' --schedule cron --yes",
    )
)
def init(
    *,
    place: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    source: str | None = None,
    geoip: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    channel: str | None = None,
    schedule: Literal["cron", "systemd", "none"] | None = None,
    lake: Annotated[Path | None, Parameter(env_var="KEYWATCH_LAKE")] = None,
    config: Path = Path("keywatch.toml"),
    yes: Annotated[bool, Parameter(negative=())] = False,
    force: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Write the settings file in a few questions, and try everything that is in it.

    What is given as an option is not asked for. If standard input is not a terminal, nothing is
    asked, and defaults are used. A channel gets a test message. Exit 2 or 3 when something failed;
    then nothing is written without --yes.

    Parameters
    ----------
    place
        Where the log is: a file, a folder, a glob or s3://bucket/prefix; may be repeated.
    source
        Format of the log; detected from a sample by default.
    geoip
        bundled, or your own database (.mmdb); may be repeated. The default is bundled.
    channel
        none; 'slack env:NAME', 'pagerduty env:NAME', 'webhook URL env:NAME', 'mail HOST[:PORT] FROM
        TO env:NAME' or 'file PATH'. A secret is named: env:NAME is a variable, file:PATH a file.
    schedule
        The commands to print for a schedule: cron, systemd or none.
    lake
        Folder of the lake.
    config
        The settings file to write.
    yes
        Ask nothing, and write the file even if something in it failed.
    force
        Replace the settings file if it exists.
    """
    from keywatch.setup import Given, set_up

    given = Given(place, source, geoip, channel, schedule, lake)
    ask = input if sys.stdin.isatty() else None
    set_up(given, config, _tell, ask, accept=yes, replace=force)


@app.command(
    help_epilogue=_examples(
        "keywatch ingest /var/log/api",
        "keywatch ingest 'logs/*.jsonl.gz' s3://bucket/logs --lake lake",
        "keywatch ingest app.log --map time=@timestamp --map key_id=client",
    )
)
def ingest(
    *paths: Paths,
    source: str | None = None,
    mapping: Annotated[list[str] | None, Parameter(name="--map")] = None,
    engine: str | None = None,
    common: Common = _DEFAULTS,
) -> None:
    """Load logs into the lake; a new lake is created if there is none.

    Parameters
    ----------
    paths
        Files, folders, globs, s3://bucket/prefix, or - for standard input; may be compressed.
    source
        Format of the log; detected from the content by default.
    mapping
        COLUMN=FIELD, once per column, for a log in no known format: time=@timestamp,
        address=client_ip, path=uri, key_id=client. keywatch sources new saves a mapping.
    engine
        What reads the lines: local; dask, processes of this machine; or dask:tcp://HOST:PORT, a
        Dask cluster that reaches the files. The default is [engine] in the settings.
    """
    settings = common.settings()
    if engine is not None:
        settings = settings.on_engine(engine)
    named = _paths(paths) or list(settings.ingest.places)
    if not named:
        raise UsageError("no PATH given: name a file, a folder, a glob or s3://…")
    _load(common.lake, named, settings, source, mapping or [])


def _load(
    lake: Path,
    paths: list[str],
    settings: Settings,
    source: str | None = None,
    mapping: Sequence[str] = (),
) -> None:
    from keywatch import pipeline
    from keywatch.report import render_load

    with _progress() as (on_size, on_bytes):
        report = pipeline.ingest(
            lake,
            paths,
            settings,
            source=source,
            mapping=mapping,
            on_size=on_size,
            on_bytes=on_bytes,
        )
    print(render_load(report), flush=True)


@keys_app.command(
    name="import",
    help_epilogue=_examples(
        "keywatch keys import keys.jsonl",
        "keywatch keys import keys.csv --map key_id=id --map owner=team",
    ),
)
def keys_import(
    file: ListFile,
    *,
    mapping: Annotated[list[str] | None, Parameter(name="--map")] = None,
    common: Common = _DEFAULTS,
) -> None:
    """Import a key inventory; unchanged keys are skipped.

    Parameters
    ----------
    file
        The inventory, or - for standard input: as keywatch keys schema shows, or a vendor's list,
        which is known by its content (keywatch sources list).
    mapping
        Which field is which column, such as key_id=id, for a list of no known form.
    """
    from keywatch import pipeline
    from keywatch.text.phrases import count

    _paths([str(file)])
    read, changed = pipeline.import_keys(common.lake, file, common.settings(), mapping or ())
    print(f"{count(read, 'key')} read, {changed:,} new or changed")


@keys_app.command(name="schema", help_epilogue=_examples("keywatch keys schema"))
def keys_schema() -> None:
    """Print the JSON Schema of a key in an inventory, for JSON Lines, JSON and CSV."""
    from keywatch.load.inventory import inventory_schema
    from keywatch.text.document import json_text

    print(json_text(inventory_schema()), end="")


@keys_app.command(
    name="list",
    help_epilogue=_examples(
        "keywatch keys list", "keywatch keys list --sort last-use --format json"
    ),
)
def keys_list(
    *, format: CaseFormat = "text", sort: KeyOrder = "rotation", common: Common = _DEFAULTS
) -> None:
    """List all keys: last use, places, days to rotation, scopes in use, state.

    Parameters
    ----------
    format
        text or json.
    sort
        What the keys are sorted by: rotation (overdue first), key, name, owner, created, last-use,
        requests or state.
    """
    from keywatch import pipeline
    from keywatch.report.key_list import key_document, render_keys
    from keywatch.text.document import json_text

    keys = pipeline.list_keys(common.lake, common.settings(), sort)
    if format == "json":
        _write(json_text(key_document(keys)), None)
    else:
        _write(render_keys(keys), None)


@keys_app.command(
    name="leaked",
    help_epilogue=_examples(
        "keywatch keys leaked leaks.json",
        "keywatch keys leaked scan.csv --map secret=match --map location=file",
    ),
)
def keys_leaked(
    file: ListFile,
    *,
    mapping: Annotated[list[str] | None, Parameter(name="--map")] = None,
    common: Common = _DEFAULTS,
) -> None:
    """Import a secret scanner's report: a leaked key that is in force is to be revoked.

    Secrets are stored as keyed hashes and masked forms only. Reports of GitHub secret scanning,
    GitGuardian (ggshield), gitleaks and TruffleHog are known by their content.

    Parameters
    ----------
    file
        The report, or - for standard input.
    mapping
        Which field is which column (secret, key_id, found_at, location), for other reports.
    """
    from keywatch import pipeline
    from keywatch.report.key_list import render_leaks

    _paths([str(file)])
    report = pipeline.import_leaks(common.lake, file, common.settings(), mapping or ())
    print(render_leaks(report))


@keys_app.command(
    name="policy",
    help_epilogue=_examples(
        "keywatch keys policy key_0700353",
        "keywatch keys policy key_0700353 --days 30 --format json",
    ),
)
def keys_policy(
    key: str, *, days: int = 90, format: CaseFormat = "text", common: Common = _DEFAULTS
) -> None:
    """Show the least that a key needs: its scopes or policy, and the addresses it is used from.

    Suspicious use grants nothing. The policy and the address list are suggestions: nothing is
    changed.

    Parameters
    ----------
    key
        Id, masked form or name of the key.
    days
        Days of use up to the end of the log.
    format
        text, or json (policy is the policy alone).
    """
    from keywatch import pipeline
    from keywatch.report.least_privilege import least_privilege_document, render_least_privilege
    from keywatch.text.document import json_text

    found = pipeline.least_privilege_of(common.lake, key, days, common.settings())
    if format == "json":
        _write(json_text(least_privilege_document(found)), None)
    else:
        _write(render_least_privilege(found, color=_color(), width=_width()), None)


@app.command(
    help_epilogue=_examples(
        "keywatch review",
        "keywatch review --week 2026-W40 --format html --output review.html",
        "keywatch review --missed --fail-on revoke    # every week, from cron",
    )
)
def review(
    *,
    format: Format = "text",
    output: Path | None = None,
    networks: bool = False,
    missed: bool = False,
    fail_on: Finding | None = None,
    schema: bool = False,
    engine: str | None = None,
    within: WindowOptions = _NO_WINDOW,
    common: Common = _DEFAULTS,
) -> None:
    """Score every key in a window and report which look stolen, why, and what to do.

    The default window is the last full week in the lake.

    Parameters
    ----------
    format
        text, json (see --schema), html (a self-contained page with charts), or ocsf (one Detection
        Finding per line for each case that needs an action).
    output
        Write to this file instead of the terminal; the file is replaced as a whole.
    networks
        List only the networks that are new to a key, with or without an alert.
    missed
        Review each past week that has no review yet, write its page to the report folder in the
        settings, and send messages that are due: for cron.
    fail_on
        Exit 1 when a case has this action or a more urgent one (revoke, rotate, investigate, in
        that order; investigate means any finding). Key hygiene does not count as a finding.
    schema
        Print the JSON Schema of --format json and exit.
    engine
        local; dask, on processes of this machine; or dask:tcp://HOST:PORT, on a Dask cluster. The
        default is [engine] in the settings. The findings are the same.
    """
    from keywatch import pipeline
    from keywatch.report import render_new_networks, render_review
    from keywatch.text.document import json_text, review_schema, review_text

    if output is not None:
        _keep_out_of_lake(output, common.lake, common.settings())
    if schema:
        _write(json_text(review_schema()), output)
        return
    settings = common.settings()
    if engine is not None:
        settings = settings.on_engine(engine)
    window = within.chosen()
    if networks and format != "text":
        raise UsageError(
            f"--networks works with text only; --format {format} always includes the new networks"
        )
    if missed:
        if window or output or networks or format != "text":
            raise UsageError(
                "--missed chooses the weeks and pages itself: use it without a window, --output, "
                "--networks or --format"
            )
        _review_missed(common.lake, settings, fail_on)
        return
    if format == "html":
        answer = _write_page(common.lake, window, settings, output)
    else:
        with _steps():
            answer = pipeline.review(common.lake, window, settings, whole=format == "json")
    if format == "json":
        _write(review_text(answer), output)
    elif format == "ocsf":
        from keywatch.report.ocsf import ocsf_lines

        _write(ocsf_lines(answer), output)
    elif format == "text":
        color = output is None and _color()
        # A file may be read where the lake has another path.
        lake = common.lake_to_name() if output is None else None
        render = render_new_networks if networks else render_review
        _write(render(answer, color=color, width=_width(), lake=lake), output)
    if fail_on is not None and _worst(answer, fail_on):
        raise SystemExit(EXIT_FINDINGS)


def _review_missed(lake: Path, settings: Settings, fail_on: Finding | None) -> None:
    from keywatch import pipeline
    from keywatch.text.phrases import window_label

    found = False
    pages = []
    for window in pipeline.missed_weeks(lake, settings):
        with _steps():
            answer, page = pipeline.write_report(lake, window, settings)
        print(f"{window_label(window)}: {page}", flush=True)
        pages.append(page)
        found = found or (fail_on is not None and _worst(answer, fail_on))
    if not pages:
        print("All past weeks have been reviewed.", flush=True)
    if settings.deliver.channels:
        _deliver(lake, settings, reports=pages)
    if found:
        raise SystemExit(EXIT_FINDINGS)


def _write_page(
    lake: Path,
    window: Window | None,
    settings: Settings,
    output: Path | None,
    now: datetime | None = None,
) -> Review:
    """Review, and write it as a page."""
    from keywatch import pipeline
    from keywatch.report.html import render_html

    with _steps():
        answer, details = pipeline.review_in_detail(lake, window, settings, now=now)
    _write(render_html(answer, details), output)
    return answer


def _worst(answer: Review, fail_on: Finding) -> bool:
    urgent = ACTIONS[: ACTIONS.index(fail_on) + 1]
    return any(case.action in urgent for case in answer.cases)


@app.command(
    help_epilogue=_examples(
        "keywatch case key_0700353", "keywatch case key_0700353 --week 2026-W40 --format json"
    )
)
def case(
    key: str,
    *,
    format: CaseFormat = "text",
    within: WindowOptions = _NO_WINDOW,
    common: Common = _DEFAULTS,
) -> None:
    """Explain why a key is suspected or not, with its typical and its actual use.

    The default window is the last full week in the lake.

    Parameters
    ----------
    key
        Id, masked form or name of the key.
    format
        text, or json (the case as in the review's JSON).
    """
    from keywatch import pipeline
    from keywatch.report import render_case
    from keywatch.text.document import case_document, json_text

    settings = common.settings()
    window = within.chosen()
    with _steps():
        answer, found, details = pipeline.case_in_detail(common.lake, key, window, settings)
    if found is None:
        print(pipeline.explain_absence(common.lake, key, answer.window, settings))
    elif format == "json":
        _write(json_text(case_document(found)), None)
    else:
        color, width, lake = _color(), _width(), common.lake_to_name()
        text = render_case(found, answer, details, color=color, width=width, lake=lake)
        _write(text, None)


@app.command(
    help_epilogue=_examples("keywatch power", "keywatch power key_0700353 --week 2026-W40")
)
def power(
    key: str | None = None,
    *,
    within: WindowOptions = _NO_WINDOW,
    common: Common = _DEFAULTS,
) -> None:
    """Estimate which thefts of a key would be caught, and after how many requests.

    The default window is the last full week in the lake.

    Parameters
    ----------
    key
        Id, masked form or name of the key; by default all keys in use.
    """
    from keywatch import pipeline
    from keywatch.report import render_power

    window = within.chosen()
    with _steps():
        powers = pipeline.power_of_keys(common.lake, window, common.settings(), key)
    print(render_power(powers, width=_width()), end="")


@app.command(
    help_epilogue=_examples(
        "keywatch backtest --from 2026-08-03 --to 2026-10-05",
        "keywatch backtest --from 2026-08-03 --to 2026-10-05 --against new.toml",
    )
)
def backtest(
    *,
    from_: Annotated[date, Parameter(name="--from")],
    to: date,
    against: Path | None = None,
    detectors: Path | None = None,
    format: CaseFormat = "text",
    common: Common = _DEFAULTS,
) -> None:
    """List the alerts of past weekly reviews, and what other settings or detectors would change.

    Parameters
    ----------
    from_
        First day of the first week (UTC).
    to
        Day after the last day of the last week (UTC).
    against
        Another settings file (TOML) to compare with.
    detectors
        Folder of a detector, or of several, to compare with: each is added, or replaces the
        detector of its id, and counts as if it were stable.
    format
        text or json.
    """
    from keywatch import pipeline
    from keywatch.detect.detectors import detectors_under
    from keywatch.lake.weeks import days_window
    from keywatch.report import render_rehearsal
    from keywatch.text.document import json_text, rehearsal_document

    span = days_window(from_, to)
    others = None if against is None else _settings(against)
    tried = [] if detectors is None else detectors_under(detectors)
    with _steps():
        found = pipeline.rehearse(common.lake, span, common.settings(), others, tried)
    if format == "json":
        _write(json_text(rehearsal_document(found)), None)
    else:
        _write(render_rehearsal(found, width=_width()), None)


@alerts_app.command(
    name="list",
    help_epilogue=_examples("keywatch alerts list", "keywatch alerts list --format json"),
)
def alerts_list(*, format: CaseFormat = "text", common: Common = _DEFAULTS) -> None:
    """List the alerts that are not closed, and how fast and how rightly alerts are answered.

    Parameters
    ----------
    format
        text or json.
    """
    from keywatch import pipeline
    from keywatch.report.alert_list import render_alerts
    from keywatch.text.document import json_text, response_document

    found = pipeline.alert_response(common.lake, common.settings())
    if format == "json":
        _write(json_text(response_document(found)), None)
    else:
        _write(render_alerts(found, color=_color(), width=_width()), None)


@alerts_app.command(
    name="assign", help_epilogue=_examples("keywatch alerts assign key_0700353 ana --by ben")
)
def alerts_assign(alert: str, to: str = "", *, by: str, common: Common = _DEFAULTS) -> None:
    """Say who works on an open alert.

    Parameters
    ----------
    alert
        Id of the alert, or id, masked form or name of its key.
    to
        Who works on it; without it, the assignment ends.
    by
        Your name.
    """
    from keywatch import pipeline
    from keywatch.text.safe_text import printable

    found = pipeline.note_alert(common.lake, alert, common.settings(), "assigned", to, by=by)
    whom = f"assigned to {printable(to)}" if to.strip() else "not assigned any more"
    print(f"{found.alert_id} is {whom}.")


@alerts_app.command(
    name="comment",
    help_epilogue=_examples("keywatch alerts comment key_0700353 'asked the owner' --by ana"),
)
def alerts_comment(alert: str, text: str, *, by: str, common: Common = _DEFAULTS) -> None:
    """Comment on an open alert; a comment closes nothing.

    Parameters
    ----------
    alert
        Id of the alert, or id, masked form or name of its key.
    text
        The comment.
    by
        Your name.
    """
    from keywatch import pipeline

    found = pipeline.note_alert(common.lake, alert, common.settings(), "comment", text, by=by)
    print(f"The comment on {found.alert_id} was stored.")


@app.command(
    help_epilogue=_examples(
        "keywatch approve key_0700353 --by ana --because 'confirmed with the owner'",
        "keywatch approve key_0700353 --by ana --because 'our new region' --decline",
    )
)
def approve(
    alert: str,
    *,
    by: str,
    because: str,
    decline: Annotated[bool, Parameter(negative=())] = False,
    common: Common = _DEFAULTS,
) -> None:
    """Approve the revocation of a key, for the channels in approved_channels.

    The next keywatch deliver sends the alert to them. Prefect's flow approve does the same.

    Parameters
    ----------
    alert
        Id of the alert, or id, masked form or name of its key.
    by
        Your name.
    because
        Reason for the decision.
    decline
        Decline it: each key of the alert gets the verdict benign.
    """
    from keywatch import pipeline
    from keywatch.text.safe_text import printable

    done = pipeline.decide_revocation(
        common.lake, alert, common.settings(), approved=not decline, by=by, because=because
    )
    print("\n".join(printable(line) for line in done))


@app.command(
    help_epilogue=_examples(
        "keywatch verdict key_0700353 benign --by ana --because 'tried by hand'",
        "keywatch verdict key_0700353 expected --by ana --because 'new host'",
        "keywatch verdict key_0700353 undo --by ana --because 'the wrong key'",
    )
)
def verdict(
    key: str,
    verdict: Literal[Verdict, "undo"],
    *,
    by: str,
    because: str,
    until: date | None = None,
    origin: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    family: Annotated[tuple[Family, ...], Parameter(negative=())] = (),
    within: WindowOptions = _NO_WINDOW,
    common: Common = _DEFAULTS,
) -> None:
    """Record a verdict on a key's activity; later reviews learn from it.

    A verdict may be about an alert or about any other use, such as a theft that no review found.
    The default window is that of the key's latest alert, without an alert the last reviewed week,
    and for undo that of the latest verdict.

    Parameters
    ----------
    key
        Id, masked form or name of the key.
    verdict
        benign: the owner's use, this once. expected: the owner's use, up to a date. compromised: a
        theft. undo: withdraws the latest verdict on the key; the history keeps all of them.
    by
        Your name.
    because
        Reason for the verdict.
    until
        Last day (UTC) on which the change is expected: at most 180 days from today; the default is
        90 days.
    origin
        Origin the verdict is about: an address or prefix (each stands for its /24 or /48), or a
        network such as AS64496; may be repeated. The default is the flagged visits or, if there are
        none, visits from networks new to the key. A whole network is covered only if named here.
    family
        Evidence that is expected from there: origin, endpoints, volume, client, policy or all; may
        be repeated. The default is origin and client if the origin was unusual, otherwise the
        families that were, except policy.
    """
    from keywatch import pipeline
    from keywatch.report import render_verdict

    settings, window = common.settings(), within.chosen()
    if verdict == "undo":
        if until is not None or family:
            raise UsageError(f"{'--until' if until else '--family'} can be used with expected only")
        if origin:
            raise UsageError(
                "--origin can't be used with undo, which withdraws the whole latest verdict"
            )
        report = pipeline.undo_verdict(
            common.lake, key, settings, by=by, because=because, window=window
        )
    else:
        report = pipeline.give_verdict(
            common.lake,
            key,
            verdict,
            settings,
            by=by,
            because=because,
            until=until,
            window=window,
            origins=origin,
            families=family,
        )
    print(render_verdict(report))


@app.command(
    help_epilogue=_examples(
        "keywatch answer CODE yes --until 2026-12-31", "keywatch answer - not-mine"
    )
)
def answer(
    code: Annotated[str, Parameter(allow_leading_hyphen=True)],
    answer: Literal["yes", "no", "not-mine"],
    *,
    until: date | None = None,
    common: Common = _DEFAULTS,
) -> None:
    """Answer a question to the owner of a key: was this you? For scripts; owners open a link.

    Parameters
    ----------
    code
        The code in the question's message, or - to read it from standard input.
    answer
        yes: the owner's use, this once or with --until. no: a theft. not-mine: another owner's key.
    until
        Last day (UTC) on which the use is expected: at most 180 days from today.
    """
    from keywatch import pipeline
    from keywatch.report import render_answer

    said = sys.stdin.readline().strip() if code == "-" else code
    settings = common.settings()
    given: OwnerAnswer = "not_mine" if answer == "not-mine" else answer
    print(
        render_answer(
            pipeline.answer_question(common.lake, said, given, settings, way="command", until=until)
        )
    )


@answers_app.command(
    name="serve", help_epilogue=_examples("keywatch answers serve --config keywatch.toml")
)
def answers_serve(*, common: Common = _DEFAULTS) -> None:
    """Take answers of owners at the address in the settings ([owners] bind), until interrupted."""
    try:
        from keywatch.explore.answers import serve
    except ModuleNotFoundError as e:
        raise UsageError(f"this needs {e.name}: {to_install('triage')}") from e

    serve(common.lake, common.settings(), _tell)


@app.command(
    help_epilogue=_examples(
        "keywatch triage --open", "keywatch triage --allow-verdicts --by ana --port 8080"
    )
)
def triage(
    *,
    port: int = 0,
    allow_verdicts: bool = False,
    by: str | None = None,
    open_: Annotated[bool, Parameter(name="--open")] = False,
    common: Common = _DEFAULTS,
) -> None:
    """Serve a local page of the open cases, to filter, investigate and give verdicts.

    Parameters
    ----------
    port
        Port on 127.0.0.1; any free port by default.
    allow_verdicts
        Allow verdicts to be given and withdrawn; by default the page is read-only.
    by
        Name recorded with the verdicts.
    open_
        Open the page in a browser.
    """
    if allow_verdicts and not (by or "").strip():
        raise UsageError("--allow-verdicts needs --by NAME, which is recorded with each verdict")
    try:
        from keywatch.explore.desk import serve
    except ModuleNotFoundError as e:
        raise UsageError(f"the triage page needs {e.name}: {to_install('triage')}") from e

    def ready(address: str) -> None:
        print(f"Triage page, reachable from this machine only: {address}", flush=True)
        if open_:
            import webbrowser

            webbrowser.open(address)

    serve(common.lake, common.settings(), port, by if allow_verdicts else None, ready)


@app.command(help_epilogue=_examples("keywatch mcp --lake /srv/keywatch/lake"))
def mcp(*, common: Common = _DEFAULTS) -> None:
    """Serve the lake read-only to an AI assistant, by the Model Context Protocol on stdio."""
    try:
        from keywatch.explore import assistant
    except ModuleNotFoundError as e:
        raise UsageError(f"this needs {e.name}: {to_install('mcp')}") from e

    assistant.serve(common.lake, common.settings())


@app.command(
    help_epilogue=_examples(
        "keywatch watch             # every few minutes, from cron",
        "keywatch watch --every 1s  # one process that stays",
    )
)
def watch(
    *paths: Paths,
    every: timedelta | None = None,
    send: Annotated[bool, Parameter(name="--deliver")] = True,
    fail_on: Finding | None = None,
    common: Common = _DEFAULTS,
) -> None:
    """Load new log lines, score the affected weeks, and send alerts; run it every few minutes.

    With --every it stays, until SIGTERM or SIGINT: a step that has begun is finished, and it exits
    with 0. What fails is reported and tried again.

    Parameters
    ----------
    paths
        As for ingest; by default the places in the settings.
    every
        Stay, and look for new lines after each pause of this length, such as 10s or 2m.
    send
        Send messages that are due afterwards.
    fail_on
        Exit 1 when an alert with this action or a more urgent one was opened or raised (revoke,
        rotate, investigate, in that order; investigate means any alert). Key hygiene is no alert.
    """
    from keywatch.feed import Feed, stand

    feed = Feed(common.lake, common.settings(), _paths(paths), _tell, send=send)
    if every is not None:
        if fail_on is not None:
            raise UsageError("--fail-on is for a single run: use it without --every")
        stand(feed, every, _say)
        return
    feed.run()
    urgent = () if fail_on is None else ACTIONS[: ACTIONS.index(fail_on) + 1]
    if any(each.what != "resolve" and each.alert.action in urgent for each in feed.changes):
        raise SystemExit(EXIT_FINDINGS)


@app.command(
    help_epilogue=_examples(
        "keywatch deliver", "keywatch deliver --dry-run", "keywatch deliver --test chat"
    )
)
def deliver(
    *,
    dry_run: bool = False,
    retry_dead: bool = False,
    report: Path | None = None,
    test: str | None = None,
    schema: bool = False,
    common: Common = _DEFAULTS,
) -> None:
    """Send messages that are due to the channels in the settings; failures are retried.

    Parameters
    ----------
    dry_run
        Show what would be sent, without sending or storing anything.
    retry_dead
        Retry messages that had been given up.
    report
        Finished report to send once to each mail channel.
    test
        Send one test message to this channel now, and nothing else. Exit 3 when it did not arrive.
    schema
        Print the JSON Schema of messages to webhooks and files, and exit.
    """
    from keywatch import pipeline
    from keywatch.deliver import message_schema
    from keywatch.text.document import json_text

    if schema:
        _write(json_text(message_schema()), None)
        return
    settings = common.settings()
    if test is not None:
        if dry_run or retry_dead or report is not None:
            raise UsageError("--test sends nothing else: use it without other options")
        print(pipeline.try_channel(common.lake, test, settings))
        return
    if not settings.deliver.channels:
        _say("no channel is configured: add [deliver.channels.NAME] to keywatch.toml")
    if dry_run:
        due = pipeline.preview_deliveries(common.lake, settings)
        for name, texts in due.items():
            print(f"{name}: {len(texts):,} due\n")
            print("\n".join(texts))
        if not due:
            print("No messages are due.")
        return
    _deliver(common.lake, settings, again=retry_dead, reports=[report] if report else [])


def _deliver(
    lake: Path, settings: Settings, *, again: bool = False, reports: Sequence[Path] = ()
) -> None:
    from keywatch import pipeline
    from keywatch.feed import tell_delivery

    tell_delivery(pipeline.deliver_due(lake, settings, again=again, reports=reports), _tell)


@lake_app.command(name="repair", help_epilogue=_examples("keywatch lake repair"))
def lake_repair(*, new_secret: bool = False, common: Common = _DEFAULTS) -> None:
    """Repair a damaged lake as far as possible, and list what has to be loaded or done again.

    Nothing is deleted: damaged files are moved aside in the lake's folder. Exit 3 when manual work
    remains.

    Parameters
    ----------
    new_secret
        Create a new key-hash secret if it is lost: keys that were logged in full then count as new
        keys, with no history. All other machines of a shared lake then need the new secret.
    """
    from keywatch import pipeline
    from keywatch.operate.repair import render_repair
    from keywatch.text.safe_text import printable

    report = pipeline.repair_lake(common.lake, common.settings(), new_secret=new_secret)
    for line in render_repair(report).splitlines():
        print(printable(line, max_length=4000))
    if report.left:
        raise SystemExit(LakeError.exit_code)


@detectors_app.command(
    name="list",
    help_epilogue=_examples(
        "keywatch detectors list", "keywatch detectors list --format navigator"
    ),
)
def detectors_list(
    *, format: Literal["text", "navigator"] = "text", common: Common = _DEFAULTS
) -> None:
    """List the detectors with their family, status and title.

    Parameters
    ----------
    format
        text, or navigator: a layer for the ATT&CK Navigator, scored by the cases in the lake.
    """
    from keywatch.detect.detectors import load_detectors

    if format == "navigator":
        from keywatch import pipeline
        from keywatch.text.document import json_text

        _write(json_text(pipeline.navigator_layer_of(common.lake, common.settings())), None)
        return
    for detector in load_detectors(common.settings().content.folders):
        print(f"{detector.id:22}{detector.family:11}{detector.status:8}{detector.title}")


@detectors_app.command(
    name="check",
    help_epilogue=_examples("keywatch detectors check", "keywatch detectors check dormant_wake"),
)
def detectors_check(*ids: str, common: Common = _DEFAULTS) -> None:
    """Check the detectors' folders: fields, query, parameters, tests.

    Parameters
    ----------
    ids
        Ids of the detectors; all by default.
    """
    from keywatch.detect.detectors import check
    from keywatch.text.phrases import count

    wrong = 0
    for detector in _chosen(ids, common):
        for sentence in check(detector):
            wrong += 1
            print(f"{detector.id}: {sentence}")
    if wrong:
        raise UsageError(f"{count(wrong, 'problem')} found in the detectors")
    print("All detectors are valid.")


@detectors_app.command(name="test", help_epilogue=_examples("keywatch detectors test dormant_wake"))
def detectors_test(*ids: str, common: Common = _DEFAULTS) -> None:
    """Run the detectors' own tests on a real DuckDB and compare whole results.

    Parameters
    ----------
    ids
        Ids of the detectors; all by default.
    """
    from keywatch.detect import cases
    from keywatch.lake import Lake

    run = failed = 0
    with Lake.in_memory() as lake:
        for detector in _chosen(ids, common):
            if (detector.folder / "cases").is_dir():
                _say(f"keywatch: {detector.folder / 'cases'}: rename this folder to tests")
            for file in cases.case_files(detector):
                result = cases.run_case(lake, detector, file)
                run += 1
                if not result.passed:
                    failed += 1
                    print(f"FAILED {detector.id}/{file.name}: {result.title}")
                    print("expected:", cases.as_toml(result.expected) or "(no evidence)", sep="\n")
                    print("actual:", cases.as_toml(result.actual) or "(no evidence)", sep="\n")
    print(f"{run - failed} passed, {failed} failed")
    if failed:
        raise SystemExit(EXIT_FINDINGS)


def _chosen(ids: tuple[str, ...], common: Common) -> list[Detector]:
    from keywatch.detect.detectors import load_detectors

    loaded = load_detectors(common.settings().content.folders)
    found = {detector.id: detector for detector in loaded}
    for name in ids:
        if name not in found:
            raise UsageError(unknown("detector", name, found))
    return [found[name] for name in ids or found]


@sources_app.command(name="list", help_epilogue=_examples("keywatch sources list"))
def sources_list(*, common: Common = _DEFAULTS) -> None:
    """List what can be loaded, by vendor: log formats, forms of keys, inventories, leak reports."""
    from keywatch.vendors.registry import vendor_faults, vendors
    from keywatch.vendors.source import FORMS

    common.settings()
    for vendor in vendors():
        print(f"{vendor.name}: {vendor.title}")
        for source in vendor.sources:
            forms = ", ".join(FORMS[form] for form in source.forms)
            print(f"  {source.name:20}{source.title} ({forms})")
        for form, _ in vendor.keys:
            print(f"  {'keys':20}{form.shown}")
        for what, lists in (("inventory", vendor.inventories), ("leaks", vendor.leak_reports)):
            for each in lists:
                print(f"  {what:20}{each.title}" + (f": {each.command}" if each.command else ""))
    for fault in vendor_faults():
        _say(f"skipped: {fault}")


@sources_app.command(
    name="check",
    help_epilogue=_examples("keywatch sources check", "keywatch sources check vendors/shop"),
)
def sources_check(*folders: Path, common: Common = _DEFAULTS) -> None:
    """Check the vendors' folders: fields, key forms, queries, and their own tests.

    Exit 1 when a problem is found.

    Parameters
    ----------
    folders
        Vendors' folders, or folders that contain vendors/; by default all, bundled and in the
        settings.
    """
    from keywatch.content import folders_of
    from keywatch.text.phrases import count
    from keywatch.vendors.checking import check_vendor, folders_named

    outside = common.settings().content.folders
    found = folders_named(list(folders)) if folders else folders_of("vendors", outside)
    wrong = 0
    for folder in found:
        for sentence in check_vendor(folder):
            wrong += 1
            print(sentence)
    if wrong:
        print(f"{count(wrong, 'fault')} in {count(len(found), 'vendor')}")
        raise SystemExit(EXIT_FINDINGS)
    print(f"{count(len(found), 'vendor')} in order")


@sources_app.command(
    name="new", help_epilogue=_examples("keywatch sources new app.log --vendor shop")
)
def sources_new(
    sample: str,
    *,
    vendor: str = "",
    output: Path = Path(),
    common: Common = _DEFAULTS,
) -> None:
    """Propose how a log of no known format is read, from a sample, and write it as a source.

    Shows which field is which column and ten rows as they are read. Exit 1 when what was written
    is not in order.

    Parameters
    ----------
    sample
        A file of the log.
    vendor
        The name of the vendor and its source: small letters, digits, _. The sample's when not
        given.
    output
        The folder in which vendors/NAME is made.
    """
    from keywatch import pipeline
    from keywatch.report import render_proposal

    name = vendor or re.sub(r"[^a-z0-9]+", "_", Path(sample).name.partition(".")[0].lower())
    proposal, home, wrong = pipeline.new_source(sample, common.settings(), name, output)
    print(render_proposal(proposal, home, width=_width()), end="")
    _exit_by_faults(wrong)


@sources_app.command(
    name="import", help_epilogue=_examples("keywatch sources import openapi.yaml --vendor shop")
)
def sources_import(
    document: ListFile,
    *,
    vendor: str = "",
    output: Path = Path(),
    common: Common = _DEFAULTS,
) -> None:
    """Import an API's endpoints, scopes and sensitive calls from its OpenAPI document.

    Writes or extends the vendor's catalogue.toml; what is in it stays as it is. Which calls are
    sensitive is proposed by method and path: look through it. Exit 1 when what was written is not
    in order.

    Parameters
    ----------
    document
        OpenAPI 3 or Swagger 2.0, JSON or YAML; - for standard input.
    vendor
        The vendor's name: small letters, digits, _. By default taken from the API's title.
    output
        The folder that contains vendors/, or in which it is made.
    """
    from keywatch import pipeline
    from keywatch.report import render_imported

    _paths([str(document)])
    common.settings()
    read, done, wrong = pipeline.import_openapi(document, vendor, output)
    print(render_imported(read, done, width=_width()), end="")
    _exit_by_faults(wrong)


def _exit_by_faults(wrong: list[str]) -> None:
    from keywatch.text.phrases import count

    if wrong:
        print("\n".join(wrong))
        print(f"{count(len(wrong), 'fault')}; see vendors/README.md")
        raise SystemExit(EXIT_FINDINGS)


@lake_app.command(
    name="init",
    help_epilogue=_examples(
        "keywatch lake init", "keywatch lake init --lake /srv/keywatch/lake --config keywatch.toml"
    ),
)
def lake_init(*, common: Common = _DEFAULTS) -> None:
    """Create the lake that the settings describe, or join it from another machine.

    Checks access to catalogue and data and the key-hash secret, and says what the other machines
    of a shared lake need.
    """
    from keywatch import pipeline
    from keywatch.operate.lake_status import render_made

    status, is_new = pipeline.init_lake(common.lake, common.settings())
    for line in render_made(status, is_new=is_new):
        print(line)


@lake_app.command(
    name="status",
    help_epilogue=_examples("keywatch lake status", "keywatch lake status --format json"),
)
def lake_status(
    *, format: CaseFormat = "text", schema: bool = False, common: Common = _DEFAULTS
) -> None:
    """Show where the lake is, what it contains, who writes to it, and what it needs.

    Parameters
    ----------
    format
        text, or json (see --schema).
    schema
        Print the JSON Schema of --format json and exit.
    """
    from keywatch import pipeline
    from keywatch.operate.lake_status import render_status, status_schema
    from keywatch.text.document import json_text

    if schema:
        _write(json_text(status_schema()), None)
        return
    status = pipeline.status_of_lake(common.lake, common.settings())
    if format == "json":
        _write(json_text(status.model_dump(mode="json")), None)
    else:
        _write("".join(f"{line}\n" for line in render_status(status)), None)


@lake_app.command(
    name="move", help_epilogue=_examples("keywatch lake move shared --to keywatch.toml")
)
def lake_move(folder: Path, *, to: Path | None = None, common: Common = _DEFAULTS) -> None:
    """Copy the lake into a new one: from local to shared or back, encrypted or not.

    All tables are compared by counts and hashes before anything is kept; a move that is interrupted
    can be repeated. The old lake stays as it is.

    Parameters
    ----------
    folder
        Folder of the new lake on this machine.
    to
        Settings file with [storage] of the new lake; by default it is local and not encrypted.
    """
    from keywatch import pipeline
    from keywatch.operate.move import render_moved
    from keywatch.settings import Settings

    new = Settings() if to is None else _settings(to)
    for line in render_moved(pipeline.move_lake(common.lake, common.settings(), folder, new)):
        print(line)


@lake_app.command(
    name="maintain",
    help_epilogue=_examples("keywatch lake maintain", "keywatch lake maintain --rebuild"),
)
def lake_maintain(
    *, rebuild: Annotated[bool, Parameter(negative=())] = False, common: Common = _DEFAULTS
) -> None:
    """Merge small files, expire old snapshots and remove unused files; the feed does this daily.

    Parameters
    ----------
    rebuild
        First roll up all stored events anew, in one commit, and locate addresses that have no
        origin. Roll-ups of days without events stay as they are.
    """
    from keywatch import pipeline
    from keywatch.operate.maintain import render_maintained

    if rebuild:
        from keywatch.operate.rollups import render_rebuilt

        for line in render_rebuilt(pipeline.rebuild(common.lake, common.settings())):
            print(line, flush=True)
    for line in render_maintained(pipeline.maintain(common.lake, common.settings())):
        print(line)


@lake_app.command(
    name="export",
    help_epilogue=_examples(
        "keywatch lake export --output events.jsonl.gz",
        "keywatch lake export --format stix --output thefts.json",
    ),
)
def lake_export(
    *,
    format: Literal["ocsf", "stix"] = "ocsf",
    output: Path | None = None,
    key: str | None = None,
    within: WindowOptions = _NO_WINDOW,
    common: Common = _DEFAULTS,
) -> None:
    """Write events for other programs, or the addresses of confirmed thefts.

    The default window is the whole lake. Events that are loaded into a new lake, with the same key
    inventory, give the same cases; pruned events are not among them. Secrets are masked, as in the
    lake.

    Parameters
    ----------
    format
        ocsf: events as API Activity (class 6003), one JSON object per line. stix: a STIX 2.1 bundle
        of the addresses of verdicts compromised, without keys.
    output
        Write to this file instead of the terminal; gzip if its name ends in .gz.
    key
        Id, masked form or name of a key; by default all keys.
    """
    from keywatch import pipeline
    from keywatch.report.output import lines_to
    from keywatch.text.document import json_text
    from keywatch.text.phrases import count

    settings, window = common.settings(), within.chosen()
    _keep_out_of_lake(output, common.lake, settings)
    if format == "stix":
        if key is not None or window is not None:
            raise UsageError(
                "--format stix exports all confirmed thefts: use it without a key or a window"
            )
        bundle = pipeline.theft_indicators(common.lake, settings)
        with lines_to(output) as out:
            out.write(json_text(bundle))
        return
    written = pipeline.export_events(common.lake, settings, output, key=key, window=window)
    if output is not None:
        print(f"{count(written, 'event')} written to {output}")


@lake_app.command(name="forget", help_epilogue=_examples("keywatch lake forget key_0700353 --yes"))
def lake_forget(named: str, *, yes: bool = False, common: Common = _DEFAULTS) -> None:
    """Erase a key or an address everywhere: its events, findings, alerts and verdicts.

    Older snapshots are deleted too, so stored runs can't be repeated on the data they used.

    Parameters
    ----------
    named
        Id, masked form or name of a key; or an address. Of the lake: nothing else is accepted.
    yes
        Confirm; this can't be undone.
    """
    from keywatch import pipeline
    from keywatch.operate.maintain import render_forgotten

    if not yes:
        raise UsageError(
            f"this would permanently erase {named} and all older snapshots: add --yes to confirm"
        )
    for line in render_forgotten(pipeline.forget(common.lake, named, common.settings())):
        print(line)


@app.command(
    help_epilogue=_examples("keywatch doctor", "keywatch doctor --deep --fail-on-findings")
)
def doctor(
    *,
    format: CaseFormat = "text",
    deep: bool = False,
    fail_on_findings: Annotated[bool, Parameter(negative=())] = False,
    common: Common = _DEFAULTS,
) -> None:
    """Check the installation, the lake, the channels, and sources that have gone silent.

    Parameters
    ----------
    deep
        Read every Parquet file in full, instead of its size and footer only.
    format
        text, or json: versions, and results with their check and status: ok, note, warn (a health
        finding), bad (other commands fail).
    fail_on_findings
        Exit 1 when a result has the status warn.
    """
    from keywatch.lake import utc_now
    from keywatch.operate.diagnosis import diagnose
    from keywatch.text.document import json_text

    python, system = platform.python_version(), platform.platform()
    found = diagnose(common.lake, common.settings(), utc_now(), deep=deep)
    if format == "json":
        versions = {"keywatch": __version__, "python": python, "platform": system}
        _write(json_text(versions | {"found": [one.document() for one in found]}), None)
    else:
        print(f"keywatch {__version__}, Python {python}, {system}")
        for one in found:
            print(f"{one.status.upper() if one.exit_code else one.status:4} {one.text}")
    if worst := max(one.exit_code for one in found):
        raise SystemExit(worst)
    if fail_on_findings and any(one.is_finding for one in found):
        raise SystemExit(EXIT_FINDINGS)


def _keep_out_of_lake(output: Path | None, lake: Path, settings: Settings) -> None:
    if output is not None:
        from keywatch.report.output import refuse_inside_lake

        refuse_inside_lake(output, lake, settings.storage)


def _write(text: str | Iterator[str], output: Path | None) -> None:
    if output is None:
        sys.stdout.writelines([text] if isinstance(text, str) else text)
        return
    from keywatch.report.output import write_whole

    write_whole(output, text)


def _tell(text: str) -> None:
    print(text, flush=True)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _color() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def _width() -> int:
    """The terminal's, up to 120; 100 in a file."""
    return min(os.get_terminal_size().columns, 120) if sys.stdout.isatty() else 100


@contextmanager
def _progress() -> Iterator[tuple[Callable[[int], None], Callable[[int], None]]]:
    """A bar on standard error where that is a terminal; silence in a log file."""
    if not sys.stderr.isatty():
        yield (lambda _: None), (lambda _: None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    columns = ("Loading", BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("Loading", total=None)
        yield (
            lambda size: progress.update(task, total=size),
            lambda n: progress.update(task, advance=n),
        )


@contextmanager
def _steps() -> Iterator[None]:
    """What is being done, in a line of standard error where that is a terminal; then it is gone."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False))
    with Progress(
        *columns, console=Console(stderr=True), transient=True, redirect_stdout=False
    ) as progress:
        task = progress.add_task("Opening the lake", total=None)
        with steps_to(lambda text: progress.update(task, description=text)):
            yield


def _renamed(words: Sequence[str]) -> Sequence[str]:
    """`words` with today's name of a command that was renamed."""
    if words[:1] != ["replay"]:
        return words
    _say("keywatch: replay is now called backtest; use keywatch backtest")
    return ["backtest", *words[1:]]


class _NoPandas:
    """Says that there is no pandas, which no command needs.

    Arrow and DuckDB look for it when they first convert a value of Python or numpy, to know its
    types too. To import it takes 0.4 s of processor time, a sixth of a small load.
    """

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("Keywatch's commands do without pandas", name=fullname)


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line, or `words` in its place; errors are printed as sentences.

    Raises:
        SystemExit: it failed or found something, with the contract's exit codes.
    """
    os.umask(0o077)
    if words is None:  # a process of its own
        sys.meta_path.insert(0, _NoPandas())
    try:
        given = _renamed(sys.argv[1:] if words is None else words)
        with notices_to(_say):
            app(given, exit_on_error=False, print_error=False)
    except CycloptsError as e:
        from keywatch.report import render_failure

        _say(f"keywatch: {render_failure(UsageError(str(e)))}")
        raise SystemExit(EXIT_USAGE) from None
    except BrokenPipeError:
        # The reader has seen enough (keywatch review | head).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as e:  # noqa: BLE001 -- a traceback would exit with 1, which means findings
        from keywatch.report import render_failure

        _say(f"keywatch: {render_failure(e)}")
        code = e.exit_code if isinstance(e, KeywatchError) else LakeError.exit_code
        raise SystemExit(code) from None
    except KeyboardInterrupt:
        _say("keywatch: stopped; no change was left half done")
        raise SystemExit(130) from None
