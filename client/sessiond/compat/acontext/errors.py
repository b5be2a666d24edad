"""The errors of the calls, under the SDK's module name."""

from sessiond.compat.acontext._types import AcontextError, APIError, TransportError

__all__ = ["APIError", "AcontextError", "TransportError"]
