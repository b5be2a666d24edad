"""The console's options, as its command line gives them."""

from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

DEFAULT_LISTEN = "localhost:8321"


@dataclass(frozen=True, slots=True)
class Options:
    """How one console runs."""

    target: str | None = None
    """HOST:PORT of the server. None = $SESSIOND_TARGET, or localhost:50051."""
    tls: bool | Path = False
    """TLS to the server: True = the system's authorities; a path = a PEM file of authorities."""
    listen: str = DEFAULT_LISTEN
    """HOST:PORT to serve pages on."""
    hosts: tuple[str, ...] = ()
    """Names under which browsers reach the console, besides localhost and the address."""
    read_only: bool = False
    """Whether to refuse everything that changes something."""
    is_secure: bool = False
    """Whether browsers reach the console over HTTPS only, so that cookies are for HTTPS only."""
    timeout_s: float = 30.0
    """Deadline of a call to the server, in seconds."""
    allowed_hosts: frozenset[str] = field(init=False)
    """Host names that requests may have. A request with another name may be DNS rebinding."""

    def __post_init__(self) -> None:
        host = self.listen.rpartition(":")[0]
        given = {"localhost", "127.0.0.1", "[::1]", host, *self.hosts}
        wildcards = {"", "0.0.0.0", "[::]", "*"}  # noqa: S104 - these are refused
        found = frozenset(name.lower() for name in given - wildcards)
        object.__setattr__(self, "allowed_hosts", found)


def is_loopback(host: str) -> bool:
    """Return whether a host of an address is reachable from this machine only."""
    host = host.strip("[]").lower()
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
