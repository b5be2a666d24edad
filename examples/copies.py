"""Copies as experiments, as checkpoints, and as templates.

A copy takes the same time whatever the session's size. From then on both sessions are independent.

Start a server (`make run`), then: python examples/copies.py.
SESSIOND_TARGET names a server elsewhere.
"""

from sessiond import Client

PREFIX = "example-copies-"


def experiment(client: Client) -> None:
    """Ask the same in two ways, and compare the cost."""
    original = client.create_session(f"{PREFIX}original", model="gpt-5")
    original.store_message({"role": "user", "content": "Plan a day in Paris."})

    variant = original.copy(
        f"{PREFIX}variant", model="gpt-5-mini", metadata={"experiment": "terse"}
    )
    variant.store_message({"role": "user", "content": "In ten words."})
    original.store_message(
        {"role": "user", "content": "Take your time, and tell why each place is worth it."}
    )

    for session in (original, variant):
        print(f"{session.refresh().model:10} {session.get_token_counts().total_tokens} tokens")
    # A copy remembers its source, and the last message that it took from it.
    print("the variant was copied at seq", variant.info.origin.seq if variant.info.origin else None)


def checkpoint(client: Client) -> None:
    """Set a bookmark, continue, and go back: the copy ends at the bookmark."""
    session = client.create_session(f"{PREFIX}work")
    session.store_messages(
        [
            {"role": "user", "content": "Tidy up the notes."},
            {"role": "assistant", "content": "They are in order."},
        ]
    )
    session.bookmarks.create("before the rewrite", description="everything in order")
    session.store_message({"role": "user", "content": "Now rewrite them all."})

    again = session.copy(f"{PREFIX}work-again", up_to_bookmark="before the rewrite")
    print(
        f"went on to {session.refresh().last_seq}, back at {again.info.last_seq}:",
        [m.content for m in again.get_messages()],
    )


def template(client: Client) -> None:
    """Write instructions and settings once, and begin each conversation as a copy."""
    base = client.create_session(f"{PREFIX}template", model="gpt-5", config={"temperature": 0.2})
    base.store_message(
        {"role": "system", "content": "You answer questions about orders, and about nothing else."}
    )

    for user in ("ada", "bob"):
        conversation = base.copy(f"{PREFIX}for-{user}", user=user, idle_ttl=24 * 60 * 60)
        conversation.store_message(
            {"role": "user", "content": f"This is {user}. Where is my order?"}
        )
        print(
            user,
            conversation.info.config,
            [message.role for message in conversation.get_messages()],
        )
    print("copies of the template:", sorted(copy.session_id for copy in base.copies()))


def main() -> None:
    """Run all three examples, and clean up."""
    with Client() as client:
        client.sessions.delete_many(session_id_prefix=PREFIX)
        experiment(client)
        checkpoint(client)
        template(client)
        deleted = client.sessions.delete_many(session_id_prefix=PREFIX)
        print(f"deleted {deleted.session_count} sessions")


if __name__ == "__main__":
    main()
