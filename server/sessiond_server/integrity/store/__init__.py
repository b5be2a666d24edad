"""The feature's access to PostgreSQL."""
