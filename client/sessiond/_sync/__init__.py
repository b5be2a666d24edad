"""The sync client, generated from the async one except for a few files written by hand."""
