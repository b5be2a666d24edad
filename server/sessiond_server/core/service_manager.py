"""Reports to systemd (sd_notify) that the service is ready, stopping, or still responsive.

Outside a unit of Type=notify, this does nothing.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from sessiond_server.core.cancellation import cancel_all

SOCKET_VARIABLE = "NOTIFY_SOCKET"


def notify(state: str) -> None:
    """Send assignments such as "READY=1" to the service manager."""
    address = os.environ.get(SOCKET_VARIABLE, "")
    if not address:
        return
    if address.startswith("@"):  # a socket in Linux's abstract namespace
        address = "\0" + address[1:]
    # A service manager that does not listen must not end the server, nor hold its event loop.
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.connect(address)
        sender.send(state.encode())


@asynccontextmanager
async def watched_over() -> AsyncIterator[Callable[[], None]]:
    """Send signs of life to the service manager's watchdog, if it has one, while the loop runs.

    Yields:
        A function that reports that the service is ready. The watchdog starts with this report:
        earlier signs of life would only fill the socket's queue, so that the report could be lost.
    """
    interval_s = watchdog_s() / 3
    is_ready = asyncio.Event()
    tasks = [asyncio.create_task(_beat(is_ready, interval_s))] if interval_s else []

    def on_ready() -> None:
        notify("READY=1")
        is_ready.set()

    try:
        yield on_ready
    finally:
        await cancel_all(tasks)


def watchdog_s() -> float:
    """Return the time after which the watchdog ends this process, in seconds; 0 = it does not."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    try:
        return max(int(os.environ.get("WATCHDOG_USEC", "0")), 0) / 1e6
    except ValueError:
        return 0.0


async def _beat(is_ready: asyncio.Event, interval_s: float) -> None:
    await is_ready.wait()
    while True:
        notify("WATCHDOG=1")
        await asyncio.sleep(interval_s)
