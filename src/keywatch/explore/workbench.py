"""A detector as its author works on it: checked, tested, run on a week, and replayed on the past.

    detector = lake.detector("off_hours")              # or the path of a folder of your own
    other = detector.with_params(prior_hours=24)
    other.evidence()                                   # what it says of the week
    other.replay(weeks=4)                              # which alerts it would change

Nothing is stored: neither in the lake nor in the detector's folder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keywatch import pipeline
from keywatch.detect import cases, detectors
from keywatch.detect.detectors import Detector
from keywatch.errors import UsageError
from keywatch.hints import did_you_mean
from keywatch.lake import Lake
from keywatch.model import RehearsedAlert, Window
from keywatch.text.phrases import iso_week, window_label

if TYPE_CHECKING:
    import pyarrow as pa

    from keywatch.settings import Settings

__all__ = ["DetectorView", "detector_of"]

_WEEK = timedelta(days=7)


def detector_of(name: str | Path, settings: Settings) -> Detector:
    """The detector with that id or in that folder.

    Raises:
        UsageError: there is no such detector.
        DetectorError: the folder lacks a file, or its ``detector.toml`` a field.
    """
    loaded = detectors.load_detectors(settings.content.folders)
    known = {detector.id: detector for detector in loaded}
    if str(name) in known:
        return known[str(name)]
    if (Path(name) / "detector.toml").exists():
        return detectors.load_detector(Path(name))
    raise UsageError(
        f"unknown detector {str(name)!r}: give a folder with a detector.toml, or one of "
        f"{', '.join(known)}{did_you_mean(str(name), known)}"
    )


class DetectorView:
    """A detector and a week to try it on; see `LakeView.detector`.

    `frame` converts Arrow tables.
    """

    def __init__(
        self,
        detector: Detector,
        lake_folder: Path,
        window: Window,
        settings: Settings,
        frame: Callable[[pa.Table], Any],
    ) -> None:
        self.detector = detector
        self.window = window
        self._lake_folder = lake_folder
        self._settings = settings
        self._frame = frame

    def __repr__(self) -> str:
        return f"<detector {self.detector.id}, {window_label(self.window)}>"

    def _repr_html_(self) -> str:
        from keywatch.report.html import render_card

        return render_card(
            "detector", detector=self.detector, params=[*self.detector.params.items()]
        )

    @property
    def params(self) -> dict[str, float | str]:
        """Its parameters by name."""
        return dict(self.detector.params)

    @property
    def sql(self) -> str:
        """Its query."""
        return self.detector.sql

    def with_params(self, **params: float | str) -> DetectorView:
        """The same detector with other parameters.

        Raises:
            UsageError: it has no parameter of that name.
        """
        if unknown := params.keys() - self.detector.params.keys():
            raise UsageError(
                f"{self.detector.id} has no {', '.join(sorted(unknown))}; "
                f"available: {', '.join(self.detector.params) or 'no parameters'}"
            )
        other = replace(self.detector, params={**self.detector.params, **params})
        return DetectorView(other, self._lake_folder, self.window, self._settings, self._frame)

    def check(self) -> list[str]:
        """The problems of its folder, one sentence each; empty if there is none."""
        return detectors.check(self.detector)

    def test(self) -> Any:
        """Run its tests on a real DuckDB, with these parameters unless a test sets its own.

        Columns: case, title, passed, expected, actual (evidence as TOML).
        """
        import pyarrow as pa

        files = cases.case_files(self.detector)
        with Lake.in_memory() as lake:
            ran = [cases.run_case(lake, self.detector, file) for file in files]
        return self._frame(
            pa.table(
                {
                    "case": pa.array([one.file.stem for one in ran], pa.string()),
                    "title": pa.array([one.title for one in ran], pa.string()),
                    "passed": pa.array([one.passed for one in ran], pa.bool_()),
                    "expected": pa.array([cases.as_toml(one.expected) for one in ran], pa.string()),
                    "actual": pa.array([cases.as_toml(one.actual) for one in ran], pa.string()),
                }
            )
        )

    def evidence(self) -> Any:
        """Its own evidence for the week, the most bits first; less than 0 supports the owner.

        Columns: key_id, day, prefix (null: of the key), bits, typical, actual, explanation.
        """
        said = pipeline.said_by(self._lake_folder, self.detector, self.window, self._settings)
        return self._frame(said)

    def replay(self, weeks: int = 2) -> Any:
        """The alerts of the last `weeks` weeks, with the present detectors and with this one.

        All detectors except drafts are used. This one replaces the bundled one with the same id, or
        is added, and counts as stable. It takes about twice as long as `weeks` reviews. Columns:
        week, key_id, name, action and bits (at present; null: no alert), action_then and bits_then
        (with this detector), summary.

        Raises:
            UsageError: `weeks` is less than 1, or the window is not one week.
        """
        if weeks < 1 or self.window.end - self.window.start != _WEEK:
            raise UsageError("a replay needs a window of one week, and at least one week")
        span = Window(self.window.end - weeks * _WEEK, self.window.end)
        found = pipeline.rehearse(self._lake_folder, span, self._settings, others=[self.detector])
        return self._frame(_side_by_side(found.alerts, found.against or ()))


def _side_by_side(alerts: tuple[RehearsedAlert, ...], then: tuple[RehearsedAlert, ...]) -> pa.Table:
    """A row a week and key that either side alerts."""
    import pyarrow as pa

    ours = {(alert.window.start, alert.key_id): alert for alert in alerts}
    theirs = {(alert.window.start, alert.key_id): alert for alert in then}
    rows = []
    for at in sorted(ours.keys() | theirs.keys()):
        one, other = ours.get(at), theirs.get(at)
        told = other or one
        assert told is not None
        rows.append(
            {
                "week": iso_week(told.window),
                "key_id": told.key_id,
                "name": told.name,
                "action": one and one.action,
                "bits": one and one.bits,
                "action_then": other and other.action,
                "bits_then": other and other.bits,
                "summary": told.summary,
            }
        )
    texts = ("week", "key_id", "name", "action", "action_then", "summary")
    order = (*texts[:4], "bits", "action_then", "bits_then", "summary")
    schema = pa.schema([(name, pa.string() if name in texts else pa.float64()) for name in order])
    return pa.Table.from_pylist(rows, schema)
