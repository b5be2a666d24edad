"""A large asset through a real server, stored in a directory and in S3.

The client and the server need bounded memory, and the asset is removed with its last session.
"""

import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from sessiond import AssetNotFound, Client

from ..support.processes import ServerProcess
from ..support.s3 import BUCKET, s3_server
from ..support.waiting import until
from .test_streaming import peak_bytes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SIZE = 200 * 1024 * 1024
MEBIBYTE = 1024 * 1024
# The server buffers the parts that it uploads, and gRPC buffers a window of each stream. Both
# together are far smaller than the asset.
MAX_SERVER_GROWTH_BYTES = 80 * MEBIBYTE
MAX_CLIENT_GROWTH_BYTES = 64 * MEBIBYTE

# A program that uploads and downloads, and prints its peak memory. It connects before it measures.
CLIENT = """
import psutil, sys
from pathlib import Path
from sessiond import Client

def peak():
    status = Path("/proc/self/status")
    if not status.exists():
        return psutil.Process().memory_info().rss
    lines = dict(line.split(":") for line in status.read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) * 1024

target, source, saved = sys.argv[1:]
with Client(target) as client:
    client.assets.read(client.assets.upload(b"small").asset_id)
    before = peak()
    asset = client.assets.upload(source)
    uploaded = peak()
    client.assets.save(asset.asset_id, saved)
    saved = peak()
print(asset.asset_id, before, uploaded, saved)
"""


def hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def logs_to_purge(database_url: str) -> int:
    with psycopg.connect(database_url) as connection:
        return connection.execute("SELECT count(*) FROM dead_logs").fetchall()[0][0]  # type: ignore[no-any-return]


@pytest.fixture(params=["local", "s3"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[dict[str, str], Callable[[], list[str]]]]:
    """The server's variables, and a function that lists what is in the store."""
    if request.param == "local":
        directory = tmp_path / "assets"
        yield (
            {"SESSIOND_ASSET_STORE": directory.as_uri()},
            lambda: [str(path) for path in directory.rglob("*") if path.is_file()],
        )
        return
    with s3_server() as s3:
        yield (
            {"SESSIOND_ASSET_STORE": f"s3://{BUCKET}/kept", **s3.environment},
            lambda: s3.keys() + s3.uploads(),
        )


def test_a_large_asset_needs_bounded_memory_and_goes_with_its_last_session(
    database_url: str,
    start_server: Callable[..., ServerProcess],
    store: tuple[dict[str, str], Callable[[], list[str]]],
    tmp_path: Path,
) -> None:
    environment, everything = store
    source, saved = tmp_path / "large.bin", tmp_path / "saved.bin"
    with source.open("wb") as file:
        for number in range(SIZE // MEBIBYTE):
            # Nothing repeats, so that a piece in the wrong place changes the hash.
            file.write(hashlib.shake_256(str(number).encode()).digest(MEBIBYTE))
    server = start_server(
        SESSIOND_DATABASE_URL=database_url,
        SESSIOND_ASSET_GRACE_S="0",
        SESSIOND_PURGE_INTERVAL_S="3600",
        **environment,
    )
    process = psutil.Process(server.process.pid)
    with Client(server.target) as client:
        client.assets.read(client.assets.upload(b"small").asset_id)
    before = process.memory_info().rss
    assert peak_bytes(process) - before < MAX_SERVER_GROWTH_BYTES / 2, (
        "the start itself takes so much that the peak would hide the rest"
    )
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, server.target, source, saved],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    asset_id, *figures = done.stdout.split()
    client_before, client_uploaded, client_saved = map(int, figures)
    growth = peak_bytes(process) - before
    print(
        f"server: {before >> 20} MiB before, {growth >> 20} MiB more; client: "
        f"{client_before >> 20} MiB before, {client_uploaded - client_before >> 20} MiB more after "
        f"the upload, {client_saved - client_before >> 20} MiB after the download"
    )
    assert asset_id == hash_of(source) == hash_of(saved)
    assert growth < MAX_SERVER_GROWTH_BYTES
    assert client_saved - client_before < MAX_CLIENT_GROWTH_BYTES
    assert server.terminate() == 0

    # A server that purges and sweeps all the time keeps the asset while a session refers to it.
    with_sessions = start_server(
        SESSIOND_DATABASE_URL=database_url,
        SESSIOND_ASSET_GRACE_S="3600",
        SESSIOND_PURGE_INTERVAL_S="3600",
        **environment,
    )
    with Client(with_sessions.target) as client:
        session = client.create_session("one")
        picture = {"type": "image_url", "image_url": {"url": f"sessiond-asset:{asset_id}"}}
        session.store_message({"role": "user", "content": [picture]})
        session.copy("two")
    assert with_sessions.terminate() == 0
    sweeping = start_server(
        SESSIOND_DATABASE_URL=database_url,
        SESSIOND_ASSET_GRACE_S="0",
        SESSIOND_PURGE_INTERVAL_S="0.05",
        **environment,
    )
    with Client(sweeping.target) as client:
        until(lambda: len(everything()) == 1, "the small asset, which nothing refers to, was swept")
        client.delete_session("one")
        until(lambda: not logs_to_purge(database_url), "the source was purged")
        assert client.assets.get(asset_id).size == SIZE
        client.delete_session("two")
        until(lambda: not everything(), "the asset went with its last session")
        with pytest.raises(AssetNotFound):
            client.assets.get(asset_id)
