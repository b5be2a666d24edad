"""The gRPC services. Every call passes through handlers.py, and every error through errors.py."""
