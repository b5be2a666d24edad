"""Counts of the calls of each method."""

import grpc

from sessiond_server.telemetry import metrics
from sessiond_server.telemetry.metrics import count


class CallFigures:
    """The metrics of one method, found once when the handlers are built.

    Args:
        service: full name of the service.
        method: name of the method.
        kind: "unary", "client_stream" or "server_stream".

    Attributes:
        name: SERVICE/METHOD.
    """

    __slots__ = ("_handled", "_handling", "_labels", "_received", "_sent", "_started", "name")

    def __init__(self, service: str, method: str, kind: str) -> None:
        self.name = f"{service}/{method}"
        self._labels = (kind, service, method)
        self._started = metrics.STARTED.labels(*self._labels)
        self._received = metrics.RECEIVED.labels(*self._labels)
        self._sent = metrics.SENT.labels(*self._labels)
        self._handling = metrics.Tally(metrics.HANDLING.labels(*self._labels))
        self._handled = {"OK": metrics.HANDLED.labels(*self._labels, "OK")}

    def started(self) -> None:
        """Count a call that has begun."""
        count(self._started)

    def received(self) -> None:
        """Count a message from the client."""
        count(self._received)

    def sent(self) -> None:
        """Count a message to the client."""
        count(self._sent)

    def ended(self, code: grpc.StatusCode, took_s: float) -> None:
        """Count a call that has ended."""
        handled = self._handled.get(code.name)
        if handled is None:
            handled = metrics.HANDLED.labels(*self._labels, _CODES[code])
            self._handled[code.name] = handled
        count(handled)
        self._handling.observe(took_s)


# The spelling of go-grpc-middleware: OK, and CamelCase for all other codes.
_CODES = {
    code: code.name if code is grpc.StatusCode.OK else code.name.title().replace("_", "")
    for code in grpc.StatusCode
}
_CODES[grpc.StatusCode.CANCELLED] = "Canceled"
