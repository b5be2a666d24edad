"""Every stand-in reads a body as strictly as the real API."""

from typing import get_args

import pytest

from ..support.strict_models.body import MAX_BYTES, parse_body
from ..support.strict_models.refusal import Api, Refusal

APIS = get_args(Api)


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
