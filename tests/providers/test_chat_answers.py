"""Answers of Chat Completions: their pieces, and the differences between servers."""

import json
from typing import Any

import pytest

from sessiond.v1.turn_pb2 import Usage
from sessiond_server.providers.base import Answer
from sessiond_server.providers.errors import ProviderCall, ProviderFault
from sessiond_server.providers.openai_chat import ChatAnswerBuilder, OpenAIChat

from ..support.model_server import ModelServer, Reply, fails
from .asking import hear, question


def grown(*deltas: dict[str, Any], finish_reason: str | None = "stop", **last: Any) -> Answer:
    answer = ChatAnswerBuilder(ProviderCall("openai", "m", 30))
    for delta in deltas:
        list(
            answer.add(
                {"model": "m-1", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
            )
        )
    list(
        answer.add({"choices": [{"index": 0, "delta": {}, "finish_reason": finish_reason}], **last})
    )
    return answer.build()


def message(*deltas: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(grown(*deltas).messages[0])
    return made


def call(**fields: Any) -> dict[str, Any]:
    return {"tool_calls": [fields]}


def test_arguments_are_put_together_byte_by_byte() -> None:
    made = message(
        {"role": "assistant", "content": None},
        call(index=0, id="a", type="function", function={"name": "f", "arguments": ""}),
        call(index=0, function={"arguments": '{"x" :'}),
        call(index=1, id="b", type="function", function={"name": "g", "arguments": "{"}),
        call(index=0, function={"arguments": " 1.0}"}),
        call(index=1, function={"arguments": "}"}),
    )
    assert made == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x" : 1.0}'}},
            {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
        ],
    }


def test_calls_that_all_have_the_same_index_or_none() -> None:
    for index in ({"index": 0}, {}):
        made = message(
            call(**index, id="a", type="function", function={"name": "f", "arguments": '{"x"'}),
            call(**index, function={"arguments": ":1}"}),
            call(**index, id="b", type="function", function={"name": "f", "arguments": "{}"}),
        )
        assert [
            (called["id"], called["function"]["arguments"]) for called in made["tool_calls"]
        ] == [("a", '{"x":1}'), ("b", "{}")]


def test_a_name_and_id_that_are_sent_again() -> None:
    made = message(
        call(index=0, id="a", type="function", function={"name": "f", "arguments": "{"}),
        call(index=0, id="a", type="function", function={"name": "f", "arguments": "}"}),
        call(index=0, id="", function={"name": "", "arguments": ""}),
    )
    assert made["tool_calls"] == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    ]


def test_what_a_server_adds_is_kept() -> None:
    signature = {"extra_content": {"google": {"thought_signature": "c2ln"}}}
    made = message(
        {
            "reasoning": "Let ",
            "reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "Let "}],
        },
        {
            "reasoning": "me.",
            "reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "me."}],
        },
        {"content": "Hi", "annotations": [{"type": "url_citation"}]},
        call(
            index=0, id="a", type="function", function={"name": "f", "arguments": "{}"}, **signature
        ),
    )
    assert made["reasoning"] == "Let me."
    assert made["reasoning_details"] == [{"type": "reasoning.text", "index": 0, "text": "Let me."}]
    assert made["annotations"] == [{"type": "url_citation"}]
    assert made["tool_calls"][0]["extra_content"] == signature["extra_content"]


def thinks(text: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": [{"type": "text", "text": text}]}


def test_content_that_is_a_list_of_parts() -> None:
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "content": [thinks("Let ")]},
        {"content": [thinks("me."), {"type": "text", "text": "Hi"}]},
        {"content": "."},
        {"content": [{"type": "text", "text": " You."}, {"type": "reference", "ids": [1]}]},
        {"content": []},
    ]
    assert message(*deltas) == {
        "role": "assistant",
        "content": "Hi. You.",
        "reasoning_content": "Let me.",
        "content_parts": [{"type": "reference", "ids": [1]}],
    }
    builder = ChatAnswerBuilder(ProviderCall("mistral", "m", 30))
    streamed = [
        (delta.text, delta.is_reasoning)
        for given in deltas
        for delta in builder.add({"choices": [{"delta": given}]})
    ]
    assert streamed == [
        ("Let ", True),
        ("me.", True),
        ("Hi", False),
        (".", False),
        (" You.", False),
    ]


def test_images_beside_the_content() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    assert message({"content": "Here."}, {"images": [{**image, "index": 0}]}) == {
        "role": "assistant",
        "content": "Here.",
        "images": [{**image, "index": 0}],
    }
    assert message({"content": [image]}) == {
        "role": "assistant",
        "content": None,
        "images": [image],
    }


