"""The provider for the name of a model, and the error if there is none."""

import sys
from pathlib import Path
from typing import Any

import pytest

from sessiond_server.providers.base import ModelFault
from sessiond_server.providers.openai_chat import OpenAIChat
from sessiond_server.providers.routing import Models
from sessiond_server.providers.settings import ProviderSettings

KEYS = {"OPENAI_API_KEY": "sk-one", "ANTHROPIC_API_KEY": "sk-two", "GEMINI_API_KEY": "three"}


def where(models: Models, name: str) -> tuple[str, str]:
    route = models.route(name)
    return route.provider.name, route.model


def refusal(models: Models, name: str) -> ModelFault:
    with pytest.raises(ModelFault) as caught:
        models.route(name)
    assert caught.value.reason == "MODEL_NOT_CONFIGURED"
    assert caught.value.metadata["model"] == name
    return caught.value


async def test_a_key_in_a_file_is_used_and_read_again(tmp_path: Path) -> None:
    key = tmp_path / "key"
    providers = {"openai": ProviderSettings(api_key_file=key)}
    models = Models(providers, environment={})
    missing = refusal(models, "gpt-5")
    assert missing.metadata["setting"] == "api_key_file"
    assert str(tmp_path) not in missing.message
    key.write_text("sk-first\n")
    first = models.route("gpt-5").provider
    models.reload(providers)
    assert models.route("gpt-5").provider is first
    key.write_text("sk-second\n")
    models.reload(providers)
    assert models.route("gpt-5").provider is not first
    key.unlink()
    models.reload(providers)
    refusal(models, "gpt-5")
    await models.close()


async def test_a_reload_adds_and_removes_providers() -> None:
    models = Models({"own": ProviderSettings(type="echo", models=("own-*",))}, environment={})
    assert where(models, "own-1") == ("own", "own-1")
    models.reload({"other": ProviderSettings(type="echo", models=("other-*",))})
    assert where(models, "other-1") == ("other", "other-1")
    refusal(models, "own-1")
    await models.close()


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


RESPONSES_MODELS = (
    "o1-pro",
    "o3-pro-2025-06-10",
    "gpt-5-pro",
    "gpt-5.2-pro",
    "gpt-5-codex",
    "gpt-5.1-codex-max",
    "codex-mini-latest",
    "o3-deep-research",
    "o4-mini-deep-research",
    "computer-use-preview",
)


@pytest.mark.parametrize("name", RESPONSES_MODELS)
async def test_models_that_only_responses_serves(name: str) -> None:
    for own in ({}, {"openai": ProviderSettings(retries=1)}):
        models = Models(own, environment=KEYS)
        assert where(models, name) == ("openai-responses", name)
        await models.close()


async def test_models_of_gemini() -> None:
    for variable in ("GEMINI_API_KEY", "GOOGLE_API_KEY"):
        models = Models(environment={variable: "k"})
        assert where(models, "gemini-3-pro") == ("gemini", "gemini-3-pro")
        await models.close()
    fault = refusal(Models(environment={}), "gemini-3-pro")
    assert fault.metadata["setting"] == "GEMINI_API_KEY"


async def test_the_operators_openai_serves_responses_too() -> None:
    own = {"openai": ProviderSettings(base_url="http://localhost:1/v1", api_key_env="")}
    models = Models(own, environment={})
    assert where(models, "gpt-5-pro") == ("openai-responses", "gpt-5-pro")
    await models.close()
    # The operator's patterns take precedence.
    own = {"openai": ProviderSettings(models=("gpt-*",), api_key_env="")}
    models = Models(own, environment={})
    assert where(models, "gpt-5-pro") == ("openai", "gpt-5-pro")
    await models.close()


@pytest.mark.parametrize(
    ("given", "is_openai"),
    [
        ({}, True),
        ({"base_url": "https://mine.openai.azure.com/openai/v1"}, True),
        ({"base_url": "https://eu.api.openai.com/v1"}, True),
        ({"base_url": "http://localhost:1/v1"}, False),
        ({"base_url": "https://openai.com.example.com/v1"}, False),
        ({"base_url": "http://localhost:1/v1", "is_openai": True}, True),
        ({"is_openai": False}, False),
    ],
)
async def test_whether_a_server_is_openais(given: dict[str, Any], *, is_openai: bool) -> None:
    settings = ProviderSettings(type="openai", api_key_env="", **given)
    models = Models({"it": settings}, environment={})
    provider = models.route("it/m").provider
    assert isinstance(provider, OpenAIChat)
    assert provider.dialect.is_openai is is_openai
    await models.close()


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("anthropic", {"reasoning_key": "reasoning"}, "anthropic has reasoning_key"),
        ("it", {"type": "gemini", "files": False}, "it has files, which only the type openai has"),
        ("it", {"type": "openai-responses", "id_length": 40}, "it has id_length"),
        ("it", {"type": "openai", "inline_system": True}, "only the type anthropic has"),
        ("it", {"type": "echo", "unknown_keys": "keep"}, "it has the type echo"),
        ("it", {}, "set it to one of openai, openai-responses, anthropic, gemini, echo"),
    ],
)
def test_a_setting_of_another_type(name: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Models({name: ProviderSettings.model_validate(given)})


@pytest.mark.parametrize(
    "given",
    [
        {"type": "google"},
        {"reasoning_key": "thoughts"},
        {"unknown_keys": "maybe"},
        {"id_length": 3},
        {"files": "some"},
    ],
)
def test_a_setting_of_no_known_value(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(given))):
        ProviderSettings.model_validate(given)


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
    monkeypatch.setitem(sys.modules, "httpx2", None)
    fault = refusal(models, "gemini-3-pro")
    assert fault.metadata["setting"] == "pip install 'sessiond[gemini]'"


def test_a_provider_without_a_type() -> None:
    with pytest.raises(ValueError, match="own has no type"):
        Models({"own": ProviderSettings()})
