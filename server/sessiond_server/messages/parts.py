"""Validation of messages in parts, sessiond's own content types."""

from collections.abc import Sequence

from sessiond.v1.message_pb2 import Blob, Format, Part
from sessiond_server.assets.service import check_asset_id
from sessiond_server.core.errors import invalid
from sessiond_server.core.json_text import parse_json
from sessiond_server.core.limits import MAX_PARTS


def check_parts(
    parts: Sequence[Part], path: str, assets: list[tuple[bytes, str]], *, nested: bool
) -> None:
    """Check a list of parts.

    Args:
        parts: at least one, unless nested.
        path: path of the list, for faults.
        assets: receives (sha256, field) for each asset that a part refers to.
        nested: whether the parts are those of a tool_result.

    Raises:
        Fault: INVALID_FIELD or INVALID_JSON, with the path of the field.
    """
    if not parts and not nested:
        raise invalid(path, "is empty; a message has at least one part")
    if len(parts) > MAX_PARTS:
        raise invalid(path, f"has {len(parts)} parts; at most {MAX_PARTS} are allowed")
    for i, part in enumerate(parts):
        _check_part(part, f"{path}[{i}]", assets, nested=nested)


def _check_part(part: Part, path: str, assets: list[tuple[bytes, str]], *, nested: bool) -> None:
    kind = part.WhichOneof("kind")
    match kind:
        case None:
            raise invalid(
                path,
                "has no kind: set text, image, audio, file, tool_call, tool_result, reasoning or "
                "data",
            )
        case "image" | "audio" | "file":
            blob: Blob = getattr(part, kind)
            source = blob.WhichOneof("source")
            if source is None:
                raise invalid(f"{path}.{kind}", "has no source: set inline, uri or asset_id")
            if source == "asset_id":
                field = f"{path}.{kind}.asset_id"
                assets.append((check_asset_id(blob.asset_id, field), field))
        case "tool_call" | "tool_result" if nested:
            raise invalid(f"{path}.{kind}", "may not stand inside a tool_result")
        case "tool_call":
            for field in ("call_id", "name"):
                if not getattr(part.tool_call, field):
                    raise invalid(f"{path}.tool_call.{field}", "is required")
            if part.tool_call.arguments_json:
                parse_json(
                    part.tool_call.arguments_json.encode(), f"{path}.tool_call.arguments_json"
                )
        case "tool_result":
            if not part.tool_result.call_id:
                raise invalid(f"{path}.tool_result.call_id", "is required")
            check_parts(part.tool_result.parts, f"{path}.tool_result.parts", assets, nested=True)
        case "reasoning" if part.reasoning.format not in Format.values():
            field = f"{path}.reasoning.format"
            raise invalid(field, f"is {part.reasoning.format}, which this server does not know")
        case "data":
            parse_json(part.data.encode(), f"{path}.data")
