"""The gRPC services. Every call passes through handlers.py, every error through errors.py."""
