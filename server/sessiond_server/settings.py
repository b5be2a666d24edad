"""Settings: parsed once into one object, from flags, environment (SESSIOND_*) and a TOML file, in this order of precedence."""

import argparse
import ipaddress
import json
import os
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

import platformdirs
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings import SettingsError as SourceError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from sessiond_server.providers.settings import ProviderSettings, merge_built_in

ENV_PREFIX = "SESSIOND_"


class SettingsError(Exception):
    """A setting is missing or wrong; the text names it, as flag and as environment variable."""


def default_data_dir() -> Path:
    """Where the embedded database lives, unless it is told otherwise."""
    # root's own directory is closed to the system user that PostgreSQL has to run as.
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path("/var/lib/sessiond")
    return Path(platformdirs.user_data_dir("sessiond", appauthor=False))


class Settings(BaseSettings):
    """The server's settings. Every one is a flag (--pool-size), a variable (SESSIOND_POOL_SIZE) and a key of the file (pool_size)."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        # Compose files and unit files set what they leave open to nothing.
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
        description="HOST:PORT to serve on, or unix:PATH. Port 0 picks a free one.",
    )
    database_url: str | None = Field(
        None,
        description="PostgreSQL 15 to 18, as postgresql://USER:PASSWORD@HOST:PORT/NAME. Default: the embedded one.",
    )
    data_dir: Path = Field(
        default_factory=default_data_dir,
        description="Where the embedded PostgreSQL keeps its data. Default: the platform's place.",
    )
    workers: int = Field(1, ge=1, le=64, description="Processes that share the port.")

    require_keys: bool = Field(
        False,
        description="Refuse calls without an API key. A key that is sent is checked either way.",
    )
    tls_cert: Path | None = Field(
        None, description="PEM file of the server's certificate chain. Default: no TLS."
    )
    tls_key: Path | None = Field(None, description="PEM file of the certificate's private key.")
    insecure: bool = Field(
        False, description="Allow listening beyond this machine without both TLS and keys."
    )
    key_cache_s: float = Field(
        5.0,
        ge=0,
        le=300,
        description="Seconds for which an API key that was looked up is believed.",
    )

    pool_size: int = Field(
        16,
        ge=1,
        le=500,
        description="Database connections of each process, at the most, besides one that listens.",
    )
    pool_timeout_s: float = Field(
        5.0, gt=0, description="Seconds that a call waits for a connection before it is refused."
    )
    prepared_statements: bool = Field(
        True, description="Turn off behind PgBouncer in transaction mode."
    )
    default_deadline_s: float = Field(
        30.0, gt=0, description="Deadline of calls whose client sets none; streams have none."
    )
    max_concurrent_rpcs: int = Field(
        2000, ge=1, description="Calls under way in each process, beyond which more are refused."
    )
    max_watchers: int = Field(
        5000, ge=1, description="The same for Watch and Send, which do not count there: they last."
    )

    max_message_bytes: int = Field(
        1024 * 1024, ge=1024, le=3_500_000, description="Content of one message, in bytes."
    )
    max_batch_messages: int = Field(
        1000, ge=1, le=100_000, description="Messages of one StoreMessages."
    )
    max_batch_bytes: int = Field(
        4 * 1024 * 1024,
        ge=1024,
        le=24 * 1024 * 1024,
        description="Content of one StoreMessages, in bytes.",
    )
    max_import_bytes: int = Field(
        8 * 1024**3,
        ge=0,
        description="Messages of one ImportMessages or ImportSession, in bytes. 0 = no limit.",
    )
    import_idle_timeout_s: float = Field(
        600.0,
        gt=0,
        description="Seconds without a message after which a client's stream is refused.",
    )
    tokenizer: Literal["auto", "o200k_base", "estimate"] = Field(
        "auto",
        description="Who counts tokens. auto = o200k_base where the extra `tokens` is installed, else an estimate.",
    )
    copy_max_messages: int = Field(
        0, ge=0, description="Messages of the largest copy that is made. 0 = no limit."
    )
    page_cache_bytes: int = Field(
        64 * 1024 * 1024,
        ge=0,
        description="Room for encoded pages of messages in each process, in bytes. 0 = off.",
    )

    asset_store: str | None = Field(
        None,
        description="Where assets lie: a directory (/PATH or file:///PATH), or s3://BUCKET/PREFIX with the usual AWS_* variables. "
        "Default: assets in --data-dir.",
    )
    max_asset_bytes: int = Field(
        5 * 1024**3, ge=1024, le=50_000_000_000, description="Content of one asset, in bytes."
    )
    asset_grace_s: float = Field(
        3600.0,
        ge=0,
        description="Seconds from its last upload for which an asset stays that nothing refers to.",
    )

    default_idle_ttl_s: float = Field(
        0.0, ge=0, description="Expiry of sessions whose creator chose none. 0 = never."
    )
    purge_interval_s: float = Field(
        5.0, gt=0, description="Seconds between two rounds of the purger."
    )
    request_id_retention_s: float = Field(
        86_400.0, ge=60, description="Seconds for which a request_id is remembered."
    )

    providers: dict[str, ProviderSettings] = Field(
        default_factory=dict,
        description="Who answers for models, as JSON; in the file a table [providers.NAME] each. Keys: type (openai, anthropic, echo), "
        "base_url, api_key_env (the NAME of the variable with the key), models (patterns), silence_timeout_s, retries. openai, "
        "anthropic and echo are there without being named.",
    )
    default_model: str = Field(
        "echo", min_length=1, max_length=256, description="Model of sessions that name none."
    )
    echo_models: bool = Field(
        False, description="Let echo answer for every model: for development, without keys."
    )
    turn_timeout_s: float = Field(
        600.0, ge=1, description="Seconds that a turn may run; callers may ask for less."
    )
    turn_lease_s: float = Field(
        15.0,
        ge=0.5,
        le=600,
        description="Seconds after which a server that gives no sign has lost its turns.",
    )
    max_context_bytes: int = Field(
        16 * 1024 * 1024,
        ge=1024,
        description="Content of a history that a model is given, in bytes.",
    )

    drain_delay_s: float = Field(
        0.0,
        ge=0,
        description="Seconds to go on serving as NOT_SERVING after SIGTERM, for balancers.",
    )
    drain_timeout_s: float = Field(
        20.0, ge=0, description="Seconds that calls under way may take after SIGTERM."
    )
    reflection: bool = Field(True, description="Answer server reflection, which grpcurl needs.")
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="auto = console on a terminal, else JSON lines."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="debug shows every call."
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
        sources = [init_settings, env_settings]
        if config := os.environ.get(f"{ENV_PREFIX}CONFIG"):
            sources.append(TomlConfigSettingsSource(settings_cls, Path(config)))
        return tuple(sources)

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, value: str | None) -> str | None:
        if value is None or value == "":
            return None
        try:
            url = make_url(value)
        except (ArgumentError, ValueError):
            raise ValueError(
                "is no URL; it looks like postgresql://USER:PASSWORD@HOST:PORT/NAME"
            ) from None
        if url.drivername.partition("+")[0] not in ("postgresql", "postgres"):
            raise ValueError(
                f"names {url.drivername!r}, but sessiond runs on PostgreSQL: postgresql://..."
            )
        return url.set(drivername="postgresql").render_as_string(hide_password=False)

    @field_validator("asset_store")
    @classmethod
    def _check_asset_store(cls, value: str | None) -> str | None:
        if not value:
            return None
        url = urlsplit(value)
        match url.scheme:
            case "s3" if (
                url.netloc and "@" not in url.netloc and not url.query and not url.fragment
            ):
                return value
            case "file" if url.netloc in ("", "localhost") and url.path.startswith("/"):
                return value
            case _ if Path(value).is_absolute():
                return value
        raise ValueError("is none of /PATH, file:///PATH and s3://BUCKET/PREFIX")

    @field_validator("providers")
    @classmethod
    def _check_providers(cls, value: dict[str, ProviderSettings]) -> dict[str, ProviderSettings]:
        for name in value:
            if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name):
                raise ValueError(
                    "a name is not 1 to 64 letters, digits, dots, dashes and underscores"
                )
        merge_built_in(value)
        return value

    @field_validator("listen")
    @classmethod
    def _check_listen(cls, value: str) -> str:
        if value.startswith("unix:"):
            return value
        host, _, port = value.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65535:
            raise ValueError(
                "is not HOST:PORT, such as localhost:50051, 0.0.0.0:50051 or [::1]:50051"
            )
        return value

    @model_validator(mode="after")
    def _check_security(self) -> Self:
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ValueError("--tls-cert and --tls-key go together")
        for flag, path in (("--tls-cert", self.tls_cert), ("--tls-key", self.tls_key)):
            if path and not (path.is_file() and os.access(path, os.R_OK)):
                raise ValueError(f"{flag}: cannot read {path}")
        if (
            not self.insecure
            and not is_local(self.listen)
            and not (self.tls_cert and self.require_keys)
        ):
            raise ValueError(
                f"refusing to listen on {self.listen}, which other machines can reach, without both TLS (--tls-cert, --tls-key) "
                "and API keys (--require-keys); --insecure allows it"
            )
        return self

    def redacted(self) -> dict[str, object]:
        """The settings as they may be logged: without the database's password."""
        shown = self.model_dump(mode="json") | {"providers": self._providers_as_given()}
        if self.database_url:
            shown["database_url"] = make_url(self.database_url).render_as_string(hide_password=True)
        return shown

    def asset_location(self) -> str:
        """Where assets lie, if it is chosen or not."""
        return self.asset_store or str(self.data_dir / "assets")

    def environment(self) -> dict[str, str]:
        """The settings as environment variables, for a process of our own."""
        dumped = self.model_dump(mode="json", exclude_none=True) | {
            "providers": json.dumps(self._providers_as_given())
        }
        return {f"{ENV_PREFIX}{name.upper()}": str(value) for name, value in dumped.items()}

    def _providers_as_given(self) -> dict[str, object]:
        # Without what was left out: of a built-in one that would be an answer.
        return {
            name: provider.model_dump(mode="json", exclude_unset=True)
            for name, provider in self.providers.items()
        }


