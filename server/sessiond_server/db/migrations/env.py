"""Alembic's entry point, which runs on the connection that `migrate.upgrade` holds."""

from alembic import context

from sessiond_server.db.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
