"""Turns stored messages into blocks of a page. Pure functions: no I/O, no error for any content.

Transcripts are hostile: users, models and web pages wrote them. Readers therefore accept values of
any type, and everything that they return is either plain text, which templates escape, or HTML that
`markdown` has sanitized.
"""
