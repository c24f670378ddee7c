"""The public name of `keywatch.explore.notebook`: a lake in a notebook."""

from keywatch.explore.notebook import Frames, JudgingLake, LakeView

__all__ = ["Frames", "JudgingLake", "LakeView"]
