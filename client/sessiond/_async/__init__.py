"""The async client; the source of the sync one, which scripts/generate-sync-client makes from it."""
