"""What the calls raise, where programs look for it."""

from sessiond._acontext import AcontextError, APIError, TransportError

__all__ = ["APIError", "AcontextError", "TransportError"]
