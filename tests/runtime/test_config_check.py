"""`sessiond config check`: its output, its findings, and its redaction of secrets."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict


def check(*flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("SESSIOND_", "OPENAI_"))}
    return subprocess.run(
        [sys.executable, "-m", "sessiond_server", "config", "check", *flags],
        env=clean | environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_good_settings_are_shown_with_their_source(database_url: str, tmp_path: Path) -> None:
    config = tmp_path / "sessiond.toml"
    config.write_text("pool_size = 3\nworkers = 1\n")
    done = check(
        "--metrics-listen", "localhost:9464", SESSIOND_DATABASE_URL=database_url,
        SESSIOND_CONFIG=str(config), SESSIOND_WORKERS="1", SESSIOND_DATA_DIR=str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pool_size = 3  (the configuration file)" in done.stdout
    assert "metrics_listen = localhost:9464  (--metrics-listen)" in done.stdout
    assert "(SESSIOND_DATABASE_URL)" in done.stdout
    assert "ok: the database answers, its schema is at revision" in done.stdout
    assert f"warning: workers of {config} is overridden by SESSIOND_WORKERS" in done.stdout


def test_unknown_variables_are_named(database_url: str) -> None:
    done = check(SESSIOND_DATABASE_URL=database_url, SESSIOND_POOL_SZIE="4")
    assert done.returncode == 1
    assert "error: no setting has the variable SESSIOND_POOL_SZIE" in done.stdout
    assert "did you mean SESSIOND_POOL_SIZE?" in done.stdout


def test_a_database_without_schema_or_connections_is_found(
    empty_database_url: str, database_url: str
) -> None:
    empty = check(SESSIOND_DATABASE_URL=empty_database_url)
    assert empty.returncode == 1
    assert "run `sessiond migrate`" in empty.stdout
    many = check("--workers", "64", "--pool-size", "500", SESSIOND_DATABASE_URL=database_url)
    assert many.returncode == 1
    assert "but PostgreSQL's max_connections is" in many.stdout
    away = check(SESSIOND_DATABASE_URL="postgresql://nobody:s3cret@127.0.0.1:9/none")
    assert away.returncode == 1
    assert "error: cannot reach the database" in away.stdout
    assert "s3cret" not in away.stdout + away.stderr
    alone = check("--no-database", SESSIOND_DATABASE_URL="postgresql://u:s3cret@127.0.0.1:9/none")
    assert alone.returncode == 0, alone.stdout
    assert "database_url = postgresql://u:***@127.0.0.1:9/none" in alone.stdout


def test_models_without_keys_are_named(database_url: str) -> None:
    done = check(
        "--default-model", "openai/gpt-x", SESSIOND_DATABASE_URL=database_url,
    )  # fmt: skip
    assert done.returncode == 1
    assert "error: model openai/gpt-x" in done.stdout
    assert "OPENAI_API_KEY" in done.stdout


def test_an_invalid_setting_is_refused_by_its_name() -> None:
    done = check("--pool-size", "0")
    assert (done.returncode, "--pool-size (SESSIOND_POOL_SIZE)" in done.stderr) == (2, True)


@pytest.mark.parametrize("flags", [["--insecure", "--listen", "0.0.0.0:50051"]])
def test_an_open_server_is_warned_of(database_url: str, flags: list[str]) -> None:
    done = check(*flags, SESSIOND_DATABASE_URL=database_url)
    assert done.returncode == 0
    assert "listens on 0.0.0.0:50051 without TLS and without requiring API keys" in done.stdout
    assert conninfo_to_dict(database_url)
