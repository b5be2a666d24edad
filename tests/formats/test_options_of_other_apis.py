"""Options that were written for another API, as in a session whose model was changed."""

import json
from typing import Any

import pytest

from sessiond_server.dialects import openai_chat
from sessiond_server.dialects.openai_chat_parts import ChatDialect
from sessiond_server.dialects.request import History
from sessiond_server.formats.report import ChangeKind

from .dialects import DIALECTS
from .native_messages import USER, everywhere, history

JSON = dict[str, Any]
SCHEMA = {"type": "object", "properties": {"why": {"type": "string"}, "city": {"type": "string"}}}
# The same options in the form of each API.
CHAT: JSON = {
    "max_completion_tokens": 200,
    "stop": ["END"],
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": SCHEMA},
    },
    "tools": [
        {
            "type": "function",
            "function": {"name": "look_up", "description": "Look.", "parameters": SCHEMA},
        }
    ],
    "tool_choice": {"type": "function", "function": {"name": "look_up"}},
}
RESPONSES: JSON = {
    "max_output_tokens": 200,
    "instructions": "Be brief.",
    "text": {"format": {"type": "json_schema", "name": "answer", "schema": SCHEMA}},
    "tools": [
        {"type": "function", "name": "look_up", "description": "Look.", "parameters": SCHEMA}
        | {"strict": False}
    ],
    "tool_choice": {"type": "function", "name": "look_up"},
}
ANTHROPIC: JSON = {
    "max_tokens": 200,
    "stop_sequences": ["END"],
    "system": [{"type": "text", "text": "Be brief."}],
    "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
    "tools": [{"name": "look_up", "description": "Look.", "input_schema": SCHEMA}],
    "tool_choice": {"type": "tool", "name": "look_up"},
}
GEMINI: JSON = {
    "generationConfig": {
        "maxOutputTokens": 200,
        "stopSequences": ["END"],
        "responseMimeType": "application/json",
        "responseJsonSchema": SCHEMA,
    },
    "systemInstruction": {"parts": [{"text": "Be brief."}]},
    "tools": [
        {
            "functionDeclarations": [
                {"name": "look_up", "description": "Look.", "parametersJsonSchema": SCHEMA}
            ]
        }
    ],
    "toolConfig": {
        "functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["look_up"]},
    },
}
# The options of Google's SDK for Python.
GOOGLE_SDK: JSON = {
    "max_output_tokens": 200,
    "stop_sequences": ["END"],
    "response_mime_type": "application/json",
    "response_json_schema": SCHEMA,
    "system_instruction": "Be brief.",
    "tools": [
        {
            "function_declarations": [
                {
                    "name": "look_up",
                    "description": "Look.",
                    "parameters": {
                        "type": "OBJECT",
                        "properties": {"why": {"type": "STRING"}, "city": {"type": "STRING"}},
                    },
                }
            ]
        }
    ],
    "tool_config": {
        "functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["look_up"]},
    },
}
WRITTEN = {
    "chat": CHAT,
    "responses": RESPONSES,
    "anthropic": ANTHROPIC,
    "gemini": GEMINI,
    "google's SDK": GOOGLE_SDK,
}
OF_API = {"openai": CHAT, "responses": RESPONSES, "anthropic": ANTHROPIC, "gemini": GEMINI}
# The options with instructions, which are joined with the session's instructions.
INSTRUCTIONS = {"instructions", "system", "systemInstruction", "system_instruction"}


def body_of(name: str, options: JSON) -> tuple[Any, JSON]:
    request, body = DIALECTS[name].send(history(USER), options)
    return request, body


