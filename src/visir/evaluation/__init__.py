"""Layer 1: protocols as data, official scores from features."""
