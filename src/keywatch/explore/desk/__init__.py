"""The triage page: open cases, one case, and verdicts, on this machine (`keywatch triage`)."""

from keywatch.explore.desk.app import Desk
from keywatch.explore.desk.serve import serve

__all__ = ["Desk", "serve"]
