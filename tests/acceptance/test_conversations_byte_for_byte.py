"""Conversations are stored, the server is restarted, and they are read back byte for byte."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sessiond import Client

from ..support.processes import ServerProcess

Start = Callable[..., ServerProcess]
Conversation = dict[str, Any]

# Valid JSON that no serializer would write. The server must keep its exact bytes.
ODD_TEXTS = [
    '{"role":"system","content":"Du bist höflich. 你好 👩‍👩‍👧 \\u0061"}',
    '{ "content" : "Where is my order?\\r\\n\\t\\"12-A\\"" , "role" : "user" }',
    '{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":'
    '{"name":"find_order","arguments":"{\\"id\\": \\"12-A\\", \\"deep\\": [1, 2.50, 1e3]}"}}]}',
    '{"role":"tool","tool_call_id":"call_1","name":"find_order",'
    '"content":"{\\"state\\": \\"sent\\", \\"price\\": 12.50}"}',
    '{"role":"assistant","content":"half of an emoji: \\ud83d, and the other half: \\ude00",'
    '"n":1.0,"big":123456789012345678901234567890}',
    '\n{"role":"user","content":"a whole one escaped: \\ud83d\\ude00 \\/ \\u2028 end\u2028"}\n',
    '{"role":"user","content":[{"type":"text","text":"part one "},'
    '{"type":"image_url","image_url":{"url":"data:,"}}],"x":{"b":1,"a":2}}',
    '{"role":"assistant","content":"","refusal":null,"annotations":[]}',
]


def summary_matches(summary: str, messages: list[Conversation]) -> bool:
    """Return whether a summary consists of the first words of the first user message."""
    first = next(str(message["content"]) for message in messages if message["role"] == "user")
    words = " ".join(first.split())
    return bool(summary) and words.startswith(" ".join(summary.rstrip("…. ").split()))


def as_sent(blob: Conversation) -> str:
    """Return the JSON text that the client writes for a dict."""
    return json.dumps(blob, ensure_ascii=False, separators=(",", ":"))


def test_conversations_survive_a_restart_byte_for_byte(
    data_dir: Path, start_server: Start, conversations: list[Conversation]
) -> None:
    half = len(conversations) // 2
    first = start_server(SESSIOND_DATA_DIR=str(data_dir))
    sent: dict[str, list[str]] = {}
    with Client(first.target) as client:
        for number, conversation in enumerate(conversations):
            session_id, messages = conversation["session_id"], conversation["messages"]
            client.create_session(
                session_id=session_id, metadata={"reward": conversation["reward"]}
            )
            if number < half:
                stored = client.sessions.store_messages(
                    session_id=session_id, messages=messages, format="openai"
                )
                sent[session_id] = [as_sent(message) for message in messages]
            else:
                # Send escapes, spaces and line breaks, which the client does not write itself.
                texts = [
                    json.dumps(message, indent=seq % 3 or None)
                    for seq, message in enumerate(messages)
                ]
                stored = client.sessions.import_messages(
                    session_id=session_id, messages=texts, format="openai"
                )
                sent[session_id] = texts
            assert list(stored) == list(range(1, len(messages) + 1))
    assert first.terminate() == 0

    second = start_server(SESSIOND_DATA_DIR=str(data_dir))
    with Client(second.target) as client:
        for conversation in conversations:
            session_id, messages = conversation["session_id"], conversation["messages"]
            back = client.sessions.get_messages(session_id=session_id).to_list()
            assert [message.seq for message in back] == list(range(1, len(messages) + 1))
            assert [message.json.encode() for message in back] == [
                text.encode() for text in sent[session_id]
            ]
            assert [message.blob for message in back] == messages
            assert [message.role for message in back] == [message["role"] for message in messages]

        rows = {row.session_id: row for row in client.list_sessions()}
        assert len(rows) == len(conversations)
        for conversation in conversations:
            row = rows[conversation["session_id"]]
            assert row.message_count == row.last_seq == len(conversation["messages"])
            assert row.metadata == {"reward": conversation["reward"]}
            assert summary_matches(row.summary, conversation["messages"])
            assert row.start_time <= row.modified_time

        for session_id in list(sent)[:: len(sent) // 10]:
            check_session_is_usable(client, session_id, sent[session_id])


def check_session_is_usable(client: Client, session_id: str, sent: list[str]) -> None:
    """Destroy, resume, append to, export and import the session."""
    client.sessions.destroy(session_id)
    assert session_id in {row.session_id for row in client.list_sessions(status="destroyed")}
    session = client.resume_session(session_id)
    assert session.info.status == "active"
    assert session.store_message({"role": "user", "content": "And now?"}).last_seq == len(sent) + 1
    export = json.loads(json.dumps(session.export()))
    assert export["session"]["session_id"] == session_id
    assert [message["json"] for message in export["messages"]] == [
        *sent,
        '{"role":"user","content":"And now?"}',
    ]
    again = client.sessions.import_session(session.export_lines(), f"{session_id} again")
    assert again.token_count == session.refresh().token_count
    assert client.sessions.export(again.session_id)["messages"] == export["messages"]
    client.delete_session(again.session_id)


def test_odd_json_is_kept_byte_for_byte(database_url: str, start_server: Start) -> None:
    blobs = [json.loads(text) for text in ODD_TEXTS if "\\ud83d," not in text]
    first = start_server(SESSIOND_DATABASE_URL=database_url)
    with Client(first.target) as client:
        for session_id in ("texts", "pieces", "dicts"):
            client.create_session(session_id=session_id)
        client.sessions.store_messages("texts", ODD_TEXTS)
        client.sessions.import_messages("pieces", (text.encode() for text in ODD_TEXTS))
        client.sessions.store_messages("dicts", blobs)
    assert first.terminate() == 0

    second = start_server(SESSIOND_DATABASE_URL=database_url)
    with Client(second.target) as client:
        for session_id in ("texts", "pieces"):
            back = client.sessions.get_messages(session_id).to_list()
            assert [message.json for message in back] == ODD_TEXTS
            assert [message.blob for message in back] == [json.loads(text) for text in ODD_TEXTS]
            check_session_is_usable(client, session_id, ODD_TEXTS)
        back = client.sessions.get_messages("dicts").to_list()
        assert [message.blob for message in back] == blobs
        assert [message.json for message in back] == [as_sent(blob) for blob in blobs]
        counts = {row["sessionId"]: row["messageCount"] for row in client.list_sessions()}
        assert counts == {
            "texts": len(ODD_TEXTS) + 1,
            "pieces": len(ODD_TEXTS) + 1,
            "dicts": len(blobs),
        }
        assert {row.summary for row in client.list_sessions()} == {'Where is my order? "12-A"'}
