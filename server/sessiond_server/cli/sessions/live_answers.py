"""Prints answers while models write them."""

import sys

from sessiond import Event
from sessiond_server.cli.sessions import output


class LiveAnswers:
    """Prints the text of running answers as it arrives."""

    def __init__(self) -> None:
        self._turn_id = ""
        self._text = ""

    def show(self, event: Event) -> bool:
        """Print the text that an event adds to an answer.

        Returns:
            Whether the event needs no other output, because all of it has been printed.
        """
        if event.type in ("assistant.message_partial", "assistant.message_delta"):
            self._add(event)
            return True
        if not self._text:
            return False
        message = event.message
        is_ended = event.type == "assistant.turn_end" and event.data["turn_id"] == self._turn_id
        if not (message or is_ended):
            return False
        text, self._text = self._text, ""
        content = message.content if message else ""
        is_mine = bool(message and message.turn and message.turn.turn_id == self._turn_id)
        if not (message and is_mine and content.startswith(text)):
            sys.stdout.write("\n")
            return False
        sys.stdout.write(output.harmless(content[len(text) :]) + "\n")
        output.print_line(f"#{message.seq}  {message.role}  {output.local(message.created_at)}")
        return True

    def _add(self, event: Event) -> None:
        added = event.data.get("content") or event.data.get("delta_content") or ""
        if not self._text:
            self._turn_id = event.data["turn_id"]
            output.print_line("…  assistant")
        self._text += added
        sys.stdout.write(output.harmless(added))
