"""Targets of clients, and the delays between attempts."""

import pytest

import sessiond
from sessiond import errors
from sessiond._protocol import retry as _retry


def test_targets() -> None:
    assert sessiond.Client().target == "localhost:50051"
    assert sessiond.Client("db.example.com").target == "db.example.com:50051"
    assert sessiond.Client("[::1]:9").target == "[::1]:9"
    with pytest.raises(ValueError, match="not a URL"):
        sessiond.Client("https://db.example.com:50051")
    with pytest.raises(ValueError, match="api_key"):
        sessiond.Client(api_key="a\nb")
    with pytest.raises(FileNotFoundError):
        sessiond.Client(tls="/nowhere/ca.pem")


def test_delays() -> None:
    error = errors.ServerDraining("x", retry_after=2.0)
    retry = _retry.CallRetry(None)
    for _ in range(10 * _retry.MIN_ATTEMPTS):
        delay = retry.delay_after(error)
        assert delay is not None
        assert 2.0 <= delay <= 2.0 + _retry.MAX_DELAY_S
    assert _retry.CallRetry(1.0).delay_after(error) is None
    assert _retry.CallRetry(None).delay_after(errors.DeadlineExceeded("x")) is None
    assert _retry.CallRetry(None).delay_after(errors.InternalError("Received RST_STREAM")) is None


def test_a_stream_that_has_delivered_is_given_time_to_restart() -> None:
    error = errors.ServerUnavailable("x")
    stream = _retry.StreamRetry(None)
    stream.progress()
    # Far more failures than MIN_ATTEMPTS, but all within a moment.
    assert all(stream.delay_after(error) is not None for _ in range(10 * _retry.MIN_ATTEMPTS))
