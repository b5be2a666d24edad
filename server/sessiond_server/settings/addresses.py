"""Addresses in settings: where the server listens, and where assets are stored."""

import ipaddress
from pathlib import Path
from urllib.parse import urlsplit


def listen_address(value: str) -> str:
    """Return an address to listen on.

    Raises:
        ValueError: if the value is neither HOST:PORT nor unix:PATH.
    """
    if value.startswith("unix:"):
        return value
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError("is not HOST:PORT, such as localhost:50051, 0.0.0.0:50051 or [::1]:50051")
    return value


def asset_store(value: str) -> str:
    """Return the location of an asset store.

    Raises:
        ValueError: if the value is neither an absolute path, nor a URL of a directory or a bucket.
    """
    url = urlsplit(value)
    match url.scheme:
        case "s3" if url.netloc and "@" not in url.netloc and not url.query and not url.fragment:
            return value
        case "file" if url.netloc in ("", "localhost") and url.path.startswith("/"):
            return value
        case _ if Path(value).is_absolute():
            return value
    raise ValueError("is none of /PATH, file:///PATH and s3://BUCKET/PREFIX")


def is_local(listen: str) -> bool:
    """Return whether an address can be reached only from this machine."""
    if listen.startswith("unix:"):
        return True
    host = listen.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
