"""Errors of commands that the user can fix."""


class CommandError(Exception):
    """Ends the command with a one-line message.

    Args:
        message: the line for the user.
        exit_code: 1 for a failure, 2 for wrong usage.
    """

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code
