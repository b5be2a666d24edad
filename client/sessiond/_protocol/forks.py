"""Forks. A child process inherits its parent's connections, and perhaps a broken gRPC.

gRPC survives a fork if no thread is executing its code. While a channel of `grpc.aio` is open, a
thread of gRPC always executes it. That thread does not exist in the child: calls hang, or the
process is aborted.
"""

from __future__ import annotations

import os
from weakref import WeakSet

from sessiond.errors import ClientForked

generation = 0
"""Number of forks between the first process that imported this module and this one."""

# Channels of grpc.aio that are open in this process.
_channels: WeakSet[object] = WeakSet()
# Channels that this process inherited. They are never freed: freeing one would tell the server, on
# the parent's connection, that the connection ends.
_inherited: list[object] = []
_is_broken = False


def opened(channel: object) -> None:
    """Record that a channel of grpc.aio is open.

    Raises:
        ClientForked: if grpc.aio does not work in this process.
    """
    check()
    _channels.add(channel)


def closed(channel: object) -> None:
    """Record that a channel of grpc.aio is closed."""
    _channels.discard(channel)


def check() -> None:
    """Check that grpc.aio works in this process.

    Raises:
        ClientForked: if grpc.aio does not work.
    """
    if _is_broken:
        raise ClientForked(
            "this process was forked while an AsyncClient was open in its parent, and gRPC does "
            'not work in such a child: start processes with the method "spawn" or "forkserver", '
            "or close the clients before the fork, or open the first one in the child"
        )


def keep(channel: object) -> None:
    """Keep an inherited channel from being freed."""
    _inherited.append(channel)


def _in_child() -> None:
    global generation, _is_broken  # noqa: PLW0603 - the state of the process
    generation += 1
    if open_channels := list(_channels):
        _is_broken = True
        _inherited.extend(open_channels)
        _channels.clear()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_in_child)