class TestConversion:
    """Options that several APIs have, under different names."""

    @everywhere
    @pytest.mark.parametrize("source", WRITTEN)
    def test_the_options_of_any_api_are_accepted(self, name: str, source: str) -> None:
        request, body = body_of(name, WRITTEN[source])
        text = json.dumps(body)
        assert "200" in text
        assert '"look_up"' in text
        assert text.count('"why"') == 2
        if WRITTEN[source] is not CHAT:
            assert "Be brief." in text
        reported = {change.detail for change in request.report.changes_of(0)}
        own = OF_API.get(name, CHAT)
        for key in WRITTEN[source].keys() - INSTRUCTIONS:
            is_own = body.get(key) == WRITTEN[source][key]
            assert is_own or f"options.{key}" in reported or key == "tool_config", key
        if WRITTEN[source] is own:
            assert not reported

    @pytest.mark.parametrize("name", OF_API)
    def test_own_options_are_sent_unchanged_in_their_order(self, name: str) -> None:
        options = OF_API[name] | {"tomorrow": {"b": 1, "a": 2}}
        request, body = DIALECTS[name].make(history(USER), options)
        assert not len(request.report)
        sent = {key: value for key, value in body.items() if key in options}
        # The harness adds its system prompt to the instructions, which may also move behind other
        # keys. It sets max_tokens for Anthropic even if the options do not.
        skipped = INSTRUCTIONS | {"max_tokens"}
        texts = [
            json.dumps({key: item for key, item in fields.items() if key not in skipped})
            for fields in (sent, options)
        ]
        assert texts[0] == texts[1]

    @pytest.mark.parametrize("source", WRITTEN)
    def test_gemini_gets_everything_in_its_places(self, source: str) -> None:
        _, body = body_of("gemini", WRITTEN[source])
        config = body["generationConfig"]
        assert config["maxOutputTokens"] == 200
        assert config["responseMimeType"] == "application/json"
        assert config.get("responseJsonSchema") == SCHEMA
        assert config.get("stopSequences", ["END"]) == ["END"]
        assert "look_up" in json.dumps(body["toolConfig"])

    def test_options_of_sampling(self) -> None:
        sampling = {"temperature": 0.5, "top_p": 0.25, "seed": 7, "frequency_penalty": 1}
        _, body = body_of("gemini", {"generationConfig": {"topK": 3, "seed": 1}} | sampling)
        expected = {"topK": 3, "seed": 7, "temperature": 0.5, "topP": 0.25, "frequencyPenalty": 1}
        assert body["generationConfig"] == expected
        later = sampling | {"generationConfig": {"seed": 1}}
        assert body_of("gemini", later)[1]["generationConfig"]["seed"] == 1
        _, body = body_of("openai", {"generationConfig": {"topP": 0.25, "seed": 7}, "top_p": 0.5})
        assert (body["top_p"], body["seed"]) == (0.5, 7)

    def test_anthropic_gets_everything_in_its_places(self) -> None:
        request, body = body_of("anthropic", {"max_tokens": 9, **CHAT, "seed": 3})
        assert body["max_tokens"] == 200
        assert body["stop_sequences"] == ["END"]
        assert body["output_config"]["format"] == {"type": "json_schema", "schema": SCHEMA}
        assert body["tools"] == ANTHROPIC["tools"]
        assert body["tool_choice"] == ANTHROPIC["tool_choice"]
        changes = {change.detail: change.kind for change in request.report.changes_of(0)}
        assert changes["options.seed"] is ChangeKind.FIELD_REMOVED
        assert changes["options.stop"] is ChangeKind.FIELD_CHANGED
        assert "options.max_tokens" not in changes

    def test_chat_completions_get_instructions_as_a_message(self) -> None:
        _, body = body_of("openai", ANTHROPIC)
        assert body["messages"][0] == {"role": "system", "content": "Be brief.\n\nBe kind."}
        assert body["tools"] == CHAT["tools"]
        assert body["tool_choice"] == CHAT["tool_choice"]
        assert body["response_format"] == CHAT["response_format"]
        assert body["max_completion_tokens"] == 200

    def test_openai_gets_the_name_of_the_limit_that_all_its_models_accept(self) -> None:
        request, body = body_of("openai", {"max_tokens": 5})
        assert (body["max_completion_tokens"], "max_tokens" in body) == (5, False)
        assert [change.detail for change in request.report] == ["options.max_tokens"]
        assert body_of("groq", {"max_tokens": 5})[1]["max_tokens"] == 5

    def test_responses_get_everything_in_its_places(self) -> None:
        _, body = body_of("responses", CHAT | {"reasoning_effort": "low", "verbosity": "low"})
        assert body["tools"] == RESPONSES["tools"]
        assert body["tool_choice"] == RESPONSES["tool_choice"]
        assert body["text"] == RESPONSES["text"] | {"verbosity": "low"}
        assert body["reasoning"] == {"effort": "low"}
        assert body["max_output_tokens"] == 200

    def test_parallel_calls_are_switched_off_for_anthropic(self) -> None:
        options = {"tools": CHAT["tools"], "parallel_tool_calls": False}
        _, body = body_of("anthropic", options)
        assert body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
        _, body = body_of("anthropic", options | {"tool_choice": "required"})
        assert body["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}

    @everywhere
    @pytest.mark.parametrize("choice", ["auto", "none", "required", {"type": "any"}, "AUTO"])
    def test_choices_among_tools(self, name: str, choice: Any) -> None:
        options = {"tools": CHAT["tools"], "tool_choice": choice}
        if choice == "AUTO":
            mode = {"functionCallingConfig": {"mode": "AUTO"}}
            options = {"tools": GEMINI["tools"], "toolConfig": mode}
        _, body = body_of(name, options)
        assert {"tool_choice", "toolConfig"} & body.keys()

    @everywhere
    def test_names_of_tools_are_those_of_the_calls(self, name: str) -> None:
        declared = {"name": "notes.look up", "parametersJsonSchema": SCHEMA}
        tools = [{"functionDeclarations": [declared]}]
        call: JSON = {"role": "model", "parts": [{"functionCall": {"name": "notes.look up"}}]}
        _, body = DIALECTS[name].make(history(USER, call, USER), {"tools": tools})
        names = set(json.dumps(body).replace(".", "_").replace(" ", "_").split('"'))
        assert names & {"notes_look_up"}
        if name != "gemini":
            assert "notes.look up" not in json.dumps(body)

    def test_legacy_functions(self) -> None:
        options = {
            "functions": [CHAT["tools"][0]["function"]],
            "function_call": {"name": "look_up"},
        }
        for name in ("anthropic", "gemini", "responses"):
            _, body = body_of(name, options)
            assert "look_up" in json.dumps(body["tools"])
        _, body = DIALECTS["openai"].make(history(USER), options)
        assert body["functions"] == options["functions"]


class TestRemoval:
    """Options that have no equivalent in the API of the model."""

    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("anthropic", {"seed": 1, "logit_bias": {"1": 2}, "n": 1, "stream_options": {}}),
            ("anthropic", {"safetySettings": [], "generationConfig": {"candidateCount": 2}}),
            ("openai", {"reasoning": {"summary": "auto"}, "output_config": {"task_budget": {}}}),
            ("openai", {"thinking": {"type": "enabled", "budget_tokens": 1024}, "top_k": 3}),
            ("openai", {"safetySettings": [], "truncation": "auto", "include": []}),
            ("responses", {"stop": "x", "seed": 1, "presence_penalty": 1, "n": 2, "top_k": 3}),
            ("gemini", {"reasoning_effort": "low", "thinking": {"type": "adaptive"}, "user": "u"}),
        ],
    )
    def test_it_is_left_out_and_reported(self, name: str, options: JSON) -> None:
        request, body = body_of(name, options)
        assert not options.keys() & body.keys()
        reported = {change.detail: change.kind for change in request.report.changes_of(0)}
        assert reported == {f"options.{key}": ChangeKind.FIELD_REMOVED for key in options}

    def test_a_part_of_an_option_is_reported_with_its_path(self) -> None:
        config = {"maxOutputTokens": 5, "thinkingConfig": {"thinkingBudget": 1}, "topK": 3}
        options = {"generationConfig": config, "reasoning": {"effort": "low", "summary": "auto"}}
        request, body = body_of("openai", options)
        assert (body["max_completion_tokens"], body["reasoning_effort"]) == (5, "low")
        reported = {change.detail: change.kind.name for change in request.report.changes_of(0)}
        assert reported == {
            "options.generationConfig": "FIELD_CHANGED",
            "options.generationConfig.thinkingConfig": "FIELD_REMOVED",
            "options.generationConfig.topK": "FIELD_REMOVED",
            "options.reasoning": "FIELD_CHANGED",
            "options.reasoning.summary": "FIELD_REMOVED",
        }

    @everywhere
    def test_tools_that_another_provider_runs(self, name: str) -> None:
        tools = [{"type": "web_search_20250305", "name": "web_search"}, {"googleSearch": {}}]
        own = {"anthropic": tools[:1], "gemini": tools[1:]}.get(name, [])
        options = {"tools": tools, "tool_choice": {"type": "auto"}}
        request, body = DIALECTS[name].make(history(USER), options)
        if name in ("groq", "deepseek"):
            assert body["tools"] == tools
            return
        assert body.get("tools", []) == own
        assert ("options.tools") in {change.detail for change in request.report.changes_of(0)}
        if not own:
            assert "tool_choice" not in body

    def test_compatible_servers_keep_options_of_their_own(self) -> None:
        options = {"top_k": 5, "reasoning": {"max_tokens": 9}, "thinking": {"type": "disabled"}}
        dialect = ChatDialect(is_openai=False)
        made = openai_chat.fit(History(history(USER), options=options | {"top_n": 1}), dialect)
        assert made.body.items() >= (options | {"top_n": 1}).items()
        others = {
            "max_output_tokens": 5,
            "reasoning": {"effort": "low"},
            "thinking": {"type": "enabled", "budget_tokens": 2000},
            "safetySettings": [],
        }
        made = openai_chat.fit(History(history(USER), options=others), dialect)
        assert made.body.keys() == {"max_tokens", "reasoning_effort", "messages"}
        adaptive = History(history(USER), options={"thinking": {"type": "adaptive"}})
        assert openai_chat.fit(adaptive, dialect).body.keys() == {"messages"}
