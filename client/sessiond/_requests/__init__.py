"""Builds the requests from keyword arguments. No I/O in here."""