@pytest.mark.parametrize("ids", [("", ""), (None, None), ("same", "same"), (3, {})])
def test_ids_of_calls_that_are_missing_or_repeated(ids: tuple[Any, Any]) -> None:
    made = message(
        *[
            call(index=i, **({} if id_ is None else {"id": id_}), function={"name": "f"})
            for i, id_ in enumerate(ids)
        ]
    )
    first, second = made["tool_calls"]
    assert first["id"] != second["id"]
    assert all(isinstance(called["id"], str) and called["id"] for called in (first, second))
    assert first == {
        "id": first["id"],
        "type": "function",
        "function": {"name": "f", "arguments": "{}"},
    }


def test_the_id_of_another_calls_kind_stays() -> None:
    made = message(call(index=0, id="a", type="custom", custom={"name": "f", "input": "x"}))
    assert made["tool_calls"] == [
        {"id": "a", "type": "custom", "custom": {"name": "f", "input": "x"}}
    ]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [({"ö": [1.0]}, '{"ö": [1.0]}'), ([], "[]"), (None, "{}"), ('{"a" :1}', '{"a" :1}')],
)
def test_arguments_that_are_no_text(arguments: Any, text: str) -> None:
    made = message(call(index=0, id="a", function={"name": "f", "arguments": arguments}))
    assert made["tool_calls"][0]["function"] == {"name": "f", "arguments": text}


def test_a_refusal() -> None:
    assert message({"refusal": "I "}, {"refusal": "won't."}) == {
        "role": "assistant",
        "content": None,
        "refusal": "I won't.",
    }


def test_half_a_surrogate_pair_is_kept_as_an_escape() -> None:
    assert grown({"content": "\ud83d"}).messages[0] == '{"role":"assistant","content":"\\ud83d"}'
    assert grown({"content": "ü"}).messages[0] == '{"role":"assistant","content":"ü"}'


def test_usage_in_full() -> None:
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "prompt_tokens_details": {"cached_tokens": 80},
        "completion_tokens_details": {"reasoning_tokens": 30},
    }
    expected = Usage(
        input_tokens=100, output_tokens=50, cached_input_tokens=80, reasoning_tokens=30
    )
    assert grown({"content": "x"}, usage=usage).usage == expected
    assert grown(
        {"content": "x"}, usage={"prompt_tokens": 1, "completion_tokens_details": None}
    ).usage == Usage(input_tokens=1)
    assert grown({"content": "x"}, usage=None).usage is None


@pytest.mark.parametrize(
    ("deltas", "reason"),
    [
        ([{"content": 3}], "protocol"),
        ([{"tool_calls": [3, {}]}, {"tool_calls": [{}]}], "protocol"),
        ([{"reasoning": "x"}], "without any content"),
    ],
)
def test_answers_that_cannot_be_stored(deltas: list[dict[str, Any]], reason: str) -> None:
    with pytest.raises(ProviderFault, match=reason) as caught:
        grown(*deltas)
    assert caught.value.reason == "MODEL_ANSWER_INVALID"


class TestServers:
    @pytest.fixture
    async def provider(self, model_server: ModelServer) -> Any:
        made = OpenAIChat(
            "local", base_url=model_server.openai_url, api_key=None, silence_timeout_s=30, retries=0
        )
        yield made
        await made.close()

    async def test_that_know_no_stream_options(
        self, provider: OpenAIChat, model_server: ModelServer
    ) -> None:
        model_server.script(fails(400, "Unknown parameter: stream_options"), Reply("Hi."))
        heard = await hear(provider, question())
        assert (heard.text, heard.answer.usage) == ("Hi.", None)
        await hear(provider, question())
        assert ["stream_options" in request.body for request in model_server.requests] == [
            True,
            False,
            False,
        ]

    async def test_stream_options_of_the_callers_own(
        self, provider: OpenAIChat, model_server: ModelServer
    ) -> None:
        model_server.script(fails(400, "Bad stream_options"))
        assert (
            await hear(provider, question(stream_options={"x": 1}))
        ).refusal.reason == "MODEL_REQUEST_REJECTED"
        assert [request.body["stream_options"] for request in model_server.requests] == [{"x": 1}]

    async def test_that_break_off_after_the_last_word(
        self, provider: OpenAIChat, model_server: ModelServer
    ) -> None:
        # The chunks are the role, "Hi.", the reason to stop, and usage.
        model_server.script(Reply("Hi.", after=3, then="cut"))
        heard = await hear(provider, question())
        assert (heard.text, heard.answer.stop_reason, heard.answer.usage) == ("Hi.", "stop", None)
