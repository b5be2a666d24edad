"""The subcommands that read sessions: list, show, tail."""

import argparse
import json
import os
import signal
from collections.abc import Iterable, Iterator
from itertools import islice

from sessiond import Client, Message, SessionInfo
from sessiond_server.cli.sessions import output
from sessiond_server.cli.sessions.live_answers import LiveAnswers
from sessiond_server.cli.sessions.options import filters

_HEAD = ("ID", "STATUS", "MESSAGES", "TOKENS", "ACTIVE", "USER", "MODEL", "SUMMARY")
# Number of rows that are aligned together, so that a long listing appears before it is complete.
_ROWS = 500
_PAGE_SIZE = 500


def list_sessions(client: Client, given: argparse.Namespace) -> int:
    page_size = min(given.limit or _PAGE_SIZE, _PAGE_SIZE)
    with_state = given.with_state and given.json
    found = iter(
        client.sessions.list(
            **filters(given), order=given.order, page_size=page_size, with_state=with_state
        )
    )
    sessions = islice(found, given.limit or None)
    if given.json:
        for info in sessions:
            output.print_json_line(info.to_dict())
        return 0
    widths = [0] * len(_HEAD)
    rows: list[tuple[str, ...]] = [_HEAD]
    while batch := [_row(info) for info in islice(sessions, _ROWS)]:
        output.print_rows([*rows, *batch], widths)
        rows = []
    if rows:
        output.note("No sessions found.")
    elif given.limit and next(found, None):
        output.note(
            f"There are more than {given.limit:,} sessions: --limit N shows N, --limit 0 all."
        )
    return 0


def show(client: Client, given: argparse.Namespace) -> int:
    session = client.get_session(given.session_id)
    info = session.info
    tasks, bookmarks = (
        session.tasks.list(page_size=100).to_list(),
        session.bookmarks.list(page_size=500).to_list(),
    )
    document = {
        **info.to_dict(),
        "tasks": [task.to_dict() for task in tasks],
        "bookmarks": [mark.to_dict() for mark in bookmarks],
    }
    if given.json and given.messages is None:
        output.print_json(document)
        return 0
    if given.json:
        output.print_json_line(document)
    else:
        _print_session(info)
        output.print_line(f"\ntasks ({len(tasks)})")
        links = [
            ", ".join(map(str, task.message_seqs[:10]))
            + (", …" if len(task.message_seqs) > 10 else "")
            for task in tasks
        ]
        rows = [
            (
                f"{task.position}",
                task.status,
                task.task_id,
                f"messages {seqs}" if seqs else "",
                _compact(task.data),
            )
            for task, seqs in zip(tasks, links, strict=True)
        ]
        output.print_rows(rows, [0] * 5)
        output.print_line(f"\nbookmarks ({len(bookmarks)})")
        output.print_rows(
            [(f"after {mark.seq}", mark.name, mark.description) for mark in bookmarks], [0] * 3
        )
    if given.messages is not None:
        if not given.json:
            output.print_line("\nmessages")
        # Only messages up to the last_seq that was printed above.
        last_seq = given.branch_of or info.last_seq
        for message in (
            _branch(client, given.session_id, given.messages, last_seq)
            if given.branch_of
            else _newest(client, given.session_id, given.messages or last_seq, last_seq)
        ):
            _print(message, as_json=given.json)
    return 0


def tail(client: Client, given: argparse.Namespace) -> int:
    if given.follow:
        # Ctrl-C is the normal end of --follow. Exit immediately, since an interrupt that is raised
        # within gRPC might be lost.
        signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    info = client.sessions.get(given.session_id)
    last_seq = info.last_seq
    for message in _newest(client, given.session_id, given.lines, last_seq):
        _print(message, as_json=given.json)
    if given.follow:
        output.flush()
        answers = LiveAnswers() if given.live and not given.json else None
        events = client.sessions.events(given.session_id, last_seq, after_epoch=info.epoch)
        for event in events:
            if not (answers and answers.show(event)) and event.message:
                _print(event.message, as_json=given.json)
            elif event.type == "session.rewound":
                output.note(f"The messages after seq {event.data.last_seq:.0f} were removed.")
            output.flush()
    return 0


def _newest(client: Client, session_id: str, count: int, last_seq: int) -> Iterator[Message]:
    """Yield the newest messages up to last_seq, oldest first."""
    # A through_seq of 0 would mean the newest message.
    if count and last_seq:
        yield from client.sessions.get_messages(
            session_id, after_seq=max(last_seq - count, 0), through_seq=last_seq
        )


def _branch(client: Client, session_id: str, count: int, seq: int) -> Iterable[Message]:
    """Return the newest messages of the branch that ends with a message; 0 = all of them."""
    if not count:
        return client.sessions.get_messages(session_id, branch_of=seq)
    newest = client.sessions.get_messages(session_id, branch_of=seq, order="desc", limit=count)
    return newest.to_list()[::-1]


def _print(message: Message, *, as_json: bool) -> None:
    if as_json:
        output.print_json_line(message.to_dict())
    else:
        output.print_message(message)


def _row(info: SessionInfo) -> tuple[str, ...]:
    return (
        info.session_id,
        info.status,
        f"{info.message_count:,}",
        f"{info.token_count:,}",
        output.local(info.active_at),
        info.user,
        info.model,
        info.summary,
    )


def _print_session(info: SessionInfo) -> None:
    expiry = "never"
    if info.idle_ttl and info.expires_at:
        idle_ttl = output.duration(info.idle_ttl)
        expiry = f"{output.local(info.expires_at)} ({idle_ttl} after the last use)"
    tokens = f"{info.token_count:,}"
    if info.estimated_token_count:
        tokens += f", of which {info.estimated_token_count:,} are estimated"
    origin = (
        f"a copy of {info.origin.session_id} up to seq {info.origin.seq}" if info.origin else ""
    )
    output.print_fields(
        [
            ("session_id", info.session_id),
            ("status", info.status),
            ("title", info.title),
            ("summary", info.summary),
            ("user", info.user),
            ("model", info.model),
            ("created", output.local(info.created_at)),
            ("active", output.local(info.active_at)),
            ("expires", expiry),
            ("messages", f"{info.message_count:,}"),
            ("content", f"{info.content_bytes:,} bytes"),
            ("tokens", tokens),
            ("origin", origin),
            ("etag", info.etag),
            ("config", _compact(info.config)),
            ("metadata", _compact(info.metadata)),
            ("state", _compact(info.state)),
        ]
    )


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) if value else ""
