"""Figures for Prometheus: what is in the file, who can read it, and what happens without one."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import ValidationError

from keywatch import __version__, pipeline
from keywatch.errors import UsageError
from keywatch.lake import Lake
from keywatch.model import HEALTH_CHECKS, HealthFinding
from keywatch.notices import notices_to
from keywatch.operate import diagnosis, health, metrics
from keywatch.review import watch
from keywatch.settings import MetricsSettings, Settings
from tests.command import keywatch
from tests.conftest import Loading, event
from tests.operate.test_health import NOW, QUICK, days, use

LATER = datetime(2026, 11, 22)


def figures(text: str) -> dict[str, float]:
    """Each sample by its name and its label's value; the text is what Prometheus can read."""
    return {
        " ".join((sample.name.removeprefix("keywatch_"), *sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def settings_of(file: Path) -> Settings:
    return QUICK.model_copy(update={"metrics": MetricsSettings(file=file)})


def test_the_figures_of_a_lake(quick: Loading) -> None:
    lake = quick.lake
    use(lake, "key_1", days())
    lake.execute(
        "INSERT INTO lake.origins BY NAME SELECT 'ip-lists 2026-08-01' AS asked, 1 AS load_id"
    )
    for channel in ("chat", 'a "b"\\'):
        lake.execute(
            "INSERT INTO lake.deliveries BY NAME SELECT $channel AS delivery_id, "
            "$channel AS channel, $now AS created_at",
            channel=channel,
            now=LATER,
        )

    text = metrics.metrics_text(lake, Settings(), health.findings(lake, Settings(), LATER), LATER)

    found = figures(text)
    assert found.pop("events") == 91
    assert found.pop("last_event_timestamp_seconds") == 1_791_115_200  # 2026-10-04 12:00
    assert found.pop("address_data_built_timestamp_seconds ip-lists") == 1_785_542_400
    assert found.pop("checked_timestamp_seconds") == 1_795_305_600
    assert found.pop("health_findings log_ended") == 1
    assert found.pop('outbox_waiting a "b"\\') == found.pop("outbox_waiting chat") == 1
    assert found.pop(f"info {__version__}") == 1
    # All else is nothing, and what is not known is not there.
    assert set(found.values()) == {0}
    assert {name for name in found if name.startswith("health_findings")} == {
        f"health_findings {check}" for check in HEALTH_CHECKS if check != "log_ended"
    }
    assert not [name for name in found if "timestamp" in name]
    assert "key_1" not in text
    assert "# HELP keywatch_outbox_dead Messages given up." in text
    assert "# TYPE keywatch_outbox_dead gauge" in text


def test_notes_are_no_findings_to_wake_anybody_for(quick: Loading) -> None:
    quick.lake.execute(
        "INSERT INTO lake.origins BY NAME SELECT 'ip-lists 2020-08-01' AS asked, 1 AS load_id"
    )
    found = health.findings(quick.lake, Settings(), NOW)
    assert [one.check for one in found] == ["ip_data_old"]

    told = figures(metrics.metrics_text(quick.lake, Settings(), found, NOW))

    assert told["health_findings ip_data_old"] == 0


def test_a_load_the_feed_a_review_and_the_doctor_write_it_for_everybody(
    tmp_path: Path, loading: Loading
) -> None:
    file = tmp_path / "keywatch.prom"
    settings = settings_of(file)
    log = loading.write([event()])
    folder = tmp_path / "lake"

    def written() -> dict[str, float]:
        found = figures(file.read_text("utf-8"))
        assert file.stat().st_mode & 0o777 == 0o644
        file.unlink()
        return found

    pipeline.ingest(folder, [str(log)], settings)
    assert written()["events"] == 1
    pipeline.ingest_new(folder, settings, [str(log)])
    assert "last_load_timestamp_seconds" in written()
    pipeline.watch(folder, settings, now=NOW)
    assert written()["last_watch_timestamp_seconds"] == 1_791_180_000
    pipeline.review(folder, None, settings, now=NOW)
    assert written()["checked_timestamp_seconds"] == 1_791_180_000
    pipeline.review(folder, None, settings, keep=False)
    assert not file.exists()
    diagnosis.diagnose(folder, settings, LATER)
    assert written()["health_findings log_ended"] == 1
    assert not list(tmp_path.glob(".*"))
    assert watch.hours_run(loading.lake) == [NOW]


def test_a_run_of_the_feed_that_loads_looks_at_the_health_once(
    tmp_path: Path, loading: Loading, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[datetime] = []
    findings = health.findings

    def counted(lake: Lake, settings: Settings, now: datetime) -> tuple[HealthFinding, ...]:
        looked.append(now)
        return findings(lake, settings, now)

    monkeypatch.setattr(health, "findings", counted)
    settings = tmp_path / "keywatch.toml"
    settings.write_text(f'[metrics]\nfile = "{tmp_path}/keywatch.prom"\n', "utf-8")
    log = loading.write([event()])

    ran = keywatch("watch", log, "--lake", tmp_path / "lake", "--config", settings)

    assert (ran.code, len(looked)) == (0, 1), ran.err
    assert (tmp_path / "keywatch.prom").is_file()


def test_a_file_that_can_not_be_written_ends_no_run_and_is_bad_to_the_doctor(
    tmp_path: Path, loading: Loading
) -> None:
    settings = settings_of(tmp_path / "nowhere" / "keywatch.prom")
    log = loading.write([event()])
    told: list[str] = []

    with notices_to(told.append):
        report = pipeline.ingest(tmp_path / "lake", [str(log)], settings)

    assert report.total("events") == 1
    (line,) = told
    assert line.endswith("can't be written (No such file or directory); see [metrics] file")
    bad = [
        one for one in diagnosis.diagnose(tmp_path / "lake", settings, NOW) if one.status == "bad"
    ]
    assert [(one.check, one.text, one.exit_code) for one in bad] == [
        ("metrics", line, UsageError.exit_code)
    ]


def test_without_the_setting_nothing_is_read_or_written(tmp_path: Path) -> None:
    with Lake.in_memory() as lake:
        metrics.write_metrics(lake, Settings(), (), NOW)

    assert list(tmp_path.iterdir()) == []


def test_the_collector_reads_files_that_end_in_prom_alone() -> None:
    with pytest.raises(ValidationError, match=r"whose name ends in \.prom"):
        MetricsSettings(file=Path("keywatch.txt"))


def test_where_the_figures_go_changes_no_run() -> None:
    assert settings_of(Path("a.prom")).config_hash == QUICK.config_hash
