"""Every stand-in reads a body as strictly as the real API."""

import contextlib
from collections.abc import Callable
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ..support.strict_models.anthropic_messages import validate_anthropic
from ..support.strict_models.body import MAX_BYTES, parse_body
from ..support.strict_models.gemini import validate_gemini
from ..support.strict_models.openai_chat import (
    validate_deepseek,
    validate_groq,
    validate_openai_chat,
)
from ..support.strict_models.openai_responses import validate_openai_responses
from ..support.strict_models.refusal import Api, Refusal

APIS = get_args(Api)
VALIDATORS = (
    validate_openai_chat,
    validate_groq,
    validate_deepseek,
    validate_openai_responses,
    validate_anthropic,
    validate_gemini,
)
KEYS = (
    "role type content parts text tool_calls function name arguments id call_id tool_call_id "
    "tool_use_id input output summary functionCall functionResponse args thoughtSignature source "
    "cache_control thinking signature image_url"
)
WORDS = (
    "user assistant model system tool text tool_use tool_result thinking image function f c1 "
    "function_call function_call_output reasoning message input_text output_text"
)
JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(WORDS.split())
    | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS.split()), inner, max_size=5)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b'{"a": NaN}', b'{"a": Infinity}', b"\xff", b'{"a": ' + b"[" * 100_000],
    ids=["empty", "a list", "NaN", "Infinity", "not UTF-8", "unfinished"],
)
def test_a_body_that_is_no_json_object_is_refused(api: Api, content: bytes) -> None:
    assert parse_body(api, b'{"a": 1}') == {"a": 1}
    with pytest.raises(Refusal) as caught:
        parse_body(api, content)
    assert caught.value.status == 400


@pytest.mark.parametrize("api", APIS)
def test_a_large_body_is_refused(api: Api) -> None:
    content = b'{"a": "' + b"a" * 90 + b'"}'
    assert parse_body(api, content, len(content))
    with pytest.raises(Refusal) as caught:
        parse_body(api, content, len(content) - 1)
    assert caught.value.status == (400 if api == "gemini" else 413)
    assert caught.value.body()["error"]["message"]


def test_limits_of_size() -> None:
    assert MAX_BYTES["openai"] == 20 * 1024**2 < MAX_BYTES["anthropic"]


@pytest.mark.parametrize("validate", VALIDATORS, ids=lambda validate: validate.__name__)
@settings(max_examples=50, deadline=None)
@given(
    messages=JUNK | st.lists(JUNK, max_size=4),
    options=st.dictionaries(st.sampled_from(KEYS.split()), JUNK, max_size=2),
)
def test_junk_is_refused_and_breaks_nothing(
    validate: Callable[..., None], messages: Any, options: dict[str, Any]
) -> None:
    body = {"model": "m", "max_tokens": 1, **options}
    for key in ("messages", "input", "contents"):
        for fields in (body | {key: messages}, {"model": "m", key: messages}, {key: messages}):
            with contextlib.suppress(Refusal):
                validate(fields)
