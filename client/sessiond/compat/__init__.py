"""Other libraries' APIs on top of sessiond's client.

Programs move to sessiond by changing their imports.
"""
