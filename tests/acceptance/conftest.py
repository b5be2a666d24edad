"""What the acceptance tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.embedded import end_postgres


@pytest.fixture
def crash_dir(data_dir: Path) -> Iterator[Path]:
    """A data directory whose server may be killed: a PostgreSQL that is left behind ends with the test.

    Tests name it before start_server, so that it outlives the servers.
    """
    yield data_dir
    end_postgres(data_dir)
