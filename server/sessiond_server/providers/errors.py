"""Converts errors of providers to ModelFault.

The errors arrive as an HTTP status, as an error event in the stream, or as an exception of the SDK
or the network.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from sessiond_server.dialects.request import FittedRequest
from sessiond_server.providers.base import ModelFault
from sessiond_server.providers.rejections import explain, seqs_of

MAX_DETAIL_CHARACTERS = 500
MAX_RETRY_AFTER_S = 30 * 86_400.0
# Strings that look like a key: a provider may quote the key that it rejects.
_KEY = re.compile(r"\b(?:sk|gsk|xai)-[\w*.-]{8,}|\bgsk_\w{8,}|\bAIza[\w-]{16,}|(?<=Bearer )\S+")
# Codes of errors that arrive in the stream, after HTTP status 200, and their equivalent status.
_STATUS_OF_CODE = {
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "billing_error": 402,
    "invalid_request_error": 400,
    "invalid_prompt": 400,
    "context_length_exceeded": 400,
    "not_found_error": 404,
    "model_not_found": 404,
    "request_too_large": 413,
    "overloaded_error": 529,
    "server_is_overloaded": 503,
    "timeout_error": 504,
    "api_error": 500,
    "server_error": 500,
}


class ProviderFault(ModelFault):
    """A ModelFault caused by a provider.

    Attributes:
        is_transient: whether the same request may succeed soon.
    """

    is_transient = False


@dataclass(frozen=True, slots=True)
class ProviderCall:
    """A call of a provider, with the details that its faults mention.

    Attributes:
        provider: name in the server's settings.
        model: the name that the provider uses.
        silence_timeout_s: maximum time without data from the provider, in seconds.
        key: the provider's key, which is removed from error texts.
        fitted: the request, used to explain a rejection. None = not created yet.
    """

    provider: str
    model: str
    silence_timeout_s: float
    key: str | None = None
    fitted: FittedRequest | None = None

    def fault(
        self, reason: str, text: str, *, is_transient: bool = False, **metadata: object
    ) -> ProviderFault:
        """Create a fault of this call. Its message is the provider's name followed by the text."""
        retry_after_s = metadata.get("retry_after_s")
        fault = ProviderFault(
            reason,
            f"{self.provider} {text}",
            metadata={"model": self.model, "provider": self.provider} | metadata,
            retry_after_s=retry_after_s if isinstance(retry_after_s, float) else None,
        )
        fault.is_transient = is_transient
        return fault

    def interrupted(self) -> ProviderFault:
        """Create the fault for a stream that ended before the answer was complete."""
        return self.fault(
            "MODEL_UNAVAILABLE", "broke off before the end of its answer", is_transient=True
        )

    def invalid(self, text: str) -> ProviderFault:
        return self.fault("MODEL_ANSWER_INVALID", text)

    @contextmanager
    def translated(self, sdk: Any) -> Iterator[None]:
        """Convert the exceptions of the SDK and of its HTTP client to ProviderFault.

        Args:
            sdk: the module openai or anthropic. Both use the same names for exceptions.
        """
        import httpx2

        try:
            yield
        except (sdk.APITimeoutError, httpx2.TimeoutException) as e:
            fault = self._timeout_fault(e.__cause__ or e)
        except (sdk.APIConnectionError, httpx2.RequestError) as e:
            fault = self._connection_fault(e.__cause__ or e)
        except sdk.APIStatusError as e:
            status = e.status_code
            fault = (
                self.stream_fault(e.body)
                if status < 400
                else self.status_fault(status, e.body, e.response.headers)
            )
        except sdk.APIError as e:
            fault = self.stream_fault(e.body)
        except (json.JSONDecodeError, UnicodeDecodeError):
            fault = self.invalid("sent invalid JSON")
        except RecursionError:
            fault = self.invalid("sent JSON that is nested too deeply")
        else:
            return
        # The SDK's exception, which holds the request and thereby the key, is not chained.
        raise fault from None

    def _timeout_fault(self, error: BaseException) -> ProviderFault:
        import httpx2

        if isinstance(error, httpx2.ConnectTimeout | httpx2.PoolTimeout):
            return self._connection_fault(error)
        return self.fault(
            "MODEL_TIMED_OUT",
            f"was silent for {self.silence_timeout_s:g} seconds",
            timeout_s=self.silence_timeout_s,
        )

    def _connection_fault(self, error: BaseException) -> ProviderFault:
        detail = f"{type(error).__name__}: {self._clean(str(error))}".removesuffix(": ")
        return self.fault(
            "MODEL_UNAVAILABLE",
            f"cannot be reached, or broke off the connection ({detail})",
            is_transient=True,
        )

    def rejected(self, text: str, *told: object, **metadata: int | str) -> ProviderFault:
        """Create the fault for a rejected request, with the seqs of the messages concerned.

        Args:
            text: what happened.
            told: the provider's statements, which may refer to messages by their position.
            metadata: metadata of the fault.
        """
        seqs = seqs_of(self.fitted, *told)
        if seqs:
            metadata["seqs"] = ",".join(map(str, seqs))
        explained = explain(seqs, self.fitted.report) if self.fitted else ""
        return self.fault(
            "MODEL_REQUEST_REJECTED", text + explained, is_transient=False, **metadata
        )

    def status_fault(self, status: int, body: object, headers: Mapping[str, str]) -> ProviderFault:
        """Create the fault for an HTTP error."""
        detail = self._detail(body)
        # Gemini rejects a wrong key with HTTP 400.
        if status in (401, 403) or "API_KEY_INVALID" in _details_of(body, "reason"):
            return self.fault(
                "MODEL_ACCESS_DENIED",
                f"rejected the server's API key (HTTP {status}){detail}",
                http_status=status,
            )
        if status == 429:
            after = retry_after_s(headers)
            if after is None:
                after = _seconds(next(iter(_details_of(body, "retryDelay")), ""))
            metadata = {"http_status": status} | ({} if after is None else {"retry_after_s": after})
            # A used-up quota does not recover within seconds.
            is_transient = "insufficient_quota" not in codes_of(body)
            return self.fault(
                "MODEL_RATE_LIMITED",
                f"limited the rate (HTTP 429){detail}",
                is_transient=is_transient,
                **metadata,
            )
        # 408 and 409 (a lock held by another request) are transient, not faults of the request.
        if 400 <= status < 500 and status not in (408, 409):
            error = _error_of(body)
            told = [error.get("message"), error.get("param")] if isinstance(error, dict) else []
            return self.rejected(
                f"rejected the request (HTTP {status}){detail}", *told, http_status=status
            )
        return self.fault(
            "MODEL_UNAVAILABLE",
            f"failed (HTTP {status}){detail}",
            is_transient=True,
            http_status=status,
        )

    def stream_fault(self, body: object) -> ProviderFault:
        """Create the fault for an error event in the stream."""
        codes = codes_of(body)
        status = next((_STATUS_OF_CODE[code] for code in codes if code in _STATUS_OF_CODE), None)
        # Gateways report the status of the underlying provider.
        status = status or next(
            (int(code) for code in codes if re.fullmatch("[45][0-9][0-9]", code)), None
        )
        if status:
            return self.status_fault(status, body, {})
        return self.fault(
            "MODEL_UNAVAILABLE", f"failed while answering{self._detail(body)}", is_transient=True
        )

    def _detail(self, body: object) -> str:
        error = _error_of(body)
        text = error.get("message") or error.get("detail") if isinstance(error, dict) else error
        text = self._clean(text if isinstance(text, str) else "")
        return f": {text}" if text else ""

    def _clean(self, text: str) -> str:
        if self.key:
            text = text.replace(self.key, "***")
        text = " ".join(_KEY.sub("***", text).split())
        return text if len(text) <= MAX_DETAIL_CHARACTERS else text[:MAX_DETAIL_CHARACTERS] + "…"


