"""Import a long history as one atomic append, and export it as JSON lines.

Start a server (`make run`), then: python examples/import_history.py.
SESSIOND_TARGET names a server elsewhere.
"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sessiond import Client

SESSION_ID = "example-import"
MESSAGES = 20_000


def history() -> Iterator[str]:
    """Yield a long conversation, one JSON text per message. A real program reads a file."""
    for i in range(MESSAGES // 2):
        yield json.dumps({"role": "user", "content": f"What is {i} squared?"})
        yield json.dumps({"role": "assistant", "content": str(i * i)})


def main() -> None:
    """Import, compare, export."""
    with Client() as client, tempfile.TemporaryDirectory() as directory:
        client.delete_session(SESSION_ID, allow_missing=True)
        session = client.create_session(SESSION_ID, title="Squares")

        # The history is sent while it is generated, and stored whole or not at all. After a broken
        # connection, the client could send a list again, but not a generator.
        stored = session.import_messages(history(), expected_last_seq=0)
        print(f"imported {len(stored):,} messages")

        # Reading is lazy too: neither side holds the session in memory.
        path = Path(directory) / "history.jsonl"
        with path.open("w", encoding="utf-8") as file:
            file.writelines(f"{message.json}\n" for message in session.get_messages())
        is_same = path.read_text(encoding="utf-8").splitlines() == list(history())
        print(
            f"exported {path.stat().st_size:,} bytes,",
            "equal to the import" if is_same else "different from the import",
        )

        # export() returns the session as one dict, for sessions that fit in memory.
        exported = session.export()
        print(
            exported["session"]["title"],
            len(exported["messages"]),
            exported["messages"][-1]["json"],
        )

        session.delete()


if __name__ == "__main__":
    main()
