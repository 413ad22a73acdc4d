"""Layer 4: from a configuration file to a trained and evaluated run."""
