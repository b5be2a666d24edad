"""Message formats: how they are read, and the common parts of the requests made from them.

The package `dialects` creates the requests.

This package is pure: it performs no I/O and does not depend on sessions, turns or providers' SDKs.

- `pieces`: the pieces into which a message of any format is split.
- `read`: splits stored messages into pieces; `read/programs` reads what agents' programs and
  frameworks write, `read/conversation.py` finds the conversation in such a history.
- `pairing`: places the results of tool calls after their calls.
- `report`: records content that a request lacks, or contains in another form.
- `asset_places`: where a message may refer to an asset.
- `files`, `pictures`: properties of files: their types, their base64, their dimensions.
- `wire`: encodes a request, with stored messages byte for byte.
"""
