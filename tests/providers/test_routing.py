"""Which provider answers for a name, and what is missing where none can."""

import sys

import pytest

from sessiond_server.providers.base import ModelFault
from sessiond_server.providers.routing import Models
from sessiond_server.providers.settings import ProviderSettings

KEYS = {"OPENAI_API_KEY": "sk-one", "ANTHROPIC_API_KEY": "sk-two"}


def where(models: Models, name: str) -> tuple[str, str]:
    route = models.route(name)
    return route.provider.name, route.model


def refusal(models: Models, name: str) -> ModelFault:
    with pytest.raises(ModelFault) as caught:
        models.route(name)
    assert caught.value.reason == "MODEL_NOT_CONFIGURED"
    assert caught.value.metadata["model"] == name
    return caught.value


async def test_names_that_are_built_in() -> None:
    models = Models(environment=KEYS)
    for name in ("gpt-5", "gpt-4o-mini", "o1", "o3", "o4-mini", "gpt-5-mini", "chatgpt-4o-latest"):
        assert where(models, name) == ("openai", name)
    assert where(models, "claude-sonnet-4") == ("anthropic", "claude-sonnet-4")
    assert where(models, "echo") == ("echo", "echo")
    assert where(models, "echo-1") == ("echo", "echo-1")
    assert where(models, "openai/whatever/it-is") == ("openai", "whatever/it-is")
    assert models.default_model == "echo"
    await models.close()


async def test_what_nobody_serves() -> None:
    models = Models(environment=KEYS)
    for name in ("GPT-5", "llama3", "", "meta/llama", "openai/", "echoes"):
        fault = refusal(models, name)
        assert fault.metadata == {"model": name, "setting": "providers"}
        assert repr(name) in fault.message


async def test_ones_own_come_first() -> None:
    own = {
        "local": ProviderSettings(
            type="openai", base_url="http://localhost:1/v1", models=("llama*", "gpt-oss*", "meta/*")
        ),
        "second": ProviderSettings(type="openai", base_url="http://localhost:2/v1", models=("*",)),
        "slow": ProviderSettings(type="echo"),
    }
    models = Models(own, environment={}, default_model="llama3")
    assert where(models, "gpt-oss-20b") == ("local", "gpt-oss-20b")
    assert where(models, "meta/llama") == ("local", "meta/llama")
    assert where(models, "claude-x") == ("second", "claude-x")
    assert where(models, "slow/x") == ("slow", "x")
    assert models.default_model == "llama3"
    await models.close()


async def test_a_provider_is_made_once() -> None:
    models = Models(environment=KEYS)
    assert models.route("gpt-5").provider is models.route("openai/gpt-4").provider
    await models.close()


async def test_preparing_passes_over_what_is_missing() -> None:
    models = Models(environment={"OPENAI_API_KEY": "sk-one"})
    models.prepare()
    assert where(models, "gpt-5") == ("openai", "gpt-5")
    assert refusal(models, "claude-x").metadata["setting"] == "ANTHROPIC_API_KEY"
    await models.close()


@pytest.mark.parametrize(
    ("own", "name", "setting"),
    [
        ({}, "gpt-5", "OPENAI_API_KEY"),
        ({}, "claude-x", "ANTHROPIC_API_KEY"),
        ({"openai": ProviderSettings(api_key_env="MY_KEY")}, "gpt-5", "MY_KEY"),
        ({"openai": ProviderSettings(base_url="http://localhost:1")}, "gpt-5", "OPENAI_API_KEY"),
        ({"other": ProviderSettings(type="anthropic")}, "other/x", "ANTHROPIC_API_KEY"),
        (
            {
                "other": ProviderSettings(
                    type="openai", base_url="http://localhost:1", api_key_env="MY_KEY"
                )
            },
            "other/x",
            "MY_KEY",
        ),
    ],
)
async def test_a_key_that_is_missing(
    own: dict[str, ProviderSettings], name: str, setting: str
) -> None:
    fault = refusal(Models(own, environment={setting: " "}), name)
    assert fault.metadata["setting"] == setting
    assert setting in fault.message
    assert fault.metadata["provider"] == (
        next(iter(own)) if own else "openai" if "gpt" in name else "anthropic"
    )


async def test_where_no_key_is_needed() -> None:
    own = {
        "openai": ProviderSettings(base_url="http://localhost:1", api_key_env=""),
        "local": ProviderSettings(type="openai", base_url="http://localhost:1"),
        "local-too": ProviderSettings(type="anthropic", base_url="http://localhost:1"),
    }
    models = Models(own, environment={})
    assert [where(models, f"{name}/x")[0] for name in own] == list(own)
    assert where(models, "gpt-5") == ("openai", "gpt-5")
    await models.close()


async def test_echo_for_all() -> None:
    models = Models(echo_models=True, environment={})
    for name in ("gpt-5", "claude-sonnet-4", "openai/gpt-5", "anything"):
        assert where(models, name) == ("echo", name)


async def test_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    monkeypatch.setitem(sys.modules, "anthropic", None)
    models = Models(environment=KEYS)
    for name in ("gpt-5", "claude-x"):
        fault = refusal(models, name)
        assert fault.metadata["setting"] == "pip install 'sessiond[models]'"
        assert "pip install 'sessiond[models]'" in fault.message
    assert where(models, "echo") == ("echo", "echo")


def test_a_provider_without_a_type() -> None:
    with pytest.raises(ValueError, match="own has no type"):
        Models({"own": ProviderSettings()})
