"""Sends the requests of an upload."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import grpc
from grpc import aio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")

# The exceptions of a write to a call that has ended. They do not say why the call has ended. The
# response says so, unless gRPC has lost it (see status.py).
_ENDED_EARLY = (grpc.RpcError, aio.InternalError, asyncio.InvalidStateError)


async def send_until_ended(
    call: aio.StreamUnaryCall[_Request, _Response], requests: AsyncGenerator[_Request, None]
) -> None:
    """Send the requests, and return when all are sent, or when the call has ended.

    The next request may never come. So the requests are created in a task of their own, which the
    end of the call cancels.

    Args:
        call: the call.
        requests: the requests; the generator is closed at the end.

    Raises:
        Exception: any error raised by creating the requests.
    """
    sending = asyncio.create_task(_send(call, requests))

    def stop(_: object) -> None:
        sending.cancel()

    call.add_done_callback(stop)
    try:
        await asyncio.wait({sending})
        if not sending.cancelled():
            sending.result()
    finally:
        sending.cancel()
        await asyncio.wait({sending})
        await requests.aclose()  # If the task never began, it has not closed it.


async def _send(
    call: aio.StreamUnaryCall[_Request, _Response], requests: AsyncGenerator[_Request, None]
) -> None:
    try:
        async for request in requests:
            try:
                await call.write(request)
            except _ENDED_EARLY:
                return
        with suppress(*_ENDED_EARLY):
            await call.done_writing()
    finally:
        await requests.aclose()
