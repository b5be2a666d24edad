"""The errors of the calls, under an older module name of the SDK."""

from sessiond.compat.acontext.errors import *  # noqa: F403
