"""The example program of each language. Each reads the messages of the others."""

import base64
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sessiond import Client

from ..support.processes import ServerProcess
from ..support.waiting import PATIENCE_S
from .programs import OTHERS, PROGRAMS, Program, encoded

HELLO = '{"role": "user", "content": "Hello"}'
PRINTED = [
    "created True",
    "stored at 1",
    "stored at 1",
    *encoded([HELLO]),
    "model: echo of 2 messages: How are you?",
    *encoded([HELLO]),
]
# Texts whose bytes a careless program would change: spacing, order of keys, numbers, escapes, and
# characters that are not in Latin-1, or that JSON libraries escape.
MESSAGES = [
    '{ "role" :\t"user",\n"content": "x" }',
    '{"role":"user","content":"\\u00e9 é 你好 👋 \\ud83d\\udc4b \\/ \\" \u2028 \u2029 \\u0000"}',
    '{"z":1.0,"role":"assistant","a":1.50E+2,"content":"<&>\'","n":12345678901234567890}',
    '{"role":"user","content":"' + "long " * 20_000 + '"}',
]


@pytest.fixture
def target(start_server: Callable[..., ServerProcess], database_url: str) -> str:
    return start_server(SESSIOND_DATABASE_URL=database_url).target


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for localhost that is its own authority, and its key."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = [
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
        *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
        # Rust's TLS library refuses an authority's certificate as the certificate of a server.
        *("-addext", "basicConstraints=critical,CA:FALSE"),
    ]
    try:
        subprocess.run(
            [*command, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True
        )
    except FileNotFoundError:
        pytest.skip("openssl is not here to make a certificate")
    return cert, key


def as_printed(lines: list[str]) -> list[str]:
    """Return the lines of a demonstration with booleans as Python writes them."""
    return ["created True" if line == "created true" else line for line in lines]


@pytest.mark.parametrize("program", OTHERS, ids=lambda program: program.language)
def test_the_example_does_what_it_says(program: Program, target: str) -> None:
    lines = as_printed(program.run(target))
    assert lines[:6] == PRINTED
    watched = [base64.b64decode(line).decode() for line in lines[6:8]]
    assert ["How are you?" in text for text in watched] == [True, True]
    assert lines[8:] == ["error: SESSION_NOT_FOUND"]


@pytest.mark.parametrize("program", OTHERS, ids=lambda program: program.language)
def test_the_example_works_with_tls_and_a_key(
    program: Program,
    start_server: Callable[..., ServerProcess],
    database_url: str,
    certificate: tuple[Path, Path],
) -> None:
    cert, key = certificate
    server = start_server(
        *("--tls-cert", str(cert), "--tls-key", str(key), "--require-keys"),
        *("--listen", "localhost:0"),
        SESSIOND_DATABASE_URL=database_url,
    )
    secret = made_key(database_url)
    printed = program.run(server.target, SESSIOND_CA=str(cert), SESSIOND_API_KEY=secret)
    assert as_printed(printed)[:6] == PRINTED
    refused = program.run(server.target, "reason", "x", SESSIOND_CA=str(cert))
    assert refused == ["API_KEY_MISSING"]


def made_key(database_url: str) -> str:
    """Return the secret of a new key of the default project."""
    made = subprocess.run(
        [sys.executable, "-m", "sessiond_server", "keys", "create", "--project", "default"],
        env=os.environ | {"SESSIOND_DATABASE_URL": database_url},
        check=True,
        capture_output=True,
        text=True,
    )
    [secret] = [word for word in made.stdout.split() if word.startswith("sk-sessiond-")]
    return secret


@pytest.mark.timeout(900)  # dozens of programs start, and a busy machine starts a JVM in seconds
def test_each_language_reads_and_watches_what_the_others_wrote(target: str) -> None:
    here = [program for program in PROGRAMS if program.built.exists()]
    if len(here) == 1:
        pytest.skip("no example is built; `make languages` builds them")
    written = encoded(MESSAGES)
    # A program of each language watches the session "shared" before anything is written to it.
    with Client(target) as client:
        client.create_session("shared")
    total = len(written) * len(here)
    watchers = [program.start(target, "watch", "shared", str(total)) for program in here]
    try:
        for program in here:
            program.run(target, "write", f"by-{program.language}", lines=written)
            program.run(target, "write", "shared", lines=written)
        for program in here:
            for writer in here:
                assert program.run(target, "read", f"by-{writer.language}") == written, (
                    f"{program.language} reads what {writer.language} wrote"
                )
            assert program.run(target, "reason", "no-such-session") == ["SESSION_NOT_FOUND"]
        for program, watcher in zip(here, watchers, strict=True):
            seen, complaints = watcher.communicate(timeout=PATIENCE_S)
            assert seen.splitlines() == written * len(here), f"{program.language}: {complaints}"
    finally:
        for watcher in watchers:
            watcher.kill()
            watcher.communicate()
