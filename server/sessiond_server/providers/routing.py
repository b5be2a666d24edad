"""Which provider answers for a model."""

import os
from collections.abc import Mapping
from contextlib import suppress
from fnmatch import fnmatchcase

from sessiond_server.providers.anthropic_messages import AnthropicMessages
from sessiond_server.providers.base import ModelFault, Provider, Route
from sessiond_server.providers.echo import Echo
from sessiond_server.providers.openai_chat import OpenAIChat
from sessiond_server.providers.settings import ProviderSettings, completed

INSTALL = "pip install 'sessiond[models]'"
_CLASSES: dict[str, type[OpenAIChat] | type[AnthropicMessages]] = {
    "openai": OpenAIChat,
    "anthropic": AnthropicMessages,
}
_PLACES = {
    "openai": ("OPENAI_BASE_URL", "https://api.openai.com/v1", "OPENAI_API_KEY"),
    "anthropic": ("ANTHROPIC_BASE_URL", "https://api.anthropic.com", "ANTHROPIC_API_KEY"),
}


class Models:
    """Finds the provider for a model's name. Providers are made when they are first asked for, and kept.

    Args:
        providers: the operator's own, by name; those that are built in need not be among them.
        default_model: the name for sessions that name none.
        echo_models: echo answers for every model.
        environment: where keys and the SDKs' base URLs are looked up. Default: that of the process.

    Raises: ValueError for a provider without a type.
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
        self._settings = completed(providers or {})
        self._echo = Echo() if echo_models else None
        self._environment = os.environ if environment is None else environment
        self._made: dict[str, Provider] = {}

    def route(self, name: str) -> Route:
        """Where a model's name leads.

        Args:
            name: "PROVIDER/NAME" with a provider of the settings, or a name that a pattern of one matches.

        Raises: ModelFault MODEL_NOT_CONFIGURED: no provider serves it, or its provider has no key or no SDK.
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
            f"no provider of this server serves the model {name!r}: name it in the models of one (providers), or ask for PROVIDER/MODEL "
            f"with one of {', '.join(self._settings)}",
            metadata={"model": name, "setting": "providers"},
        )

    def prepare(self) -> None:
        """Make all providers that have what they need. Importing an SDK takes up to a second, which then no call has to wait for."""
        for name in () if self._echo else self._settings:
            with suppress(ModelFault):
                self._provider(name, name)

    async def close(self) -> None:
        """Close the providers' connections."""
        made, self._made = self._made, {}
        for provider in made.values():
            await provider.close()

    def _provider(self, name: str, model: str) -> Provider:
        if name not in self._made:
            self._made[name] = self._make(name, model)
        return self._made[name]

    def _make(self, name: str, model: str) -> Provider:
        settings = self._settings[name]
        if settings.type is None or settings.type == "echo":
            return Echo(name)
        variable, public_url, key_variable = _PLACES[settings.type]
        if settings.api_key_env is not None:
            key_variable = settings.api_key_env
        elif settings.base_url:
            # A server of one's own; and a key for the public one is not for others.
            key_variable = ""
        key = self._environment.get(key_variable, "").strip() if key_variable else ""
        if key_variable and not key:
            raise self._not_configured(
                name,
                model,
                f"has no key: set {key_variable} in the server's environment",
                key_variable,
            )
        try:
            return _CLASSES[settings.type](
                name,
                base_url=settings.base_url or self._environment.get(variable) or public_url,
                api_key=key or None,
                silence_timeout_s=settings.silence_timeout_s,
                retries=settings.retries,
            )
        except ModuleNotFoundError:
            raise self._not_configured(
                name, model, f"needs a package that is not installed: {INSTALL}", INSTALL
            ) from None

    def _not_configured(self, provider: str, model: str, text: str, setting: str) -> ModelFault:
        return ModelFault(
            "MODEL_NOT_CONFIGURED",
            f"the model {model!r} cannot be asked: {provider} {text}",
            metadata={"model": model, "provider": provider, "setting": setting},
        )
