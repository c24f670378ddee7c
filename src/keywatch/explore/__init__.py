"""For people who look closer: notebooks, the workbench, the triage page."""
