"""The subcommands that change sessions: copy, rewind, delete."""

import argparse
import math
import sys

from sessiond import Client, DeletedSessions, SessionNotFound
from sessiond_server.cli.errors import CommandError
from sessiond_server.cli.sessions import output
from sessiond_server.cli.sessions.options import filters


def copy(client: Client, given: argparse.Namespace) -> int:
    result = client.sessions.copy(
        given.session_id,
        given.new_id,
        up_to_seq=given.up_to_seq,
        up_to_bookmark=given.up_to_bookmark,
        model=given.model,
        user=given.user,
        title=given.title,
        config=given.config,
        metadata=given.metadata,
        idle_ttl=given.idle_ttl,
        never_expires=given.never_expires,
        keep_processing_status=given.keep_processing_status,
        keep_task_links=given.keep_task_links,
    )
    if given.json:
        session = result.session.to_dict()
        output.print_json(
            {
                "old_session_id": result.old_session_id,
                "new_session_id": result.new_session_id,
                "session": session,
            }
        )
    else:
        output.print_line(result.new_session_id)
    return 0


def rewind(client: Client, given: argparse.Namespace) -> int:
    result = client.sessions.rewind(
        given.session_id,
        to_seq=given.to_seq,
        drop_last=given.drop_last,
        to_bookmark=given.to_bookmark,
        before_message_id=given.before_message_id,
        expected_last_seq=given.expected_last_seq,
        expected_epoch=given.expected_epoch,
        abort_turn=given.abort_turn,
    )
    if given.json:
        output.print_json(
            {
                "session_id": given.session_id,
                "last_seq": result.last_seq,
                "epoch": result.epoch,
                "removed_count": result.removed_count,
            }
        )
    else:
        removed = output.many(result.removed_count, "message")
        output.print_line(f"removed {removed}; the session is at seq {result.last_seq}")
    return 0


def delete(client: Client, given: argparse.Namespace) -> int:
    chosen = filters(given)
    if bool(given.session_ids) + bool(chosen) + given.all != 1:
        raise CommandError("delete: give either ids, a filter, or --all", exit_code=2)
    if given.session_ids:
        return _delete_named(client, given)
    if given.allow_missing:
        raise CommandError("--allow-missing: only with ids", exit_code=2)
    counted = None
    if given.dry_run or not given.yes:
        counted = client.sessions.delete_many(**chosen, all=given.all, dry_run=True)
    if given.dry_run or (counted and not counted.session_count):
        _print_deleted(counted or DeletedSessions(0, 0), given)
        return 0
    if counted and not _is_confirmed(counted):
        output.note("Nothing was deleted.")
        return 1
    with output.progress(
        f"deleting {output.many(counted.session_count, 'session')}" if counted else "deleting"
    ):
        # A deadline would be of no use, since sessions deleted before it would stay deleted.
        deleted = client.sessions.delete_many(**chosen, all=given.all, timeout=math.inf)
    _print_deleted(deleted, given)
    if deleted.locked_count:
        output.note(
            f"sessiond sessions: {output.many(deleted.locked_count, 'session')} locked by others, "
            f"not deleted: {', '.join(deleted.locked_session_ids)}; repeat the command"
        )
    return 1 if deleted.locked_count else 0


def _delete_named(client: Client, given: argparse.Namespace) -> int:
    deleted: list[str] = []
    missing: list[str] = []
    for session_id in given.session_ids:
        try:
            if given.dry_run:
                client.sessions.get(session_id)
            else:
                client.delete_session(session_id)
        except SessionNotFound as e:
            # Continue with the other sessions.
            missing.append(session_id)
            if not given.allow_missing:
                output.note(f"sessiond sessions: {e}")
        else:
            deleted.append(session_id)
    if given.json:
        output.print_json({"dry_run": given.dry_run, "deleted": deleted, "not_found": missing})
    else:
        for session_id in deleted:
            output.print_line(f"{'would delete' if given.dry_run else 'deleted'} {session_id}")
    return 1 if missing and not given.allow_missing else 0


def _is_confirmed(counted: DeletedSessions) -> bool:
    """Ask for confirmation. Raise CommandError if there is no terminal."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise CommandError(
            f"{_words(counted)} match the filter; --yes deletes them without asking",
            exit_code=2,
        )
    sys.stderr.write(f"Delete {_words(counted)} permanently? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _print_deleted(deleted: DeletedSessions, given: argparse.Namespace) -> None:
    if given.json:
        counts = {
            "session_count": deleted.session_count,
            "message_count": deleted.message_count,
            "locked_count": deleted.locked_count,
        }
        output.print_json({"dry_run": given.dry_run, **counts})
    else:
        output.print_line(f"{'would delete' if given.dry_run else 'deleted'} {_words(deleted)}")


def _words(counted: DeletedSessions) -> str:
    sessions = output.many(counted.session_count, "session")
    return f"{sessions} with {output.many(counted.message_count, 'message')}"
