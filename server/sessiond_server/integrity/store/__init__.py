"""Access to PostgreSQL for the checks and the backups."""
