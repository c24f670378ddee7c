"""Where owners answer (`keywatch answers serve`): a form behind a link, and buttons in Slack."""

from keywatch.explore.answers.app import Answers
from keywatch.explore.answers.serve import serve

__all__ = ["Answers", "serve"]
