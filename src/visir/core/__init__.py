"""Layer 0: the types, errors and small tools that everything else speaks in. Imports nothing else of visir."""
