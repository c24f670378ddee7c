"""From log files to the lake: reading, places, roll-ups, the inventory."""
