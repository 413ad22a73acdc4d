"""Layer 3: a persistent, searchable store of embedded person images."""
