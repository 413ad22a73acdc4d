"""Layer 2: one file is one data set with its official protocols."""
