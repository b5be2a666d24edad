"""The Alembic environment: forward-only migrations, safe while the previous version serves."""
