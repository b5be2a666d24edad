"""Conversations that the tests of the store save and read."""

from pydantic_ai import Conversation, ModelRequest, ModelResponse, TextPart


def ask(text: str) -> ModelRequest:
    return ModelRequest.user_text_prompt(text)


def answer(text: str) -> ModelResponse:
    return ModelResponse(parts=[TextPart(text)])


def talk(id: str, *texts: str) -> Conversation:
    messages = [answer(text) if i % 2 else ask(text) for i, text in enumerate(texts)]
    return Conversation(conversation_id=id, messages=messages)


def texts(conversation: Conversation | None) -> list[str]:
    assert conversation is not None
    return [str(part.content) for message in conversation.messages for part in message.parts]
