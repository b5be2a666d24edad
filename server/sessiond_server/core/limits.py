"""Limits on what callers may send and store.

The comments of the constants are on the page "Limits" of the reference.
"""

from dataclasses import dataclass

MAX_SESSION_ID_CHARACTERS = 1024  # session_id
MAX_SESSION_ID_BYTES = 2048  # session_id in UTF-8, which has to fit into an index
MAX_STATE_BYTES = 1024 * 1024  # state of a session, as JSON text
MAX_STATE_KEYS = 10_000  # top-level keys of a state
MAX_STATE_KEY_CHARACTERS = 256  # a top-level key of a state
MAX_FORMAT_NAME_CHARACTERS = 64  # format_name
MAX_REQUEST_ID_CHARACTERS = 128  # request_id
MAX_INCARNATION_CHARACTERS = 128  # incarnation of a session
MAX_MESSAGE_ID_CHARACTERS = 256  # message_id
MAX_NAME_CHARACTERS = 256  # model and user of a session, label of a key, worker of a lease
MAX_TITLE_CHARACTERS = 512  # title of a session
MAX_MEDIA_TYPE_CHARACTERS = 256  # media_type of an asset
MAX_JSON_BYTES = 64 * 1024  # config or metadata of a session, metadata of a message, data of a task
MAX_JSON_LEVELS = 200  # nested objects and arrays of any JSON text
MAX_OPTIONS_BYTES = 1024 * 1024  # options of a Send, model_options of a session
MAX_PARTS = 1000  # parts of a message
MAX_SUMMARY_CHARACTERS = 120  # summary of a session; longer first words are cut
MIN_IDLE_TTL_MS = 1_000  # idle_ttl of a session
MAX_IDLE_TTL_MS = 3650 * 24 * 3600 * 1000  # idle_ttl of a session
DEFAULT_PAGE_SIZE = 50  # page_size of listings
MAX_PAGE_SIZE = 500  # page_size of listings
# Numbers in a Struct take four times as many bytes as in JSON, so a response stays below 4 MiB.
MAX_PAGE_BYTES = 640 * 1024  # text of one page of a listing; larger rows make shorter pages
MAX_TASKS = 1000  # tasks of a session
MAX_MESSAGE_ASSETS = 1000  # references to assets in one message
MAX_APPEND_ASSETS = 1_000_000  # references to assets in one import
MAX_REQUESTS = 256  # requests of one BatchStoreMessages
MAX_TASK_ID_CHARACTERS = 128  # task_id
MAX_TASK_MESSAGES = 10_000  # message_seqs of a task
MAX_BOOKMARKS = 1000  # bookmarks of a session
MAX_OPEN_TURNS = 100  # running and queued turns of a session
MAX_PROMPT_MESSAGES = 100  # messages of one Send
MIN_TURN_TIMEOUT_MS = 1_000  # timeout of a turn
MAX_BOOKMARK_NAME_CHARACTERS = 128  # name of a bookmark
MAX_DESCRIPTION_CHARACTERS = 1024  # description of a bookmark


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
    """Maximum bytes of one ImportMessages or ImportSession. Default 8 GiB; 0 = no limit."""
    max_asset_bytes: int = 5 * 1024**3
    """Maximum size of one asset, in bytes. Default 5 GiB."""
    default_idle_ttl_ms: int | None = None
    """Idle TTL of sessions created without one, in milliseconds. Default: they never expire."""
