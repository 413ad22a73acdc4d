"""Layer 5: the whole path from nothing to a report, in one call."""
