"""The public name of `keywatch.explore.notebook`: a lake in a notebook."""

from keywatch.explore.notebook import Frames, LakeView, VerdictLake

__all__ = ["Frames", "LakeView", "VerdictLake"]
