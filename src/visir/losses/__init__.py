"""Layer 1: losses as plain functions: what is compared, then labels, then keyword-only numbers."""
