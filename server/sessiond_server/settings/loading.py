"""Loads the settings from flags, environment variables and a TOML file."""

import argparse
import os
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError
from pydantic_settings import CliSettingsSource
from pydantic_settings import SettingsError as SourceError

from sessiond_server.settings.limits import Settings
from sessiond_server.settings.model import ENV_PREFIX, config_file


class SettingsError(Exception):
    """A setting is missing or invalid. The text names its flag and its environment variable."""


def load(
    arguments: Sequence[str] = (), *, prog: str = "sessiond serve", epilog: str | None = None
) -> Settings:
    """Parse the settings.

    Args:
        arguments: the flags. --config PATH (or SESSIOND_CONFIG) names the configuration file.
        prog: name of the command in the help text.
        epilog: end of the help text.

    Returns:
        The settings.

    Raises:
        SettingsError: if a setting or the file is invalid.
        SystemExit: if --help or an unknown flag is given.
    """
    config_path = os.environ.get(f"{ENV_PREFIX}CONFIG")
    arguments = [
        part
        for argument in arguments
        for part in (argument.split("=", 1) if argument.startswith("--config=") else [argument])
    ]
    if "--config" in arguments:
        at = arguments.index("--config")
        if at + 1 == len(arguments):
            raise SettingsError("--config requires the path of a TOML file")
        config_path = arguments[at + 1]
        del arguments[at : at + 2]
    config = Path(config_path) if config_path else None
    if config:
        _check_file(config)
    token = config_file.set(config)
    try:
        # Abbreviated flags are not allowed, since a new flag in a later version could change their
        # meaning.
        parser = argparse.ArgumentParser(
            prog=prog, epilog=epilog, allow_abbrev=False, formatter_class=_Help
        )
        parser.add_argument(
            "--config",
            metavar="FILE",
            help="TOML file of settings; flags and variables take precedence (SESSIOND_CONFIG)",
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
        # `providers` is the only setting whose flag and variable contain JSON.
        raise SettingsError(
            _describe(("providers",), "is not JSON of the form {NAME: {...}}")
        ) from None
    finally:
        config_file.reset(token)


class _Help(argparse.HelpFormatter):
    """Hides defaults that are None or factories. The settings' descriptions explain these."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return re.sub(r" \(default: None\)| \(default factory: .*\)", "", action.help or "")


def _check_file(config: Path) -> None:
    name = f"--config ({ENV_PREFIX}CONFIG)"
    if not config.is_file():
        raise SettingsError(f"{name}: {config} is not a file")
    try:
        keys = tomllib.loads(config.read_text("utf-8")).keys()
    except OSError as e:
        raise SettingsError(f"{name}: cannot read {config}: {e.strerror}") from None
    except ValueError as e:  # invalid TOML or UTF-8
        raise SettingsError(f"{name}: {config} is not valid TOML: {e}") from None
    if unknown := sorted(keys - Settings.model_fields.keys()):
        raise SettingsError(f"{name}: {config} has unknown settings: {', '.join(unknown)}")


def _describe(location: tuple[int | str, ...], message: str) -> str:
    message = message.removeprefix("Value error, ")
    if not location:
        return message
    name = str(location[0])
    inner = ".".join(str(part) for part in location[1:])
    flag = f"--{name.replace('_', '-')} ({ENV_PREFIX}{name.upper()})"
    return f"{flag}: {inner and inner + ': '}{message}"
