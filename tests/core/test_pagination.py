"""Page tokens."""

import os
import subprocess
import sys

from sessiond.v1.session_service_pb2 import ListSessionsRequest

# A program that prints the fingerprint of a listing.
FINGERPRINT = """
import sys
from uuid import UUID
from sessiond.v1.session_service_pb2 import ListSessionsRequest
from sessiond_server.core.pagination import fingerprint
from sessiond_server.rpc.conversions import session_filter
from sessiond_server.sessions.store.listing import Listing
request = ListSessionsRequest.FromString(bytes.fromhex(sys.argv[1]))
listing = Listing(session_filter(request, UUID(int=1)), "active_desc", 0)
print(fingerprint("sessions", listing))
"""


def test_every_process_accepts_the_page_tokens_of_the_others() -> None:
    """The order of protobuf maps and Python's hashes differ between processes."""
    request = ListSessionsRequest()
    request.filter.metadata_contains.update({f"key-{i}": {"a": i, "b": i} for i in range(10)})
    encoded = request.SerializeToString(deterministic=True).hex()
    processes = [
        subprocess.run(
            [sys.executable, "-c", FINGERPRINT, encoded],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        )
        for seed in range(1, 4)
    ]
    assert len({process.stdout for process in processes}) == 1
