"""The Alembic environment: forward only, each step safe while the previous version still serves."""
