"""Speed and memory, each beside what a user would do by hand."""
