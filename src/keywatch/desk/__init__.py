"""The triage page: open cases, one case, and verdicts, on this machine (`keywatch triage`)."""

from keywatch.desk.app import Desk
from keywatch.desk.serve import serve

__all__ = ["Desk", "serve"]
