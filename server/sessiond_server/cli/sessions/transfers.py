"""The subcommands that transfer sessions: export, import."""

import argparse
import json
import sys

from sessiond import Client
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


def import_session(client: Client, given: argparse.Namespace) -> int:
    with output.progress("importing") as report:
        source = sys.stdin if given.file == "-" else given.file
        info = client.sessions.import_session(source, given.session_id, progress=report)
    if given.json:
        output.print_json(info.to_dict())
    else:
        output.print_line(info.session_id)
    return 0


def _export_to_stdout(client: Client, given: argparse.Namespace) -> None:
    if given.format == "json":
        document = client.sessions.export(given.session_id, assets=given.assets)
        text = json.dumps(document, ensure_ascii=False)
        # UTF-8 cannot encode a lone surrogate. Python escapes it in the same way as JSON.
        sys.stdout.write(text.encode(errors="backslashreplace").decode() + "\n")
        return
    count, total = 0, None
    with output.progress("exporting") as report:
        for line in client.sessions.export_lines(given.session_id, assets=given.assets):
            sys.stdout.write(line)
            if total is None:
                total = json.loads(line)["session"]["last_seq"]
            if line.startswith('{"kind":"message"'):
                count += 1
                report(count, total)
