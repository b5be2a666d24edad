"""Fixtures of the tests of metrics."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def certificate(tmp_path: Path) -> Callable[[int], Path]:
    """A function that makes a self-signed certificate that is valid for a number of days."""

    def make(days: int) -> Path:
        pem = tmp_path / f"cert-{days}.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", str(days),
             "-subj", "/CN=localhost", "-keyout", tmp_path / "key.pem", "-out", pem],
            check=True, capture_output=True,
        )  # fmt: skip
        return pem

    return make
