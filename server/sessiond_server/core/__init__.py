"""What all features share: errors, ids, limits, states, events, pages. No gRPC, no SQL."""
