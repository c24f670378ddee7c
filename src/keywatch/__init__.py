"""Keywatch reports which API keys look stolen, why, and what to do."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

if TYPE_CHECKING:
    from keywatch.explore.notebook import Frames, LakeView, VerdictLake

__version__ = version("keywatch")
__all__ = ["__version__", "open"]


@overload
def open(
    folder: str | Path | None = None,
    *,
    frames: Frames = "pandas",
    config: Path | None = None,
    verdicts: Literal[False] = False,
    by: str = "",
) -> LakeView: ...


@overload
def open(
    folder: str | Path | None = None,
    *,
    frames: Frames = "pandas",
    config: Path | None = None,
    verdicts: Literal[True],
    by: str,
) -> VerdictLake: ...


def open(
    folder: str | Path | None = None,
    *,
    frames: Frames = "pandas",
    config: Path | None = None,
    verdicts: bool = False,
    by: str = "",
) -> LakeView:
    """Open the lake in `folder` read-only, for notebooks (see `keywatch.notebook`).

    With ``verdicts=True`` and your name in `by`, it is a `keywatch.notebook.VerdictLake`, which
    also records and withdraws verdicts, and changes nothing else.

    The default folder is that in ``KEYWATCH_LAKE``, otherwise ``lake``. `frames` is the kind of
    tables: ``pandas``, ``arrow`` or ``polars``. `config` is a settings file.

    Raises:
        LakeError: there is no lake in `folder`.
        UsageError: ``verdicts=True`` without `by`.
    """
    from keywatch.explore.notebook import LakeView, VerdictLake
    from keywatch.settings import load_settings

    where = folder if folder is not None else os.environ.get("KEYWATCH_LAKE", "lake")
    if verdicts:
        return VerdictLake(Path(where), load_settings(config), by, frames)
    return LakeView(Path(where), load_settings(config), frames)
