"""The command line as a process."""

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sessiond import Client, errors
from sessiond_server import logs
from sessiond_server.cli import COMMANDS, run
from sessiond_server.cli import client as cli_client
from sessiond_server.cli.errors import CommandError
from sessiond_server.db import migrate

from ..support.processes import ServerProcess

Here = Callable[..., subprocess.CompletedProcess[str]]


def sessiond(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SESSIOND_")}
    command = [sys.executable, "-m", "sessiond_server", *arguments]
    return subprocess.run(
        command, env=clean | environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Here:
    """Like `sessiond`, but in this process, which takes a tenth of the time of a new process."""
    monkeypatch.setattr(logs, "configure", lambda *_: None)

    def here(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            try:
                code = run([*arguments])
            except SystemExit as e:
                code = int(e.code or 0)
        return subprocess.CompletedProcess(arguments, code, *capsys.readouterr())

    return here


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "usage: sessiond"),
        (("nonsense",), "there is no command 'nonsense'"),
        (("serve", "--pool-size", "none"), "--pool-size (SESSIOND_POOL_SIZE)"),
        (("serve", "--listen", "nowhere"), "--listen (SESSIOND_LISTEN)"),
        (("serve", "--listen", "0.0.0.0:50051"), "--insecure allows it"),
        (("serve", "--listen", "0.0.0.0:50051", "--require-keys"), "--insecure allows it"),
        (("serve", "--tls-cert", "x.pem"), "--tls-cert and --tls-key must be set together"),
        (("serve", "--tls-cert", "/no/x.pem", "--tls-key", "/no/y.pem"), "cannot read /no/x.pem"),
        (("serve", "--database-url", "mysql://x/y"), "sessiond runs on PostgreSQL"),
        (("serve", "--config", "/no/file"), "/no/file is not a file"),
    ],
)
def test_wrong_usage_is_reported_in_one_line(arguments: tuple[str, ...], says: str) -> None:
    done = sessiond(*arguments)
    assert done.returncode == 2
    assert says in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_settings_come_from_flag_environment_and_file(tmp_path: Path) -> None:
    from sessiond_server import settings

    config = tmp_path / "sessiond.toml"
    config.write_text("pool_size = 3\nworkers = 2\nlog_level = 'error'\n")
    code = (
        "from sessiond_server import settings; s = settings.load(['--pool-size', '5']); "
        "print(s.pool_size, s.workers, s.log_level)"
    )
    environment = {"SESSIOND_CONFIG": str(config), "SESSIOND_WORKERS": "4"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["5", "4", "error"]
    hidden = settings.load(["--database-url", "postgresql://u:secret@h/d"]).redacted()
    assert "secret" not in str(hidden)


def test_a_missing_schema_is_reported_with_its_remedy(empty_database_url: str) -> None:
    done = sessiond("serve", "--listen", "127.0.0.1:0", SESSIOND_DATABASE_URL=empty_database_url)
    assert done.returncode == 1
    assert "run `sessiond migrate`" in done.stderr
    done = sessiond("migrate", SESSIOND_DATABASE_URL=empty_database_url)
    assert (done.returncode, done.stdout) == (0, f"empty -> {migrate.newest()}\n")
    assert (
        sessiond("migrate", SESSIOND_DATABASE_URL=empty_database_url).stdout
        == f"{migrate.newest()}: nothing to do\n"
    )


def test_an_unreachable_database_is_reported(tmp_path: Path) -> None:
    done = sessiond(
        "serve",
        "--listen",
        "127.0.0.1:0",
        SESSIOND_DATABASE_URL="postgresql://u:secret@127.0.0.1:1/none",
    )
    assert done.returncode == 1
    assert "cannot reach the database" in done.stderr
    assert "secret" not in done.stderr


def test_a_port_in_use_is_reported(
    start_server: Callable[..., ServerProcess], database_url: str
) -> None:
    server = start_server(SESSIOND_DATABASE_URL=database_url)
    for workers in ("1", "2"):
        done = sessiond(
            "serve",
            "--listen",
            server.target,
            "--workers",
            workers,
            SESSIOND_DATABASE_URL=database_url,
        )
        assert done.returncode == 1
        assert "cannot listen on" in done.stderr


def test_limits_of_a_project_are_set_and_shown_beside_what_is_used(
    here: Here, database_url: str
) -> None:
    environment = {"SESSIOND_DATABASE_URL": database_url, "SESSIOND_DEFAULT_LIMIT_MAX_BYTES": "9"}

    def projects(*arguments: str) -> subprocess.CompletedProcess[str]:
        return here("projects", *arguments, **environment)

    assert projects("limits", "default").stdout.count("default") == 6
    set_ = projects("limits", "default", "--set", "max-sessions=5", "--set", "calls-per-second=0")
    assert "max-sessions            5" in set_.stdout
    assert "calls-per-second        no limit" in set_.stdout
    kept = json.loads(projects("limits", "default", "--unset", "calls-per-second", "--json").stdout)
    assert (kept["max_sessions"], kept["calls_per_second"]) == (5, None)
    usage = json.loads(projects("usage", "default", "--json").stdout)
    assert usage["max_sessions"] == {"used": 0, "limit": 5}
    assert usage["max_bytes"] == {"used": 0, "limit": 9}
    assert "of 5" in projects("usage", "default").stdout
    for wrong in ("sessions=5", "max-sessions=-1"):
        refused = projects("limits", "default", "--set", wrong)
        assert (refused.returncode, "max-sessions" in refused.stderr) == (2, True)
    assert "no project 'none'" in projects("limits", "none").stderr


def test_projects_are_listed_and_deleted(here: Here, database_url: str) -> None:
    environment = {"SESSIOND_DATABASE_URL": database_url}
    for name in ("acme", "shop"):
        here("keys", "create", "--project", name, **environment)
    listed = json.loads(here("projects", "list", "--json", **environment).stdout)
    assert [project["name"] for project in listed] == ["acme", "default", "shop"]
    asked = here("projects", "delete", "acme", **environment)
    assert (asked.returncode, "add --yes to delete it" in asked.stderr) == (2, True)
    gone = here("projects", "delete", "acme", "--yes", **environment)
    assert (gone.returncode, gone.stdout.split(";")[0]) == (0, "project acme is deleted")
    assert "acme" not in here("projects", "list", **environment).stdout
    missing = here("projects", "delete", "none", "--yes", **environment)
    assert (missing.returncode, "none" in missing.stderr) == (1, True)
    default = here("projects", "delete", "default", "--yes", **environment)
    assert (default.returncode, "cannot be deleted" in default.stderr) == (1, True)
    allowed = here("projects", "delete", "none", "--yes", "--allow-missing", **environment)
    assert allowed.returncode == 0


def test_keys_from_creation_to_revocation(
    start_server: Callable[..., ServerProcess], here: Here, database_url: str
) -> None:
    environment = {"SESSIOND_DATABASE_URL": database_url}
    made = sessiond("keys", "create", "--project", "acme", "--label", "worker", **environment)
    assert made.returncode == 0
    secret = made.stdout.strip()
    assert re.fullmatch(r"sk-sessiond-[0-9a-f]{16}-[\w-]{43}", secret)  # no other text
    [listed] = json.loads(here("keys", "list", "--project", "acme", "--json", **environment).stdout)
    assert (listed["label"], listed["is_admin"], listed["revoked_at"]) == ("worker", False, None)
    assert secret not in json.dumps(listed)

    server = start_server("--require-keys", "--key-cache-s", "0", **environment)
    with Client(server.target, api_key=secret) as client, Client(server.target) as nobody:
        client.create_session("one")
        with pytest.raises(errors.ApiKeyMissing):
            nobody.create_session("two")
        with pytest.raises(errors.AdminKeyRequired):
            list(client.admin.list_projects())
        assert here("keys", "revoke", listed["key_id"], **environment).returncode == 0
        with pytest.raises(errors.ApiKeyInvalid):
            client.create_session("three")
    wrong = here("keys", "create", "--project", "Not A Name", **environment)
    assert wrong.returncode == 1
    assert "a-z, 0-9" in wrong.stderr


def test_commands_send_the_key_of_a_flag_or_a_variable(
    start_server: Callable[..., ServerProcess], database_url: str
) -> None:
    environment = {"SESSIOND_DATABASE_URL": database_url}
    target = start_server("--require-keys", **environment).target
    key = sessiond("keys", "create", "--project", "acme", **environment).stdout.strip()
    listing = ("sessions", "list", "--target", target, "--json")
    refused = sessiond(*listing)
    assert (refused.returncode, refused.stderr.split(":")[1]) == (1, " API_KEY_MISSING")
    assert sessiond(*listing, "--api-key", key).returncode == 0
    assert sessiond(*listing, SESSIOND_API_KEY=key).returncode == 0


def test_health_and_version(start_server: Callable[..., ServerProcess], database_url: str) -> None:
    server = start_server(SESSIOND_DATABASE_URL=database_url)
    done = sessiond("health", "--target", server.target)
    assert (done.returncode, done.stdout) in [(0, "SERVING\n")]
    assert sessiond("health", "--target", server.target, "--liveness").stdout == "SERVING\n"
    assert sessiond("health", "--target", "127.0.0.1:1", "--timeout", "2").returncode == 1
    assert re.fullmatch(r"sessiond \d+(\.\d+)*\S*\n", sessiond("version").stdout)


def test_help_says_every_default_in_words() -> None:
    done = sessiond("serve", "--help")
    assert done.returncode == 0
    text = " ".join(done.stdout.split())
    assert "Default: the embedded PostgreSQL." in text
    assert "(default: 16)" in text
    assert "None" not in text
    assert "factory" not in text


def test_invalid_certificates_are_named(database_url: str, tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    for path in (cert, key):
        path.write_text("this is not PEM\n")
    flags = ("--listen", "127.0.0.1:0", "--tls-cert", str(cert), "--tls-key", str(key))
    done = sessiond("serve", *flags, SESSIOND_DATABASE_URL=database_url)
    assert done.returncode == 1
    assert (
        f"--tls-cert {cert} and --tls-key {key} are not a PEM certificate chain and its private key"
        in done.stderr
    )
    assert "Traceback" not in done.stderr


def test_tls(start_server: Callable[..., ServerProcess], database_url: str, tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    try:
        subprocess.run(
            [
                *make,
                "-addext",
                "subjectAltName=DNS:localhost",
                "-keyout",
                str(key),
                "-out",
                str(cert),
            ],
            check=True,
            capture_output=True,
        )
    except FileNotFoundError:
        pytest.skip("openssl is not here to make a certificate")
    server = start_server(
        "--tls-cert",
        str(cert),
        "--tls-key",
        str(key),
        "--listen",
        "localhost:0",
        SESSIOND_DATABASE_URL=database_url,
    )
    with Client(server.target, tls=str(cert)) as client:
        assert client.create_session("one").session_id == "one"
    assert sessiond("health", "--target", server.target, "--tls-ca", str(cert)).returncode == 0
    # On a slow machine, the time may be over during an attempt.
    failures = (errors.ServerUnavailable, errors.DeadlineExceeded)
    with Client(server.target, timeout=1) as plain, pytest.raises(failures):
        plain.create_session("two")


def test_a_timeout_is_reported_with_the_failure_of_the_attempts_before() -> None:
    def work(client: Client, given: argparse.Namespace) -> int:
        error = errors.DeadlineExceeded("DEADLINE_EXCEEDED: the time is over")
        error.add_note("an earlier attempt failed: UNAVAILABLE: no answer")
        raise error

    given = argparse.Namespace(target="127.0.0.1:1", api_key="", tls_ca="", tls=False, timeout=1)
    with pytest.raises(CommandError, match="time is over; an earlier attempt failed: UNAVAILABLE"):
        cli_client.run(given, work)


def test_commands_of_the_client_import_nothing_of_the_database() -> None:
    code = (
        "import sys; from sessiond_server.cli import run; "
        "run(['health', '--target', '127.0.0.1:1', '--timeout', '0.1']); "
        "run(['sessions', 'list', '--target', '127.0.0.1:1', '--timeout', '0.1']); "
        "print({'sqlalchemy', 'alembic', 'psycopg', 'uvloop'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "version"])
def test_each_command_describes_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        run([command, "--help"])
    assert exited.value.code == 0
    assert f"usage: sessiond {command}" in capsys.readouterr().out
