"""Settings: precedence, errors, and redaction for the log."""

import os
from pathlib import Path

import pytest

from sessiond_server import settings
from sessiond_server.providers.settings import merge_built_in
from sessiond_server.settings import Settings, SettingsError, is_local, load


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes the settings of the environment in which the tests run."""
    monkeypatch.setenv("SESSIOND_CONFIG", "")
    for name in Settings.model_fields:
        monkeypatch.delenv(f"SESSIOND_{name.upper()}", raising=False)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "sessiond.toml"


def refusal(*arguments: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load(arguments)
    return str(caught.value)


def test_unset_settings_have_their_defaults() -> None:
    found = load()
    assert (found.listen, found.database_url, found.workers) == ("localhost:50051", None, 1)
    assert (found.require_keys, found.insecure, found.prepared_statements) == (False, False, True)
    assert found.data_dir == settings.default_data_dir()


def test_a_flag_wins_over_the_environment_and_that_over_the_file(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text("pool_size = 3\nworkers = 3\nlog_level = 'error'\n")
    monkeypatch.setenv("SESSIOND_POOL_SIZE", "4")
    monkeypatch.setenv("SESSIOND_WORKERS", "4")
    for flags in (["--config", str(config)], [f"--config={config}"]):
        found = load([*flags, "--workers", "5"])
        assert (found.workers, found.pool_size, found.log_level) == (5, 4, "error")


def test_the_environment_may_name_the_file(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text("drain_timeout_s = 1.5\n")
    monkeypatch.setenv("SESSIOND_CONFIG", str(config))
    assert load().drain_timeout_s == 1.5


def test_a_file_of_one_load_is_not_left_for_the_next(config: Path) -> None:
    config.write_text("pool_size = 3\n")
    before = dict(os.environ)
    assert load(["--config", str(config)]).pool_size == 3
    assert dict(os.environ) == before
    assert load() == Settings()


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "POOL_SIZE", "TLS_CERT", "LISTEN", "REQUIRE_KEYS"):
        monkeypatch.setenv(f"SESSIOND_{name}", "")
    assert load() == Settings()
    assert load(["--database-url", ""]).database_url is None


def test_switches_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSIOND_REQUIRE_KEYS", "true")
    assert load().require_keys
    assert not load(["--no-require-keys", "--no-reflection"]).require_keys


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("pool_size = ", "is not valid TOML"),
        ("pool-size = 3", "has unknown settings: pool-size"),
        ("pool_size = 'many'", "--pool-size (SESSIOND_POOL_SIZE)"),
    ],
)
def test_a_wrong_file_is_reported(config: Path, text: str, says: str) -> None:
    config.write_text(text)
    assert says in refusal("--config", str(config))


def test_missing_and_undecodable_files_are_reported(tmp_path: Path, config: Path) -> None:
    assert "is not a file" in refusal("--config", str(config))
    assert "is not a file" in refusal("--config", str(tmp_path))
    config.write_bytes(b"\xff\xfe")
    assert "is not valid TOML" in refusal("--config", str(config))
    assert "requires the path" in refusal("--config")


@pytest.mark.parametrize("flag", ["--conf", "--pool", "--nonsense"])
def test_abbreviated_flags_are_refused(flag: str) -> None:
    with pytest.raises(SystemExit) as caught:
        load([flag, "3"])
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("workers", "0"),
        ("workers", "65"),
        ("pool-size", "none"),
        ("pool-timeout-s", "0"),
        ("drain-timeout-s", "-1"),
        ("page-cache-bytes", "-1"),
        ("max-message-bytes", "9999999999"),
        ("log-format", "xml"),
        ("listen", "localhost"),
        ("listen", ":50051"),
        ("listen", "localhost:65536"),
        ("listen", "localhost:-1"),
        ("database-url", "nonsense"),
        ("database-url", "mysql://h/d"),
        ("database-url", "postgresql://[::/d"),
    ],
)
def test_errors_name_the_flag_and_the_variable(name: str, value: str) -> None:
    assert refusal(f"--{name}", value).startswith(
        f"--{name} (SESSIOND_{name.upper().replace('-', '_')}): "
    )


@pytest.mark.parametrize(
    ("listen", "local"),
    [
        ("localhost:1", True),
        ("127.0.0.1:1", True),
        ("127.9.9.9:1", True),
        ("[::1]:1", True),
        ("unix:/run/sessiond.sock", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("192.0.2.1:1", False),
        ("localhost.example.com:1", False),
        ("127.0.0.1.example.com:1", False),
    ],
)
def test_which_addresses_are_local(listen: str, local: bool) -> None:
    assert is_local(listen) == local


@pytest.fixture
def tls(tmp_path: Path) -> list[str]:
    for name in ("cert", "key"):
        (tmp_path / name).touch()
    return ["--tls-cert", str(tmp_path / "cert"), "--tls-key", str(tmp_path / "key")]


def test_other_addresses_require_tls_and_keys(tls: list[str]) -> None:
    beyond = ["--listen", "0.0.0.0:50051"]
    for half in ([], tls, ["--require-keys"]):
        told = refusal(*beyond, *half)
        assert all(
            flag in told for flag in ("--tls-cert", "--tls-key", "--require-keys", "--insecure")
        )
    assert load([*beyond, *tls, "--require-keys"]).listen == "0.0.0.0:50051"
    assert load([*beyond, "--insecure"]).insecure


def test_certificate_and_key_are_readable_and_go_together(tls: list[str], tmp_path: Path) -> None:
    assert "must be set together" in refusal(*tls[:2])
    assert "must be set together" in refusal(*tls[2:])
    assert "--tls-key: cannot read" in refusal(*tls[:2], "--tls-key", str(tmp_path / "missing"))
    assert "--tls-cert: cannot read" in refusal("--tls-cert", str(tmp_path), *tls[2:])


def test_the_password_is_not_shown() -> None:
    found = load(
        [
            "--database-url",
            "postgresql+psycopg://ada:s3cret@db.example.com:6432/sessions?sslmode=require",
        ]
    )
    assert (
        found.database_url == "postgresql://ada:s3cret@db.example.com:6432/sessions?sslmode=require"
    )
    assert "s3cret" not in str(found.redacted())
    assert (
        found.redacted()["database_url"]
        == "postgresql://ada:***@db.example.com:6432/sessions?sslmode=require"
    )


def test_a_worker_reads_the_same_settings(tls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    mine = load(
        [
            *tls,
            "--require-keys",
            "--no-reflection",
            "--workers",
            "3",
            "--listen",
            "0.0.0.0:1",
            "--default-idle-ttl-s",
            "0.5",
        ]
    )
    for name, value in mine.environment().items():
        monkeypatch.setenv(name, value)
    assert load() == mine


def test_every_setting_is_described() -> None:
    assert not [
        name
        for name, field in Settings.model_fields.items()
        if not (field.description or "").endswith(".")
    ]


@pytest.mark.parametrize(
    "value", ["/srv/assets", "file:///srv/assets", "s3://bucket", "s3://bucket/a/prefix"]
)
def test_valid_asset_stores(value: str) -> None:
    assert load(["--asset-store", value]).asset_location() == value


@pytest.mark.parametrize(
    "value",
    [
        "assets",
        "s3://",
        "s3://key:secret@bucket",
        "s3://bucket?x=1",
        "http://bucket",
        "file://host/srv",
        "file:srv",
    ],
)
def test_invalid_asset_stores(value: str) -> None:
    with pytest.raises(SettingsError, match=r"--asset-store \(SESSIOND_ASSET_STORE\): is none of"):
        load(["--asset-store", value])


def test_the_default_asset_store_is_in_the_data_directory() -> None:
    assert load(["--data-dir", "/srv/data"]).asset_location() == "/srv/data/assets"


PROVIDERS = """
default_model = "llama3"

