"""Words and text that is safe to show: for every place that shows something from a log."""
