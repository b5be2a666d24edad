"""What the calls raise, where programs look for it."""

from sessiond.compat.acontext._types import AcontextError, APIError, TransportError

__all__ = ["APIError", "AcontextError", "TransportError"]
