"""Keywatch: which API keys look stolen, why, and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keywatch.notebook import Frames, LakeView

__version__ = "0.1.0"
__all__ = ["__version__", "open"]


def open(
    folder: str | Path = "lake", *, frames: Frames = "pandas", config: Path | None = None
) -> LakeView:
    """The lake in `folder`, to look at: read-only, for notebooks (`keywatch.notebook`).

    Tables come as `frames`: ``pandas``, ``arrow`` or ``polars``. `config` is a settings file.

    Raises:
        LakeError: there is no lake in `folder`.
    """
    from keywatch.notebook import LakeView
    from keywatch.settings import load_settings

    return LakeView(Path(folder), load_settings(config), frames)
