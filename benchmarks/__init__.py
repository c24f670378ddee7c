"""Speed, memory and detection quality, each beside what a user would do by hand."""
