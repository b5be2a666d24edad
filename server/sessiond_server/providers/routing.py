"""Finds the provider that serves a model."""

import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import partial
from urllib.parse import urlsplit

from sessiond_server.dialects.anthropic import AnthropicDialect
from sessiond_server.dialects.openai_chat_parts import ChatDialect
from sessiond_server.providers import tls
from sessiond_server.providers.anthropic_messages import AnthropicMessages
from sessiond_server.providers.base import ModelFault, Provider, Route
from sessiond_server.providers.echo import Echo
from sessiond_server.providers.gemini import Gemini
from sessiond_server.providers.openai_chat import OpenAIChat
from sessiond_server.providers.openai_responses import OpenAIResponses
from sessiond_server.providers.settings import ProviderSettings, merge_built_in

INSTALL = "pip install 'sessiond[models]'"
INSTALL_GEMINI = "pip install 'sessiond[gemini]'"
_ENDPOINTS = {
    "openai": ("OPENAI_BASE_URL", "https://api.openai.com/v1", "OPENAI_API_KEY"),
    "openai-responses": ("OPENAI_BASE_URL", "https://api.openai.com/v1", "OPENAI_API_KEY"),
    "anthropic": ("ANTHROPIC_BASE_URL", "https://api.anthropic.com", "ANTHROPIC_API_KEY"),
    "gemini": (
        "GOOGLE_GEMINI_BASE_URL",
        "https://generativelanguage.googleapis.com",
        "GEMINI_API_KEY",
    ),
}
# Alternative variables, used if the first one holds no key.
_SECOND_VARIABLES = {"GEMINI_API_KEY": "GOOGLE_API_KEY"}
_OPENAI_HOSTS = re.compile(r"(.+\.)?(openai\.com|openai\.azure\.com)")


