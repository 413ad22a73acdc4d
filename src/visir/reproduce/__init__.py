"""Published tables and ablations as commands: which runs a table needs, running them, and both figures side by side."""
