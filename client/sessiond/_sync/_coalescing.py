"""Sends each StoreMessages call alone, because threads have no event loop to gather calls in.

The async twin is sessiond/_async/_coalescing.py. Both are written by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from sessiond.v1.session_service_pb2_grpc import SessionServiceStub


class Coalescer:
    """`StoreMessages` of a stub."""

    def __init__(self, sessions: SessionServiceStub, watch: Callable[[grpc.Call], None]) -> None:
        del watch
        self.call = sessions.StoreMessages

    def close(self) -> None:
        """Do nothing."""
