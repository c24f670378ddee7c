"""Keeping a lake well: its health, its figures, its upkeep and repair."""
