"""The sync client, generated from the async one except for this file, _wire.py and _lazy.py."""
