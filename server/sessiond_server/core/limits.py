"""Limits of what callers may send and store."""

from dataclasses import dataclass

MAX_SESSION_ID_CHARACTERS = 256
MAX_REQUEST_ID_CHARACTERS = 128
MAX_NAME_CHARACTERS = 256  # model, user, label
MAX_TITLE_CHARACTERS = 512
MAX_MEDIA_TYPE_CHARACTERS = 256
MAX_JSON_BYTES = 64 * 1024  # config or metadata of a session, metadata of a message
MAX_JSON_LEVELS = 200  # nested objects and arrays of any JSON text
MAX_OPTIONS_BYTES = 1024 * 1024  # fields of a provider's request, as JSON text
MAX_PARTS = 1000
MAX_SUMMARY_CHARACTERS = 120
MIN_IDLE_TTL_MS = 1_000
MAX_IDLE_TTL_MS = 3650 * 24 * 3600 * 1000
DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 500
MAX_TASKS = 1000
MAX_MESSAGE_ASSETS = 1000  # references of one message
MAX_APPEND_ASSETS = 1_000_000  # references of one import
MAX_REQUESTS = 256  # in one BatchStoreMessages
MAX_TASK_ID_CHARACTERS = 128
MAX_TASK_MESSAGES = 10_000
MAX_BOOKMARKS = 1000
MAX_OPEN_TURNS = 100  # running and queued turns of a session
MAX_PROMPT_MESSAGES = 100  # in one Send
MIN_TURN_TIMEOUT_MS = 1_000
MAX_BOOKMARK_NAME_CHARACTERS = 128
MAX_DESCRIPTION_CHARACTERS = 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits that an operator may set."""

    max_message_bytes: int = 16 * 1024 * 1024
    """Content of one message. Default 16 MiB."""
    max_batch_messages: int = 1000
    """Messages of one StoreMessages. Default 1,000."""
    max_batch_bytes: int = 32 * 1024 * 1024
    """Content of one StoreMessages. Default 32 MiB."""
    max_import_bytes: int = 8 * 1024**3
    """Messages of one ImportMessages or ImportSession. Default 8 GiB; 0 = no limit."""
    max_asset_bytes: int = 5 * 1024**3
    """Content of one asset. Default 5 GiB."""
    default_idle_ttl_ms: int | None = None
    """Expiry of a session whose creator did not choose one. Default: never."""
