"""The exported form of a session, as JSON records. Only files.py performs I/O.

A record is a kind and a JSON object. The kinds, in order: "export" (the form's version and the
session), "task", "bookmark", "message", "end" (the number of each, so that a truncated export is
detected). The content of an asset precedes the first message that refers to it, in one "asset"
record for each piece.

A JSON Lines file has one record per line, with its kind among the fields. The dict of `export()`
has the same objects in lists, with the pieces of an asset joined.
"""
