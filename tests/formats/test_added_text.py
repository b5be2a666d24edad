"""If a text is added to a history that ends with a text, the request keeps all of its files.

The server relies on this. If the files of a request were too large, it refuses later requests of
the session without creating them.
"""

import json
import os
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sessiond.v1.message_pb2 import (
    FORMAT_ANTHROPIC,
    FORMAT_GEMINI,
    FORMAT_OPENAI,
    ROLE_USER,
    Format,
    Message,
)
from sessiond_server.dialects.request import FittedRequest, History
from sessiond_server.formats.report import UnsendableHistory
from sessiond_server.formats.wire import AssetString, encode

from .dialects import DIALECTS
from .histories import ASSETS, KNOWN_ASSET, histories

EXAMPLES = settings(
    max_examples=int(os.environ.get("SESSIOND_TEST_EXAMPLES", "40")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def text(content: str, seq: int, message_format: Format.ValueType) -> Message:
    body = (
        {"content": content} if message_format != FORMAT_GEMINI else {"parts": [{"text": content}]}
    )
    value = json.dumps({"role": "user", **body})
    return Message(role=ROLE_USER, format=message_format, json=value, seq=seq)


def picture(seq: int) -> Message:
    url = {"url": f"sessiond-asset:{KNOWN_ASSET}"}
    body = json.dumps({"role": "user", "content": [{"type": "image_url", "image_url": url}]})
    return Message(role=ROLE_USER, format=FORMAT_OPENAI, json=body, seq=seq)


def files_of(request: FittedRequest) -> Counter[tuple[str, bool]]:
    pieces = encode(request.body).pieces
    return Counter((p.asset_id, p.is_text) for p in pieces if isinstance(p, AssetString))


@pytest.mark.parametrize("name", DIALECTS)
@EXAMPLES
@given(data=st.data())
def test_an_added_text_keeps_files_and_changes(name: str, data: st.DataObject) -> None:
    dialect = DIALECTS[name]
    formats = st.sampled_from([FORMAT_OPENAI, FORMAT_ANTHROPIC, FORMAT_GEMINI])
    messages = data.draw(histories())
    count = len(messages)
    messages += [picture(count + 1), text("What is it?", count + 2, data.draw(formats))]
    more = text("And now?", count + 3, data.draw(formats))
    try:
        before, after = (
            dialect.fit(History(given, "Be kind.", dialect.options, ASSETS))
            for given in (messages, [*messages, more])
        )
    except UnsendableHistory:
        return
    assert files_of(before) <= files_of(after)
    # The new text may be merged with the one before it, which is a change of its own.
    changes = [change for change in after.report if change.seq <= count + 2]
    assert changes == list(before.report)