def _error_of(body: object) -> object:
    """Return the error in a body: {"error": {...}}, or the object that the SDK extracted."""
    return body.get("error") or body if isinstance(body, dict) else body


def _details_of(body: object, key: str) -> list[str]:
    """Return the values of a key in the details of an error from a Google API."""
    error = _error_of(body)
    details = error.get("details") if isinstance(error, dict) else None
    return [
        str(detail[key])
        for detail in (details if isinstance(details, list) else ())
        if isinstance(detail, dict) and detail.get(key)
    ]


def _seconds(duration: str) -> float | None:
    """Parse a duration from a Google API, such as "34.5s"."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)s", duration)
    return _bounded(float(match[1])) if match else None


def codes_of(body: object) -> list[str]:
    """Return the codes by which a provider classifies an error, the most specific first."""
    error = _error_of(body)
    return (
        [str(error[key]) for key in ("code", "type") if error.get(key)]
        if isinstance(error, dict)
        else []
    )


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the seconds after which the headers allow a retry. None = not given."""
    try:
        if milliseconds := headers.get("retry-after-ms"):
            return _bounded(float(milliseconds) / 1000)
        if not (given := headers.get("retry-after", "").strip()):
            return None
        if given.replace(".", "", 1).isdecimal():
            return _bounded(float(given))
        time = parsedate_to_datetime(given)
    except (ValueError, OverflowError):
        return None
    return _bounded(
        ((time if time.tzinfo else time.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds()
    )


def _bounded(seconds: float) -> float | None:
    """Limit a wait to a useful range. None for infinity and NaN."""
    return min(max(0.0, seconds), MAX_RETRY_AFTER_S) if math.isfinite(seconds) else None


def count_of(counts: object, *path: str) -> int:
    """Return a count that a provider reports. 0 = missing or not a number."""
    for key in path:
        counts = counts.get(key) if isinstance(counts, dict) else None
    return (
        counts
        if isinstance(counts, int) and not isinstance(counts, bool) and 0 <= counts < 2**63
        else 0
    )
