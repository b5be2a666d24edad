"""The commands of the example programs, with the Python client."""

import base64
import os
import sys

from sessiond import Client, SessiondError


def show(text: str) -> None:
    print(base64.b64encode(text.encode()).decode(), flush=True)


with Client(os.environ["SESSIOND_TARGET"]) as client:
    match sys.argv[1:]:
        case ["write", session_id]:
            session = client.create_session(session_id, get_or_create=True)
            lines = [base64.b64decode(line).decode() for line in sys.stdin]
            session.store_messages(lines, format="openai")
        case ["read", session_id]:
            for message in client.sessions.get_messages(session_id):
                show(message.proto.json)
        case ["watch", session_id, count]:
            left = int(count)
            for event in client.sessions.events(session_id, after_seq=0):
                if event.message is not None:
                    show(event.message.proto.json)
                    left -= 1
                    if not left:
                        break
        case ["reason", session_id]:
            try:
                client.get_session(session_id)
            except SessiondError as error:
                print(error.reason)
