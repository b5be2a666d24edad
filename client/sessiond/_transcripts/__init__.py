"""Reads transcripts from the files of other programs. No calls; files are read in pieces."""
