"""Metrics of a process: what they are called, and how they are served."""
