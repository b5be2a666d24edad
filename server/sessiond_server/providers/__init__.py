"""Model providers: routing by model name, and one module per protocol.

The package does not depend on gRPC, SQL or sessions.
"""