class Models:
    """Finds the provider for a model's name. A provider is created on first use and kept.

    Args:
        providers: the operator's own providers, by name. The built-in ones are added.
        default_model: the model of sessions without a model.
        echo_models: whether echo serves every model.
        environment: source of the keys and the SDKs' base URLs. Default: the process's environment.

    Raises:
        ValueError: if a provider has no type.
    """

    def __init__(
        self,
        providers: Mapping[str, ProviderSettings] | None = None,
        *,
        default_model: str = "echo",
        echo_models: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.default_model = default_model
        self._settings = merge_built_in(providers or {})
        self._echo = Echo() if echo_models else None
        self._environment = os.environ if environment is None else environment
        self._providers: dict[str, Provider] = {}
        # The keys with which these providers were created, by the providers' names.
        self._keys: dict[str, str] = {}
        # Providers that others have replaced, but that running turns may still use.
        self._former: list[Provider] = []

    def route(self, name: str) -> Route:
        """Find the provider of a model.

        Args:
            name: "PROVIDER/NAME" with a configured provider, or a name that a provider's pattern
                matches.

        Raises:
            ModelFault: MODEL_NOT_CONFIGURED if no provider serves the model, or if the provider has
                no key or no SDK.
        """
        if self._echo:
            return Route(self._echo, name)
        provider, _, model = name.partition("/")
        if model and provider in self._settings:
            return Route(self._provider(provider, name), model)
        for provider, settings in self._settings.items():
            if any(fnmatchcase(name, pattern) for pattern in settings.models):
                return Route(self._provider(provider, name), name)
        raise ModelFault(
            "MODEL_NOT_CONFIGURED",
            f"no provider of this server serves the model {name!r}: add it to the models of a "
            f"provider, or request PROVIDER/MODEL with one of {', '.join(self._settings)}",
            metadata={"model": name, "setting": "providers"},
        )

    def prepare(self) -> None:
        """Create all providers that are fully configured.

        Importing an SDK takes up to a second. After this, no call has to wait for an import.
        """
        for name in () if self._echo else self._settings:
            with suppress(ModelFault):
                self._provider(name, name)

    def reload(self, providers: Mapping[str, ProviderSettings]) -> None:
        """Use other settings of providers and newly read keys, from the next model call on.

        Raises:
            ValueError: if a provider has no type.
        """
        settings = merge_built_in(providers)
        tls.read_certificates_again()
        for name in list(self._providers):
            old, new = self._settings[name], settings.get(name)
            if old != new or self._key_of(self._settings[name])[0] != self._keys.get(name, ""):
                self._former.append(self._providers.pop(name))
        self._settings = settings
        self.prepare()

    async def close(self) -> None:
        """Close the providers' connections."""
        providers = [*self._providers.values(), *self._former]
        self._providers, self._former = {}, []
        for provider in providers:
            await provider.close()

    def _provider(self, name: str, model: str) -> Provider:
        if name not in self._providers:
            self._providers[name] = self._create(name, model)
        return self._providers[name]

    def _create(self, name: str, model: str) -> Provider:
        settings = self._settings[name]
        if settings.type is None or settings.type == "echo":
            return Echo(name)
        variable, public_url, _ = _ENDPOINTS[settings.type]
        key, source = self._key_of(settings)
        if source and not key:
            remedy = (
                "put it into its api_key_file, which the server must be able to read"
                if settings.api_key_file
                else f"set {source} in the server's environment"
            )
            raise self._not_configured(name, model, f"has no key: {remedy}", source)
        self._keys[name] = key
        base_url = settings.base_url or self._environment.get(variable) or public_url
        make, install = _maker(settings, base_url)
        try:
            return make(
                name,
                base_url=base_url,
                api_key=key or None,
                silence_timeout_s=settings.silence_timeout_s,
                retries=settings.retries,
            )
        except ModuleNotFoundError:
            raise self._not_configured(
                name, model, f"needs a package that is not installed: {install}", install
            ) from None

    def _key_of(self, settings: ProviderSettings) -> tuple[str, str]:
        """Return the key of a provider, and the variable that has to hold it, or "api_key_file".

        The key is "" if there is none. The variable is "" if no key is needed.
        """
        if settings.type is None or settings.type == "echo":
            return "", ""
        if settings.api_key_file:
            try:
                key = settings.api_key_file.read_text("utf-8").strip()
            except (OSError, UnicodeDecodeError):
                key = ""
            return key, "api_key_file"
        variable = _ENDPOINTS[settings.type][2]
        if settings.api_key_env is not None:
            variable = settings.api_key_env
        elif settings.base_url:
            # The operator's own server must not receive the key of the public API.
            variable = ""
        names = (variable, _SECOND_VARIABLES.get(variable, ""))
        keys = (self._environment.get(name, "").strip() for name in names if name)
        return next(filter(None, keys), ""), variable

    def _not_configured(self, provider: str, model: str, text: str, setting: str) -> ModelFault:
        return ModelFault(
            "MODEL_NOT_CONFIGURED",
            f"the model {model!r} is not available: {provider} {text}",
            metadata={"model": model, "provider": provider, "setting": setting},
        )


def _maker(settings: ProviderSettings, base_url: str) -> tuple[Callable[..., Provider], str]:
    """Return a function that creates a provider, and the command that installs its package."""
    match settings.type:
        case "anthropic":
            claude = AnthropicDialect(settings.inline_system)
            return partial(AnthropicMessages, dialect=claude), INSTALL
        case "openai-responses":
            return OpenAIResponses, INSTALL
        case "gemini":
            return Gemini, INSTALL_GEMINI
    is_openai = settings.is_openai
    if is_openai is None:
        is_openai = bool(_OPENAI_HOSTS.fullmatch(urlsplit(base_url).hostname or ""))
    dialect = ChatDialect(
        reasoning_key=settings.reasoning_key,
        keep_unknown_keys=settings.unknown_keys == "keep",
        is_openai=is_openai,
        files=settings.files,
        id_length=settings.id_length,
    )
    return partial(OpenAIChat, dialect=dialect), INSTALL
