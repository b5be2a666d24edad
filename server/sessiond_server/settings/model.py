"""The settings, with their defaults and valid values."""

import os
import re
from contextvars import ContextVar
from pathlib import Path
from typing import Literal, Self

import platformdirs
from pydantic import Field, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from sessiond_server.db import address
from sessiond_server.providers.settings import ProviderSettings, merge_built_in
from sessiond_server.settings import views
from sessiond_server.settings.addresses import asset_store, is_local, listen_address

ENV_PREFIX = "SESSIOND_"

# Path of the configuration file, set while load() creates a Settings. A context variable is needed
# because settings sources take no arguments.
config_file: ContextVar[Path | None] = ContextVar("config_file", default=None)


def default_data_dir() -> Path:
    """Return the default directory of the embedded database and of assets."""
    # root's own data directory is not accessible to the system user that PostgreSQL has to run as.
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path("/var/lib/sessiond")
    return Path(platformdirs.user_data_dir("sessiond", appauthor=False))


class ServerSettings(BaseSettings):
    """The server's settings without the limits, which are in settings/limits.py.

    Every field is a flag (--pool-size), an environment variable (SESSIOND_POOL_SIZE) and a key of
    the configuration file (pool_size).
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        # Compose files and unit files pass unset variables as empty ones.
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_prog_name="sessiond serve",
    )

    listen: str = Field(
        "localhost:50051",
        description="Address to serve on: HOST:PORT or unix:PATH. Port 0 picks a free port.",
    )
    database_url: str | None = Field(
        None,
        description="URL of a PostgreSQL 15 to 18: postgresql://USER:PASSWORD@HOST:PORT/NAME, with "
        "parameters of libpq after a ?. With several hosts (HOST:PORT,HOST:PORT), the first one "
        "that accepts writes is used. Default: the embedded PostgreSQL.",
    )
    data_dir: Path = Field(
        default_factory=default_data_dir,
        description="Directory of the embedded PostgreSQL and, unless --asset-store is set, of "
        "assets. Default: the platform's directory for application data.",
    )
    workers: int = Field(
        1, ge=1, le=64, description="Number of processes that serve, sharing one port."
    )

    console: str | None = Field(
        None,
        description="HOST:PORT to serve the web console on, in a process of its own. `--console` "
        "without an address means localhost:8321. If --tls-cert is set, the console trusts that "
        "certificate.",
    )

    require_keys: bool = Field(
        False,
        description="Refuse calls without an API key. An API key that is sent is always checked.",
    )
    tls_cert: Path | None = Field(
        None, description="PEM file with the server's certificate chain. Default: no TLS."
    )
    tls_key: Path | None = Field(
        None, description="PEM file with the certificate's private key, not encrypted."
    )
    insecure: bool = Field(
        False,
        description="Allow listening on addresses that other machines can reach without both TLS "
        "and API keys.",
    )
    key_cache_s: float = Field(
        5.0,
        ge=0,
        le=300,
        description="Seconds for which a checked API key is cached. The keys of open streams are "
        "checked again at the same interval, but at most once a second. So a revoked key works for "
        "at most this long.",
    )

    pool_size: int = Field(
        16,
        ge=1,
        le=500,
        description="Maximum number of pooled database connections per process. Each process "
        "has two more: one that listens, and one for health checks.",
    )
    pool_timeout_s: float = Field(
        5.0,
        gt=0,
        description="Seconds that a call waits for a database connection before it is refused.",
    )
    lock_timeout_s: float = Field(
        0.5,
        ge=0,
        description="Seconds that a statement waits for a lock while it occupies a connection. "
        "Then the call waits in memory, and the connection serves other calls. 0 = without end.",
    )
    listen_database_url: str | None = Field(
        None,
        description="URL of the same database for the connection that listens for notifications: "
        "PostgreSQL's own address if --database-url leads to a pooler. Without it, behind a pooler "
        "in transaction mode, notifications are read from a table.",
    )
    session_pooler: bool = Field(
        False,
        description="Set this if the pooler at --database-url works in session mode: statements "
        "are then prepared, and notifications received, through it. The server recognises a pooler "
        "but not its mode, and assumes transaction mode.",
    )
    prepared_statements: bool = Field(
        True,
        description="Prepare frequent statements. Turn this off behind a pooler in transaction "
        "mode that the server does not recognise; it recognises PgBouncer.",
    )
    default_deadline_s: float = Field(
        30.0,
        gt=0,
        description="Deadline, in seconds, of calls whose clients set none. Streams have none.",
    )
    max_concurrent_rpcs: int = Field(
        2000,
        ge=1,
        description="Maximum number of concurrent calls of each process, not counting Watch and "
        "Send; more are refused.",
    )
    max_watchers: int = Field(
        5000,
        ge=1,
        description="Maximum number of concurrent Watch and Send calls of each process; more are "
        "refused.",
    )
    max_connection_age_s: float = Field(
        1800.0,
        ge=0,
        description="Maximum age of a connection in seconds, plus or minus a tenth. Its client is "
        "then asked to reconnect, so that load balancers can spread clients again. Running calls "
        "continue. 0 = no maximum.",
    )
    max_connection_grace_s: float = Field(
        3600.0,
        gt=0,
        description="Seconds after --max-connection-age-s for which running calls may continue. "
        "Clients resume streams that are cut off.",
    )

    max_memory_bytes: int | None = Field(
        None,
        ge=0,
        description="Resident memory of a process, in bytes, above which requests with messages "
        "and files are refused as OVERLOADED. 0 = no limit. Default: 85 % of the container's "
        "limit, divided by --workers; no limit outside of a container.",
    )
    max_request_bytes: int = Field(
        64 * 1024 * 1024,
        ge=64 * 1024,
        le=1024**3,
        description="Maximum size of one request, or of one piece of a stream, in bytes. It has to "
        "be larger than --max-batch-bytes. A running call may take several times as much memory.",
    )
    max_message_bytes: int = Field(
        16 * 1024 * 1024,
        ge=1024,
        le=256 * 1024 * 1024,
        description="Maximum size of one message, in bytes; at most --max-batch-bytes.",
    )
    max_batch_messages: int = Field(
        1000, ge=1, le=100_000, description="Maximum number of messages in one StoreMessages call."
    )
    max_batch_bytes: int = Field(
        32 * 1024 * 1024,
        ge=1024,
        le=768 * 1024 * 1024,
        description="Maximum size of the messages of one StoreMessages call, in bytes.",
    )
    max_import_bytes: int = Field(
        8 * 1024**3,
        ge=0,
        description="Maximum size of the messages in one ImportMessages or ImportSession call, in "
        "bytes. 0 = no limit.",
    )
    import_idle_timeout_s: float = Field(
        600.0,
        gt=0,
        description="Seconds without data after which an upload or import is refused.",
    )
    tokenizer: Literal["auto", "o200k_base", "estimate"] = Field(
        "auto",
        description="How tokens are counted. auto = o200k_base if the extra `tokens` is "
        "installed, otherwise an estimate.",
    )
    copy_max_messages: int = Field(
        0, ge=0, description="Maximum number of messages in a copied session. 0 = no limit."
    )
    page_cache_bytes: int = Field(
        64 * 1024 * 1024,
        ge=0,
        description="Size of the cache of encoded message pages of each process, in bytes. "
        "0 = no cache.",
    )

    asset_store: str | None = Field(
        None,
        description="Store of the assets' content: a directory (/PATH or file:///PATH), or "
        "s3://BUCKET/PREFIX with the usual AWS_* variables. Default: `assets` in --data-dir.",
    )
    max_asset_bytes: int = Field(
        5 * 1024**3, ge=1024, le=50_000_000_000, description="Maximum size of one asset, in bytes."
    )
    asset_grace_s: float = Field(
        3600.0,
        ge=0,
        description="Seconds for which an asset without references is kept after its last upload.",
    )

    default_idle_ttl_s: float = Field(
        0.0,
        ge=0,
        description="Seconds of idleness after which a session expires if its creator chose no "
        "expiry. 0 = never.",
    )
    purge_interval_s: float = Field(
        5.0, gt=0, description="Seconds between two rounds of the purger and the asset sweeper."
    )
    request_id_retention_s: float = Field(
        86_400.0, ge=60, description="Seconds for which a request_id is remembered."
    )

    providers: dict[str, ProviderSettings] = Field(
        default_factory=dict,
        description="Model providers, as a JSON object by name; in the file, one table "
        "[providers.NAME] each. Keys: type (openai, openai-responses, anthropic, gemini, "
        "echo), base_url, api_key_env (the NAME of the variable that holds the key), models "
        "(patterns), silence_timeout_s, retries, and what the server accepts: reasoning_key, "
        "unknown_keys, id_length, files, is_openai, inline_system. The types are also the names of "
        "the built-in providers; entries of these names override their fields.",
    )
    default_model: str = Field(
        "echo", min_length=1, max_length=256, description="Model of sessions that name none."
    )
    echo_models: bool = Field(
        False,
        description="Let echo answer for every model: for development, without provider keys.",
    )
    turn_timeout_s: float = Field(
        600.0,
        ge=1,
        description="Maximum duration of a turn, in seconds; callers may ask for less.",
    )
    keep_partial: bool = Field(
        True,
        description="Whether the text that a model has written is kept as an incomplete message if "
        "its turn fails or is aborted. Callers may choose for each turn (keep_partial of Send).",
    )
    max_running_turns: int = Field(
        1024,
        ge=1,
        description="Maximum number of turns that run at once in each process; more stay queued "
        "until this or another process has room.",
    )
    max_history_bytes: int = Field(
        1024 * 1024 * 1024,
        ge=1024,
        description="Maximum size of the histories that the running turns of a process hold in "
        "memory together, in bytes. Turns wait, in memory and without a connection, until there "
        "is room; this does not count towards their timeout.",
    )
    turn_lease_s: float = Field(
        15.0,
        ge=0.5,
        le=600,
        description="Maximum time, in seconds, until other servers end the turns of a server that "
        "has died.",
    )
    max_context_bytes: int = Field(
        32 * 1024 * 1024,
        ge=1024,
        description="Maximum size of the history that is sent to a model, in bytes, without the "
        "content of assets. The default is twice the default maximum size of one message.",
    )
    max_model_request_bytes: int = Field(
        64 * 1024 * 1024,
        ge=1024,
        description="Maximum size of a request to a model in bytes, assets included (in base64).",
    )

    drain_delay_s: float = Field(
        0.0,
        ge=0,
        description="Seconds to keep serving while reporting NOT_SERVING after SIGTERM, so that "
        "load balancers notice.",
    )
    drain_timeout_s: float = Field(
        20.0, ge=0, description="Seconds that calls and turns in progress may take after SIGTERM."
    )
    reflection: bool = Field(True, description="Serve gRPC reflection, which grpcurl needs.")
    metrics_listen: str | None = Field(
        None,
        description="HOST:PORT to serve /metrics for Prometheus on, and /livez and /readyz for "
        "probes, over plain HTTP and without keys. Default: not served.",
    )
    slow_statement_ms: int = Field(
        500,
        ge=0,
        description="Milliseconds after which a statement is slow, and is logged. 0 = never.",
    )
    log_calls: bool = Field(
        False, description="Log each call, at level info. Refused calls are always logged."
    )
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="Format of the log. auto = console on a terminal, else JSON lines."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe level that is logged. debug logs every call."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        config = config_file.get()
        files = [TomlConfigSettingsSource(settings_cls, config)] if config else []
        return (init_settings, env_settings, *files)

    @field_validator("database_url", "listen_database_url")
    @classmethod
    def _check_database_url(cls, value: str | None) -> str | None:
        if value is None or value == "":
            return None
        return address.normalized(value)

    @field_validator("asset_store")
    @classmethod
    def _check_asset_store(cls, value: str | None) -> str | None:
        return asset_store(value) if value else None

    @field_validator("providers")
    @classmethod
    def _check_providers(cls, value: dict[str, ProviderSettings]) -> dict[str, ProviderSettings]:
        for name in value:
            if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name):
                raise ValueError(
                    "a provider's name must be 1 to 64 letters, digits, dots, dashes and "
                    "underscores"
                )
        merge_built_in(value)
        return value

    @field_validator("listen", "console", "metrics_listen")
    @classmethod
    def _check_listen(cls, value: str | None) -> str | None:
        return listen_address(value) if value else None

    @model_validator(mode="after")
    def _check_databases(self) -> Self:
        if self.listen_database_url and not self.database_url:
            raise ValueError("--listen-database-url needs --database-url")
        if self.session_pooler and not self.prepared_statements:
            raise ValueError(
                "--session-pooler and --no-prepared-statements contradict each other: in session "
                "mode, prepared statements work"
            )
        return self

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if self.max_message_bytes > self.max_batch_bytes:
            raise ValueError(
                f"--max-message-bytes is {self.max_message_bytes}, but --max-batch-bytes only "
                f"{self.max_batch_bytes}: no call could store such a message"
            )
        # A batch that is a little too large must reach sessiond, because sessiond's error names
        # the limit, and gRPC's does not.
        if self.max_request_bytes < self.max_batch_bytes * 5 // 4:
            raise ValueError(
                f"--max-request-bytes is {self.max_request_bytes}; with --max-batch-bytes "
                f"{self.max_batch_bytes} it has to be at least {self.max_batch_bytes * 5 // 4}, "
                "since messages take more room in a request than their content"
            )
        return self

    @model_validator(mode="after")
    def _check_security(self) -> Self:
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ValueError("--tls-cert and --tls-key must be set together")
        for flag, path in (("--tls-cert", self.tls_cert), ("--tls-key", self.tls_key)):
            if path and not (path.is_file() and os.access(path, os.R_OK)):
                raise ValueError(f"{flag}: cannot read {path}")
        if (
            not self.insecure
            and not is_local(self.listen)
            and not (self.tls_cert and self.require_keys)
        ):
            raise ValueError(
                f"refusing to listen on {self.listen}, which other machines can reach, without "
                "both TLS (--tls-cert, --tls-key) and API keys (--require-keys); "
                "--insecure allows it"
            )
        return self

    def redacted(self) -> dict[str, object]:
        """Return the settings for the log, without the password in the database's URL."""
        return views.redacted(self)

    @property
    def has_session(self) -> bool | None:
        """Whether all transactions of a connection share a database session; None = detect it."""
        if self.session_pooler:
            return True
        return None if self.prepared_statements else False

    def asset_location(self) -> str:
        """Return the location of the asset store, which may be the default one."""
        return self.asset_store or str(self.data_dir / "assets")

    def environment(self) -> dict[str, str]:
        """Return the settings as environment variables for a worker process."""
        return views.environment(self, ENV_PREFIX)
