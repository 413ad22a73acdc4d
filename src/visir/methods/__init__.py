"""Layer 2: one file is one published system."""
