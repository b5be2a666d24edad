"""Text files in messages of OpenAI."""

import base64

import pytest

from sessiond_server.formats.wire import AssetInfo

from .histories import ASSETS, KNOWN_ASSET, PNG
from .native_messages import PROMPT, USER, calls, everywhere, text_of

ANSWER = {"role": "assistant", "content": "a"}


class TestTextFiles:
    """Text files in strings that consist of several texts."""

    DRAWING = f"data:text/plain;base64,{base64.b64encode(b'a text').decode()}"

    @everywhere
    @pytest.mark.parametrize("role", ["user", "assistant", "system"])
    def test_their_content_is_sent(self, name: str, role: str) -> None:
        file = {"type": "file", "file": {"filename": "a", "file_data": self.DRAWING}}
        value = {"role": role, "content": [{"type": "text", "text": "see"}, file, file]}
        text = text_of(name, USER, ANSWER, value, PROMPT)
        encoded = self.DRAWING.partition(",")[2]
        assert text.count("a text") + text.count(encoded) == 2

    @pytest.mark.parametrize("name", ["openai", "groq", "deepseek", "gemini"])
    def test_their_names_are_sent(self, name: str) -> None:
        file = {"type": "file", "file": {"filename": "notes.txt", "file_data": self.DRAWING}}
        text = text_of(name, USER, {"role": "user", "content": [file]}, PROMPT)
        assert r"[notes.txt]\na text" in text

    @pytest.mark.parametrize("name", ["openai", "groq", "deepseek", "responses", "gemini"])
    @pytest.mark.parametrize("role", ["user", "assistant", "system", "tool"])
    def test_assets_too(self, name: str, role: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(ASSETS, KNOWN_ASSET, AssetInfo("text/plain", 6))
        url = f"sessiond-asset:{KNOWN_ASSET}"
        file = {"type": "file", "file": {"filename": "a", "file_data": url}}
        value = {"role": role, "content": [{"type": "text", "text": "see"}, file, file]}
        if role == "tool":
            value |= {"tool_call_id": "c"}
        text = text_of(name, USER, *([calls("c")] if role == "tool" else [ANSWER]), value, PROMPT)
        assert text.count("a text") + text.count(f"data:text/plain;base64,{PNG}") == 2
        assert "sessiond-asset" not in text
