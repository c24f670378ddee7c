"""Keywatch: which API keys look stolen, why, and what to do."""

__version__ = "0.1.0"
