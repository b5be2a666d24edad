"""Everything of the feature that speaks to PostgreSQL."""
