"""One conversation from start to end: create, append, read, destroy, resume, delete.

Start a server (`make run`), then: python examples/quickstart.py.
SESSIOND_TARGET names a server elsewhere.
"""

from sessiond import Client, SessionDestroyed

SESSION_ID = "example-quickstart"


def main() -> None:
    """Run the conversation."""
    with Client() as client:
        # The id is yours to choose. The session expires a day after its last use.
        session = client.get_or_create_session(
            SESSION_ID, model="gpt-5", user="ada", idle_ttl=24 * 60 * 60
        )

        # A batch is stored whole or not at all, and is committed when this returns.
        stored = session.store_messages(
            [
                {"role": "system", "content": "You answer questions about orders."},
                {"role": "user", "content": "Where is my order?"},
            ]
        )
        print("stored as", list(stored))

        # One message, with labels of your own.
        session.store_message(
            {"role": "assistant", "content": "It left the warehouse this morning."},
            metadata={"tokens": 9},
        )

        # Messages are streamed while you iterate.
        for message in session.get_messages():
            print(f"{message.seq:3} {message.role:10} {message.content}")

        # The newest two, without system messages.
        for message in session.get_messages(order="desc", limit=2, roles=["user", "assistant"]):
            print("newest:", message.content, message.metadata)

        # A destroyed session is readable, and refuses appends until it is resumed.
        session.destroy()
        try:
            session.store_message({"role": "user", "content": "Are you there?"})
        except SessionDestroyed as error:
            print("refused:", error)
        session = client.resume_session(SESSION_ID)
        print(session.info.status, session.info.message_count, "messages:", session.info.summary)

        # Deleting cannot be undone.
        session.delete()
        print(
            "left:",
            [info.session_id for info in client.list_sessions(session_id_prefix=SESSION_ID)],
        )


if __name__ == "__main__":
    main()
