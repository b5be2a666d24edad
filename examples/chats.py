"""Conversations with models: several at once, streamed, aborted, continued later.

Start a server (`make run`), then: python examples/chats.py.
SESSIOND_TARGET names a server elsewhere. The default model is built in and echoes what it is given;
MODEL=gpt-5 uses another one, for which the server needs a key.
"""

import os
from collections import Counter

from sessiond import Client, TurnAborted

PREFIX = "example-chats-"
MODEL = os.environ.get("MODEL", "echo")


def several(client: Client) -> None:
    """Hold several conversations. The model sees the history of one session only."""
    languages = ("Python", "Go")
    sessions = {name: client.create_session(f"{PREFIX}{name}", model=MODEL) for name in languages}
    for name, session in sessions.items():
        session.send_and_wait(f"I write {name}.")
    for session in sessions.values():
        print(session.session_id, "->", session.send_and_wait("How do I write a test?").content)


def as_it_is_written(client: Client) -> None:
    """Show an answer while it is written. Other watchers of the session receive it, too."""
    session = client.create_session(f"{PREFIX}stream", model=MODEL)
    received: Counter[str] = Counter()
    unsubscribe = session.on(lambda event: received.update([event.type]))
    for event in session.stream("Tell me of the sea."):
        if event.type == "assistant.message_delta":
            print(event.data.delta_content, end="", flush=True)
    print()
    session.send_and_wait("And of the wind.")
    unsubscribe()
    messages = received["user.message"] + received["assistant.message"]
    print("messages that the handler received:", messages)


def stopped(client: Client) -> None:
    """Abort a turn. What was sent is kept, and a send without a prompt continues from there."""
    # The delay makes the built-in model slow enough to be aborted.
    session = client.create_session(
        f"{PREFIX}stopped", model="echo", config={"model_options": {"echo_delay_ms": 200}}
    )
    try:
        for event in session.stream("Count to a million."):
            if event.type == "assistant.message_delta":
                session.abort(event.data.turn_id)
    except TurnAborted:
        print("stopped; kept:", [message.content for message in session.get_messages()])
    session.update(config={})
    print("continued:", session.send_and_wait().content)


def later(client: Client) -> None:
    """Send and leave. Another program finds the answer by the session's id."""
    sent = client.create_session(f"{PREFIX}later", model=MODEL).send("Think about it.")

    again = client.resume_session(f"{PREFIX}later")
    print("answered:", again.wait_for_turn(sent.turn_id).content)
    [turn] = again.turns()
    print(
        turn.state, "with", turn.usage.output_tokens if turn.usage else "unknown", "tokens written"
    )


def main() -> None:
    """Run all four examples, and clean up."""
    with Client() as client:
        client.sessions.delete_many(session_id_prefix=PREFIX)
        several(client)
        as_it_is_written(client)
        stopped(client)
        later(client)
        client.sessions.delete_many(session_id_prefix=PREFIX)


if __name__ == "__main__":
    main()
