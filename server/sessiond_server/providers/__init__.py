"""Model providers: routing by model name, and one module per protocol.

Nothing here knows gRPC, SQL or sessions.
"""
