"""A server that speaks S3's protocol, on a free port of the loopback."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.request import Request, urlopen
from xml.etree import ElementTree

from moto.server import ThreadedMotoServer

BUCKET = "bucket"


@dataclass
class S3:
    """A running server with one empty bucket."""

    endpoint: str
    server: ThreadedMotoServer

    @property
    def environment(self) -> dict[str, str]:
        """The variables that an operator would set."""
        return {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint,
        }

    def keys(self) -> list[str]:
        """The keys of all objects."""
        return sorted(self._texts("list-type=2", "Key"))

    def uploads(self) -> list[str]:
        """The keys of multipart uploads that were neither finished nor aborted."""
        return sorted(self._texts("uploads", "Key"))

    def reset(self) -> None:
        """Empty the server and create the bucket again."""
        self._ask("POST", "/moto-api/reset")
        self._ask("PUT", f"/{BUCKET}")

    def stop(self) -> None:
        """Stop the server, as an outage does."""
        self.server.stop()

    def _texts(self, query: str, tag: str) -> list[str]:
        root = ElementTree.fromstring(self._ask("GET", f"/{BUCKET}?{query}"))  # noqa: S314 - our own server's
        return [
            element.text or "" for element in root.iter() if element.tag.rpartition("}")[2] == tag
        ]

    def _ask(self, method: str, path: str) -> bytes:
        # Unsigned: moto does not check.
        with urlopen(Request(self.endpoint + path, method=method)) as answer:  # noqa: S310 - http, as the line above says
            return bytes(answer.read())


@contextmanager
def s3_server() -> Iterator[S3]:
    """Run an S3 server until the end of the block."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    s3 = S3(f"http://{host}:{port}", server)
    s3.reset()
    try:
        yield s3
    finally:
        server.stop()
