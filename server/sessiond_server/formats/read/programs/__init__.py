"""Reads the messages that agents' programs and frameworks write for themselves.

There is one module for each format_name. Its read() yields the content of a message: one entry
for each speaker, and nothing for a message that is no part of the conversation. The readers accept
any JSON object, because nothing checks these formats when they are stored.
"""
