"""What speaks for a theft: detectors, and how their evidence becomes a score."""
