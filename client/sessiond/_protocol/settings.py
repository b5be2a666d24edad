"""Where the server is and how to talk to it: parsed once, from arguments and environment."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import grpc

from sessiond._version import __version__

DEFAULT_TARGET = "localhost:50051"
DEFAULT_PORT = 50051
DEFAULT_TIMEOUT_S = 30.0

Tls: TypeAlias = bool | str | os.PathLike[str] | grpc.ChannelCredentials
ChannelOptions: TypeAlias = Mapping[str, Any] | Sequence[tuple[str, Any]]

# Names as in gRPC's own channel_arg_names.h: an unknown one is ignored without a word, so a test looks each up in the gRPC library.
CHANNEL_OPTIONS: dict[str, Any] = {
    # A peer that vanished is noticed while a call runs; the server lets clients ping every 10 seconds.
    "grpc.keepalive_time_ms": 30_000,
    "grpc.keepalive_timeout_ms": 10_000,
    "grpc.max_receive_message_length": 64 * 1024 * 1024,
    # The client tries again by itself, with a request_id and within the call's timeout; gRPC's own retries would multiply with that.
    "grpc.enable_retries": 0,
    # A channel that waits between connection attempts fails all calls meanwhile, so it must not wait longer than our retries do.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 2_000,
    # The connections of two clients in one process have nothing to do with each other, and neither have their failures.
    "grpc.use_local_subchannel_pool": 1,
    "grpc.primary_user_agent": f"sessiond-python/{__version__}",
}


@dataclass(frozen=True, slots=True)
class Settings:
    """One client's settings."""

    target: str
    """HOST:PORT, or another name that gRPC resolves."""
    timeout: float | None
    """Deadline of a call over all its attempts. Unit: seconds. None = none."""
    metadata: tuple[tuple[str, str], ...] = field(repr=False)
    """Sent with every call. Not shown: it holds the API key."""
    credentials: grpc.ChannelCredentials | None = field(repr=False)
    """None = plain text."""
    options: tuple[tuple[str, Any], ...]
    """gRPC channel arguments."""


def settings(
    target: str | None,
    api_key: str | None,
    timeout: float | None,
    tls: Tls,
    options: ChannelOptions | None,
) -> Settings:
    """The settings that arguments and environment give together; the arguments are documented at the clients.

    Raises: ValueError for a target or an API key that cannot be one, OSError for a certificate file that cannot be read.
    """
    key = (api_key if api_key is not None else os.environ.get("SESSIOND_API_KEY", "")).strip()
    if not key.isascii() or not key.isprintable():
        raise ValueError("the API key holds characters that no key has")
    return Settings(
        target=_target(target or os.environ.get("SESSIOND_TARGET") or DEFAULT_TARGET),
        timeout=timeout,
        metadata=(("authorization", f"Bearer {key}"),) if key else (),
        credentials=_credentials(tls),
        options=tuple({**CHANNEL_OPTIONS, **dict(options or {})}.items()),
    )


def _target(target: str) -> str:
    if re.match(r"(http|https|grpc|grpcs)://", target):
        raise ValueError(f'the target is HOST:PORT, not a URL: "{target}" (for TLS give tls=True)')
    # gRPC would take port 443, where no sessiond listens.
    return f"{target}:{DEFAULT_PORT}" if re.fullmatch(r"[A-Za-z0-9._-]+", target) else target


def _credentials(tls: Tls) -> grpc.ChannelCredentials | None:
    if isinstance(tls, grpc.ChannelCredentials):
        return tls
    if isinstance(tls, bool):
        return grpc.ssl_channel_credentials() if tls else None
    return grpc.ssl_channel_credentials(root_certificates=Path(tls).read_bytes())
