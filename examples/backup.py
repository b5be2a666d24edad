"""Export a session to a file, delete it, and restore it exactly.

Messages, tasks, bookmarks, settings and times are all in the file.

Start a server (`make run`), then: python examples/backup.py.
SESSIOND_TARGET names a server elsewhere.
"""

import tempfile
from pathlib import Path

from sessiond import Client, InvalidField

SESSION_ID = "example-backup"


def main() -> None:
    """Export, delete, import, compare."""
    with Client() as client, tempfile.TemporaryDirectory() as directory:
        client.delete_session(SESSION_ID, allow_missing=True)
        session = client.create_session(SESSION_ID, title="Orders", user="ada")
        session.store_messages(
            [
                {"role": "user", "content": "Where is my order?"},
                '{"role": "assistant",  "content": "On its way."}',
            ]
        )
        session.tasks.create(task_id="look it up", status="success", message_seqs=[1, 2])
        session.bookmarks.create("answered")

        # JSON lines, written in bounded memory. The file appears when it is complete.
        path = Path(directory) / "session.jsonl"
        session.export_to(path)
        before = path.read_text(encoding="utf-8")
        for line in before.splitlines():
            print(line[:60])

        # An import is whole or nothing: a truncated file leaves no session behind.
        session.delete()
        cut = before.splitlines()[:-2]
        try:
            client.sessions.import_session(cut)
        except InvalidField as error:
            print("refused:", error)

        info = client.sessions.import_session(path)
        is_same = "".join(client.sessions.export_lines(SESSION_ID)) == before
        print(
            f"{info.session_id} is back with {info.message_count} messages,",
            "equal to the original" if is_same else "different from the original",
        )
        client.delete_session(SESSION_ID)


if __name__ == "__main__":
    main()
