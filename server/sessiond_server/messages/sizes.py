"""The limits on how much one append stores."""

from sessiond_server.core.errors import invalid
from sessiond_server.core.limits import Limits

# Advice for content that is too large.
STORE_FILES = (
    "Files belong in assets: send them as `attachments`, or upload them (UploadAsset) and put "
    "sessiond-asset:ASSET_ID in place of their content"
)


def check_batch(count: int, content_bytes: int, limits: Limits) -> None:
    """Check the size of a batch.

    Args:
        count: number of messages.
        content_bytes: size of their content.
        limits: sizes that the operator allows.

    Raises:
        Fault: BATCH_TOO_LARGE.
    """
    if count > limits.max_batch_messages:
        over = f"has {count} messages; a batch may have {limits.max_batch_messages}"
        setting, advice = "max_batch_messages", ""
    elif content_bytes > limits.max_batch_bytes:
        over = f"has {content_bytes} bytes of content; a batch may have {limits.max_batch_bytes}"
        setting, advice = "max_batch_bytes", f". {STORE_FILES}"
    else:
        return
    raise invalid(
        "messages",
        f"{over} (the server's {setting}). Send several batches, or import the messages "
        f"(ImportMessages, import_messages){advice}",
        reason="BATCH_TOO_LARGE",
        message_count=count,
        max_messages=limits.max_batch_messages,
        content_bytes=content_bytes,
        max_bytes=limits.max_batch_bytes,
    )


def check_import(count: int, size: int, limits: Limits) -> None:
    """Check the size of an import.

    Args:
        count: number of messages so far.
        size: number of bytes of these messages, metadata included.
        limits: sizes that the operator allows.

    Raises:
        Fault: BATCH_TOO_LARGE.
    """
    if limits.max_import_bytes and size > limits.max_import_bytes:
        raise invalid(
            "messages",
            f"take {size} bytes; an import may have {limits.max_import_bytes} (the server's "
            "max_import_bytes). Nothing was stored; send several imports",
            reason="BATCH_TOO_LARGE",
            message_count=count,
            content_bytes=size,
            max_bytes=limits.max_import_bytes,
        )
