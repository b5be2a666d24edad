"""The certificates that connections to models trust."""

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sessiond_server.providers import tls
from sessiond_server.providers.routing import Models
from sessiond_server.providers.settings import ProviderSettings

KEYS = {"OPENAI_API_KEY": "sk-one", "ANTHROPIC_API_KEY": "sk-two", "GEMINI_API_KEY": "three"}


@pytest.fixture(autouse=True)
def _own_context() -> Iterator[None]:
    tls.read_certificates_again()
    yield
    tls.read_certificates_again()


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The arguments of each reading of certificates."""
    found, read = [], ssl.SSLContext.load_verify_locations

    def counted(context: ssl.SSLContext, *args: Any, **kwargs: Any) -> None:
        found.append((*args, *kwargs.values()))
        read(context, *args, **kwargs)

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", counted)
    return found


def certificate(file: Path, name: str) -> str:
    """Write a certificate for a name into a file; return the name."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not here to make a certificate")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "1", "-subj", f"/CN={name}"),
            *("-keyout", str(file.with_suffix(".key")), "-out", str(file)),
        ],
        check=True,
        capture_output=True,
    )
    return name


def trusted() -> list[str]:
    """Return the names of the certificates that connections to models trust."""
    found: list[Any] = tls.context().get_ca_certs()
    return [dict(pair for (pair,) in each["subject"])["commonName"] for each in found]


async def test_the_clients_of_all_providers_read_the_certificates_once(
    readings: list[tuple[Any, ...]],
) -> None:
    models = Models(environment=KEYS)
    models.prepare()
    for name in ("gpt-5", "claude-sonnet-4", "gemini-2.5-flash", "o1-pro"):
        assert models.route(name).provider.name != "echo"
    assert len(readings) == 1
    other = Models(environment=KEYS)
    other.prepare()
    assert len(readings) == 1
    await models.close()
    await other.close()


async def test_a_reload_reads_the_certificates_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "ca.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    first = certificate(file, "first")
    assert trusted() == [first]
    second = certificate(file, "second")
    assert trusted() == [first]
    models = Models(environment=KEYS)
    models.reload({"own": ProviderSettings(type="echo", models=("own-*",))})
    assert trusted() == [second]
    await models.close()


def test_the_variables_of_the_process_name_the_certificates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        file = tmp_path / f"{name}.pem"
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        written = certificate(file, name)
        assert trusted() == [written]
