"""The subcommands that transfer sessions: export, import.

With --from, import reads the transcripts of another program.
"""

import argparse
import json
import sys
from typing import Any

from sessiond import BadLine, Client, TranscriptImport
from sessiond_server.cli.errors import CommandError
from sessiond_server.cli.sessions import output


def export(client: Client, given: argparse.Namespace) -> int:
    if given.output == "-":
        _export_to_stdout(client, given)
        return 0
    with output.progress("exporting") as report:
        info = client.sessions.export_to(
            given.session_id,
            given.output,
            format=given.format,
            assets=given.assets,
            progress=report,
        )
    done = {
        "session_id": info.session_id,
        "message_count": info.message_count,
        "format": given.format,
        "output": given.output,
    }
    if given.json:
        output.print_json(done)
    else:
        output.print_line(
            f"exported {info.session_id} with {output.many(info.message_count, 'message')} "
            f"to {given.output}"
        )
    return 0


def import_sessions(client: Client, given: argparse.Namespace) -> int:
    if given.program:
        return _import_transcripts(client, given)
    unfit = [
        flag
        for flag, value in (
            ("--prefix", given.prefix),
            ("--user", given.user),
            ("--model", given.model),
            ("--keep-bad-lines", given.keep_bad_lines),
        )
        if value
    ]
    if unfit:
        raise CommandError(f"{', '.join(unfit)}: cannot be used without --from", exit_code=2)
    if len(given.files) > 1:
        raise CommandError("give one exported session, or --from for transcripts", exit_code=2)
    [file] = given.files
    with output.progress("importing") as report:
        source = sys.stdin if file == "-" else file
        info = client.sessions.import_session(
            source, given.session_id, extract_files=given.extract_files, progress=report
        )
    if given.json:
        output.print_json(info.to_dict())
    else:
        output.print_line(info.session_id)
    return 0


def _import_transcripts(client: Client, given: argparse.Namespace) -> int:
    if given.session_id:
        raise CommandError(
            "--session-id: cannot be used with --from; use --prefix instead", exit_code=2
        )
    if given.extract_files:
        raise CommandError("--extract-files: cannot be used with --from", exit_code=2)
    with output.progress("importing", of_bytes=True) as report:
        result = client.sessions.import_transcripts(
            given.files,
            given.program,
            id_prefix=given.prefix,
            create={"user": given.user or "", "model": given.model or ""},
            keep_bad_lines=given.keep_bad_lines,
            progress=report,
        )
    if given.json:
        output.print_json(_as_json(result))
    else:
        for transcript in result.imported:
            known = f", {transcript.known:,} already stored" if transcript.known else ""
            added = output.many(transcript.added, "new message")
            output.print_line(f"{transcript.session_id}  {added}{known}")
    for transcript in result.imported:
        for bad in transcript.bad_lines:
            output.note(f"{transcript.path}:{bad.line}: {bad.reason}; kept as it is")
    for failed in result.failed:
        output.note(str(failed))
    if result.failed:
        output.note(
            f"{output.many(len(result.imported), 'transcript')} imported; "
            f"{len(result.failed):,} failed."
        )
        return 1
    return 0


def _as_json(result: TranscriptImport) -> dict[str, Any]:
    def lines(bad_lines: list[BadLine]) -> list[dict[str, Any]]:
        return [{"line": bad.line, "reason": bad.reason} for bad in bad_lines]

    return {
        "imported": [
            {
                "path": done.path,
                "session_id": done.session_id,
                "added": done.added,
                "known": done.known,
                "repeated": done.repeated,
                "bad_lines": lines(done.bad_lines),
            }
            for done in result.imported
        ],
        "failed": [
            {
                "path": failed.path,
                "session_id": failed.session_id,
                "bad_lines": lines(failed.bad_lines),
            }
            for failed in result.failed
        ],
    }


def _export_to_stdout(client: Client, given: argparse.Namespace) -> None:
    # Exports are UTF-8, whatever the encoding of the locale is.
    write = sys.stdout.buffer.write
    if given.format == "json":
        document = client.sessions.export(given.session_id, assets=given.assets)
        text = json.dumps(document, ensure_ascii=False)
        # UTF-8 cannot encode a lone surrogate. Python escapes it in the same way as JSON.
        write(text.encode(errors="backslashreplace") + b"\n")
        return
    count, total = 0, None
    with output.progress("exporting") as report:
        for line in client.sessions.export_lines(given.session_id, assets=given.assets):
            write(line.encode())
            if total is None:
                total = json.loads(line)["session"]["last_seq"]
            if line.startswith('{"kind":"message"'):
                count += 1
                report(count, total)
