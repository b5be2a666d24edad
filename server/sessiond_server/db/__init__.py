"""The database: pool, schema, migrations, and the SQL that all features share."""
