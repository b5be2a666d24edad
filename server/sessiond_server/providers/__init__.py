"""The models: who answers, by name, and each provider's protocol. Neither gRPC nor SQL, and nothing of sessions."""
