"""Dialects: the requests that the providers' APIs accept.

For each API a pure function creates a request from a stored history, and reports what it changed.
Like `formats`, which reads the history, the package performs no I/O.
"""
