"""Shared by all features: errors, ids, limits, states, events, pages. No gRPC, no SQL."""
