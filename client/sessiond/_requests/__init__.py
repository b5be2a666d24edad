"""The requests, built from keyword arguments. No I/O in here."""
