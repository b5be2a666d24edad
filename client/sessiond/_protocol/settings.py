"""The client's settings: target, credentials, timeout and channel options."""

import ipaddress
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import grpc

from sessiond._protocol.checks import path_of
from sessiond._protocol.retry import Deadline
from sessiond._version import __version__
from sessiond.errors import invalid_field

DEFAULT_TARGET = "localhost:50051"
DEFAULT_PORT = 50051
DEFAULT_TIMEOUT_S = 30.0

# sessiond's servers allow a connection 1,000 calls at once; many proxies allow 100. Further calls
# wait without an error. Streams may be open for days, so they take at most half of the 100.
STREAMS_A_CHANNEL = 50

Tls: TypeAlias = bool | str | os.PathLike[str] | grpc.ChannelCredentials
ChannelOptions: TypeAlias = Mapping[str, Any] | Sequence[tuple[str, Any]]

# Names are those of gRPC's channel_arg_names.h. gRPC silently ignores unknown names, so a test
# looks up each one in its library.
CHANNEL_OPTIONS: dict[str, Any] = {
    # Detects a peer that vanished during a call. The server allows a ping every 10 seconds.
    "grpc.keepalive_time_ms": 30_000,
    "grpc.keepalive_timeout_ms": 10_000,
    "grpc.max_receive_message_length": 64 * 1024 * 1024,
    # The client retries by itself, with a request_id and within the call's timeout. Retries by gRPC
    # would multiply the attempts.
    "grpc.enable_retries": 0,
    # All calls fail while a channel backs off, so it must not back off longer than our retries do.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 2_000,
    # Clients in one process must not share connections, and thus failures.
    "grpc.use_local_subchannel_pool": 1,
    "grpc.primary_user_agent": f"sessiond-python/{__version__}",
}


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """The settings of one client."""

    target: str
    """HOST:PORT, or another name that gRPC resolves."""
    timeout: float | None
    """Seconds for a call, over all its attempts. None = no deadline."""
    metadata: tuple[tuple[str, str], ...] = field(repr=False)
    """Metadata of every call. Left out of repr() because it holds the API key."""
    credentials: grpc.ChannelCredentials | None = field(repr=False)
    """Credentials for TLS. None = plain text."""
    options: tuple[tuple[str, Any], ...]
    """gRPC channel arguments."""


def settings(
    target: str | None,
    api_key: str | None,
    timeout: float | None,
    tls: Tls,
    options: ChannelOptions | None,
) -> ClientSettings:
    """Combine arguments, environment and defaults; the clients document the arguments.

    Raises:
        InvalidField: a value is malformed.
        OSError: the certificate file cannot be read.
    """
    key = _text(api_key if api_key is not None else os.environ.get("SESSIOND_API_KEY"), "api_key")
    key = key.strip()
    if not key.isascii() or not key.isprintable():
        raise invalid_field("api_key", "must consist of printable ASCII characters")
    Deadline(timeout)  # checks it
    address = _target(target or os.environ.get("SESSIOND_TARGET") or DEFAULT_TARGET)
    return ClientSettings(
        target=address,
        timeout=timeout,
        metadata=(("authorization", f"Bearer {key}"),) if key else (),
        credentials=_credentials(tls),
        options=tuple(
            {**CHANNEL_OPTIONS, **proxy_options(address), **_options(options or {})}.items()
        ),
    )


def proxy_options(target: str) -> dict[str, int]:
    """Return the channel options that keep calls to this machine away from a proxy.

    gRPC sends all calls to the proxy of the variables grpc_proxy, https_proxy and http_proxy,
    unless no_proxy names the host. A proxy does not reach this machine's loopback.
    """
    return {"grpc.enable_http_proxy": 0} if _is_local(target) else {}


def _is_local(target: str) -> bool:
    """Return whether a target, in any of gRPC's forms, is on the loopback or a Unix socket."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    scheme, _, rest = target.partition(":")
    addresses = rest.rpartition("/")[2] if scheme in ("dns", "ipv4", "ipv6") else target
    return all(_is_loopback(address) for address in addresses.split(","))


def _is_loopback(address: str) -> bool:
    bracketed = re.fullmatch(r"\[([^\]]*)\](:[^:]*)?", address)
    host = bracketed[1] if bracketed else re.sub(r"^([^:]*):[^:]*$", r"\1", address)
    if host.lower().rstrip(".") == "localhost" or host.lower().rstrip(".").endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _text(value: object, field: str) -> str:
    if value is not None and not isinstance(value, str):
        raise invalid_field(field, f"must be a string, not {type(value).__name__}")
    return value or ""


def _options(options: ChannelOptions) -> dict[str, Any]:
    try:
        given = dict(options)
    except (TypeError, ValueError) as error:
        raise invalid_field("options", f"must be a dict or a list of pairs: {error}") from None
    for name, value in given.items():
        if not isinstance(name, str) or not isinstance(value, int | str | bytes):
            raise invalid_field(
                f"options[{name!r}]", f"is {value!r:.60}; gRPC takes numbers and strings, by name"
            )
    return given


def _target(target: str) -> str:
    if re.match(r"(http|https|grpc|grpcs)://", _text(target, "target")):
        raise invalid_field(
            "target", f'must be HOST:PORT, not a URL: "{target}" (for TLS, pass tls=True)'
        )
    try:
        target.encode()
    except UnicodeEncodeError:
        raise invalid_field("target", f"is {target!r}; it must be HOST:PORT") from None
    # gRPC's default port is 443, where no sessiond listens.
    return f"{target}:{DEFAULT_PORT}" if re.fullmatch(r"[A-Za-z0-9._-]+", target) else target


def _credentials(tls: Tls) -> grpc.ChannelCredentials | None:
    if isinstance(tls, grpc.ChannelCredentials):
        return tls
    if isinstance(tls, bool):
        return grpc.ssl_channel_credentials() if tls else None
    path = Path(path_of(tls, "tls"))
    return grpc.ssl_channel_credentials(root_certificates=path.read_bytes())
