"""Keywatch: which API keys look stolen, why, and what to do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keywatch.notebook import Frames, LakeView

__version__ = "0.1.0"
__all__ = ["__version__", "open"]


def open(
    folder: str | Path | None = None, *, frames: Frames = "pandas", config: Path | None = None
) -> LakeView:
    """The lake in `folder`, to look at: read-only, for notebooks (`keywatch.notebook`).

    Without a folder it's the one that ``KEYWATCH_LAKE`` names, else ``lake``. Tables come as
    `frames`: ``pandas``, ``arrow`` or ``polars``. `config` is a settings file.

    Raises:
        LakeError: there is no lake in `folder`.
    """
    from keywatch.notebook import LakeView
    from keywatch.settings import load_settings

    where = folder if folder is not None else os.environ.get("KEYWATCH_LAKE", "lake")
    return LakeView(Path(where), load_settings(config), frames)