[providers.local]
type = "openai"
base_url = "http://localhost:11434/v1"
models = ["llama*"]

[providers.openai]
retries = 5
"""


def test_providers_of_the_file_and_of_a_variable(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text(PROVIDERS)
    monkeypatch.setenv("SESSIOND_PROVIDERS", '{"openai": {"api_key_env": "MY_KEY"}}')
    found = load(["--config", str(config), "--echo-models"])
    assert (found.default_model, found.echo_models) == ("llama3", True)
    assert found.providers["local"].models == ("llama*",)
    # A provider that is in both the file and the variable has the fields of both.
    assert (found.providers["openai"].retries, found.providers["openai"].api_key_env) == (
        5,
        "MY_KEY",
    )
    every = merge_built_in(found.providers)
    assert (every["openai"].type, every["openai"].retries, "gpt-*" in every["openai"].models) == (
        "openai",
        5,
        True,
    )
    assert list(every)[-3:] == ["anthropic", "gemini", "echo"]


def test_providers_of_a_flag() -> None:
    found = load(["--providers", '{"mine": {"type": "anthropic", "silence_timeout_s": 5}}'])
    assert found.providers["mine"].silence_timeout_s == 5


def test_built_in_providers_need_no_setting() -> None:
    assert load().providers == {}
    assert list(merge_built_in({})) == [
        "openai-responses",
        "openai",
        "anthropic",
        "gemini",
        "echo",
    ]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("{", "is not JSON"),
        ('{"x": 3}', "x: "),
        ('{"x": {}}', "x has no type"),
        ('{"x": {"type": "other"}}', "x.type: "),
        ('{"a/b": {"type": "echo"}}', "a provider's name must"),
        ('{"openai": {"retries": -1}}', "openai.retries: "),
        ('{"openai": {"api_key": "sk-secret"}}', "openai.api_key: "),
        (
            '{"openai": {"api_key_env": "sk-secret"}}',
            "openai.api_key_env: must name an environment variable",
        ),
        (
            '{"openai": {"api_key_env": "gsk_secret"}}',
            "openai.api_key_env: must name an environment variable",
        ),
        ('{"openai": {"base_url": "localhost:1"}}', "openai.base_url: must be an HTTP URL"),
        (
            '{"openai": {"base_url": "http://me:secret@localhost"}}',
            "openai.base_url: must consist of",
        ),
        (
            '{"openai": {"base_url": "http://localhost?key=secret"}}',
            "openai.base_url: must consist of",
        ),
    ],
)
def test_invalid_providers_are_reported_without_their_secrets(
    value: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = refusal("--providers", value)
    assert told.startswith("--providers (SESSIOND_PROVIDERS): ")
    assert says in told
    assert "secret" not in told
    monkeypatch.setenv("SESSIOND_PROVIDERS", value)
    assert refusal() == told


def test_a_worker_has_the_same_providers(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text(PROVIDERS)
    mine = load(["--config", str(config)])
    monkeypatch.setenv("SESSIOND_CONFIG", "")
    for name, value in mine.environment().items():
        monkeypatch.setenv(name, value)
    assert merge_built_in(load().providers) == merge_built_in(mine.providers)
    assert load().providers["openai"].model_fields_set == {"retries"}


def test_keys_are_not_shown(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text(PROVIDERS)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    shown = load(["--config", str(config)]).redacted()
    assert shown["providers"] == {
        "local": {"type": "openai", "base_url": "http://localhost:11434/v1", "models": ["llama*"]},
        "openai": {"retries": 5},
    }
    assert "sk-secret" not in str(shown)


def test_the_help_describes_providers(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load(["--help"])
    told = capsys.readouterr().out
    assert "--default-model" in told
    assert "api_key_env" in told
    assert "--providers.openai" not in told
