"""Closed-form learning: principal axes, and linear maps under which a plain distance is a learnt metric."""
