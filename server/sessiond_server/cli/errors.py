"""Faults of a command that its user can mend."""


class CommandError(Exception):
    """Ends the command with one line for its user.

    Args:
        exit_code: 1 = it failed, 2 = it was used wrongly.
    """

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code