def is_local(listen: str) -> bool:
    """Whether only this machine reaches the address."""
    if listen.startswith("unix:"):
        return True
    host = listen.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load(
    arguments: Sequence[str] = (), *, prog: str = "sessiond serve", epilog: str | None = None
) -> Settings:
    """Settings from flags, environment and file. --config PATH (or SESSIOND_CONFIG) names the file.

    Args:
        prog, epilog: of the command whose --help this is.
    Raises: SettingsError. SystemExit for --help and unknown flags, as argparse does.
    """
    arguments = [
        part
        for argument in arguments
        for part in (argument.split("=", 1) if argument.startswith("--config=") else [argument])
    ]
    if "--config" in arguments:
        at = arguments.index("--config")
        if at + 1 == len(arguments):
            raise SettingsError("--config asks for the path of a TOML file")
        os.environ[f"{ENV_PREFIX}CONFIG"] = arguments[at + 1]
        del arguments[at : at + 2]
    if config := os.environ.get(f"{ENV_PREFIX}CONFIG"):
        _check_file(Path(config))
    try:
        # Whole names only: a flag that is new in the next version must not change what a shortened one means.
        parser = argparse.ArgumentParser(
            prog=prog, epilog=epilog, allow_abbrev=False, formatter_class=_Help
        )
        parser.add_argument(
            "--config",
            metavar="FILE",
            help="a TOML file of settings, below flags and environment (SESSIOND_CONFIG)",
        )
        source: CliSettingsSource[object] = CliSettingsSource(
            Settings, root_parser=parser, cli_parse_args=arguments
        )
        return Settings(_cli_settings_source=source)  # type: ignore[call-arg]
    except ValidationError as e:
        raise SettingsError(
            "; ".join(_describe(error["loc"], str(error["msg"])) for error in e.errors())
        ) from None
    except SourceError:
        # Of those that are JSON in flags and variables, there is only this.
        raise SettingsError(
            _describe(("providers",), "is not JSON, of the form {NAME: {...}}")
        ) from None


class _Help(argparse.HelpFormatter):
    """Leaves out the defaults that only say that there is none: what happens then stands in the description."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return re.sub(r" \(default: None\)| \(default factory: .*\)", "", action.help or "")


def _check_file(config: Path) -> None:
    name = f"--config ({ENV_PREFIX}CONFIG)"
    if not config.is_file():
        raise SettingsError(f"{name}: there is no file {config}")
    try:
        keys = tomllib.loads(config.read_text("utf-8")).keys()
    except OSError as e:
        raise SettingsError(f"{name}: cannot read {config}: {e.strerror}") from None
    except ValueError as e:  # of TOML, or of UTF-8
        raise SettingsError(f"{name}: {config} is no TOML: {e}") from None
    if unknown := sorted(keys - Settings.model_fields.keys()):
        raise SettingsError(
            f"{name}: {config} has settings that there are not: {', '.join(unknown)}"
        )


def _describe(location: tuple[int | str, ...], message: str) -> str:
    message = message.removeprefix("Value error, ")
    if not location:
        return message
    name = str(location[0])
    inner = ".".join(str(part) for part in location[1:])
    return f"--{name.replace('_', '-')} ({ENV_PREFIX}{name.upper()}): {inner and inner + ': '}{message}"
