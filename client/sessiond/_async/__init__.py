"""The async client, from which scripts/generate-sync-client generates the sync one."""
