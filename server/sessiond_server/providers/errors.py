"""What goes wrong at a provider, as ModelFault: by HTTP status, by its own words in the stream, by what the SDK and the network raise."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from sessiond_server.providers.base import ModelFault

MAX_DETAIL_CHARACTERS = 500
MAX_RETRY_AFTER_S = 30 * 86_400.0
# What looks like a key: a provider may quote the one that it refuses.
_KEY = re.compile(r"\b(?:sk|gsk|xai)-[\w*.-]{8,}|\bgsk_\w{8,}|(?<=Bearer )\S+")
# The words for errors that come in the stream, where the HTTP status was 200 already: the statuses that they would have had.
_STATUS_OF_WORDS = {
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "billing_error": 402,
    "invalid_request_error": 400,
    "context_length_exceeded": 400,
    "not_found_error": 404,
    "model_not_found": 404,
    "request_too_large": 413,
    "overloaded_error": 529,
    "timeout_error": 504,
    "api_error": 500,
    "server_error": 500,
}


class ProviderFault(ModelFault):
    """A ModelFault of a provider. is_passing: the same request may succeed in a moment."""

    is_passing = False


@dataclass(frozen=True, slots=True)
class ProviderCall:
    """Who was asked what, for faults.

    Args:
        key: the provider's, that it may be kept out of texts.
    """

    provider: str
    model: str
    silence_timeout_s: float
    key: str | None = None

    def fault(
        self, reason: str, text: str, *, is_passing: bool = False, **metadata: object
    ) -> ProviderFault:
        """A fault of this call. text: goes on from the provider's name."""
        retry_after_s = metadata.get("retry_after_s")
        fault = ProviderFault(
            reason,
            f"{self.provider} {text}",
            metadata={"model": self.model, "provider": self.provider} | metadata,
            retry_after_s=retry_after_s if isinstance(retry_after_s, float) else None,
        )
        fault.is_passing = is_passing
        return fault

    def broken_off(self) -> ProviderFault:
        """The stream ended before the answer did."""
        return self.fault(
            "MODEL_UNAVAILABLE", "broke off before the end of its answer", is_passing=True
        )

    def invalid(self, text: str) -> ProviderFault:
        return self.fault("MODEL_ANSWER_INVALID", text)

    @contextmanager
    def translated(self, sdk: Any) -> Iterator[None]:
        """What the SDK and what is under it raise comes out as ProviderFault.

        Args:
            sdk: the module openai or anthropic, which name their exceptions alike.
        """
        import httpx2

        try:
            yield
        except (sdk.APITimeoutError, httpx2.TimeoutException) as e:
            fault = self._of_timeout(e.__cause__ or e)
        except (sdk.APIConnectionError, httpx2.RequestError) as e:
            fault = self._of_connection(e.__cause__ or e)
        except sdk.APIStatusError as e:
            status = e.status_code
            fault = (
                self._of_words(e.body)
                if status < 400
                else self._of_status(status, e.body, e.response.headers)
            )
        except sdk.APIError as e:
            fault = self._of_words(e.body)
        except (json.JSONDecodeError, UnicodeDecodeError):
            fault = self.invalid("sent what is not JSON")
        except RecursionError:
            fault = self.fault(
                "MODEL_REQUEST_REJECTED",
                "cannot be sent the history: a message is nested too deeply",
            )
        else:
            return
        # The exceptions of the SDKs hold the request, and so the key.
        raise fault from None

    def _of_timeout(self, error: BaseException) -> ProviderFault:
        import httpx2

        if isinstance(error, httpx2.ConnectTimeout | httpx2.PoolTimeout):
            return self._of_connection(error)
        return self.fault(
            "MODEL_TIMED_OUT",
            f"was silent for {self.silence_timeout_s:g} seconds",
            timeout_s=self.silence_timeout_s,
        )

    def _of_connection(self, error: BaseException) -> ProviderFault:
        detail = f"{type(error).__name__}: {self._clean(str(error))}".removesuffix(": ")
        return self.fault(
            "MODEL_UNAVAILABLE", f"cannot be reached, or broke off ({detail})", is_passing=True
        )

    def _of_status(self, status: int, body: object, headers: Mapping[str, str]) -> ProviderFault:
        detail = self._detail(body)
        if status in (401, 403):
            return self.fault(
                "MODEL_ACCESS_DENIED",
                f"refuses the server's key (HTTP {status}){detail}",
                http_status=status,
            )
        if status == 429:
            after = retry_after_s(headers)
            metadata = {"http_status": status} | ({} if after is None else {"retry_after_s": after})
            # A quota that is used up does not come back in seconds.
            is_passing = "insufficient_quota" not in words_of(body)
            return self.fault(
                "MODEL_RATE_LIMITED",
                f"limits the rate (HTTP 429){detail}",
                is_passing=is_passing,
                **metadata,
            )
        # 408 and 409 (a lock that others hold) are about the moment, not about the request.
        if 400 <= status < 500 and status not in (408, 409):
            return self.fault(
                "MODEL_REQUEST_REJECTED",
                f"does not take the request (HTTP {status}){detail}",
                http_status=status,
            )
        return self.fault(
            "MODEL_UNAVAILABLE",
            f"failed (HTTP {status}){detail}",
            is_passing=True,
            http_status=status,
        )

    def _of_words(self, body: object) -> ProviderFault:
        """An error in the stream."""
        words = words_of(body)
        status = next((_STATUS_OF_WORDS[word] for word in words if word in _STATUS_OF_WORDS), None)
        # Some say the status that the provider behind them had.
        status = status or next(
            (int(word) for word in words if re.fullmatch("[45][0-9][0-9]", word)), None
        )
        if status:
            return self._of_status(status, body, {})
        return self.fault(
            "MODEL_UNAVAILABLE", f"failed in its answer{self._detail(body)}", is_passing=True
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
    """The error in a body: {"error": {...}} of either API, or what the SDK took out of it already."""
    return body.get("error") or body if isinstance(body, dict) else body


def words_of(body: object) -> list[str]:
    """By which words a provider names an error, the most precise first."""
    error = _error_of(body)
    return (
        [str(error[key]) for key in ("code", "type") if error.get(key)]
        if isinstance(error, dict)
        else []
    )


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """When the provider will answer again, in seconds, by its headers. None = it does not say."""
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
    """Nobody waits for longer; and infinity, or what is no number, says nothing."""
    return min(max(0.0, seconds), MAX_RETRY_AFTER_S) if math.isfinite(seconds) else None


def count_of(counts: object, *path: str) -> int:
    """A count that a provider reports. 0 = it does not, or not as a number."""
    for key in path:
        counts = counts.get(key) if isinstance(counts, dict) else None
    return (
        counts
        if isinstance(counts, int) and not isinstance(counts, bool) and 0 <= counts < 2**63
        else 0
    )
