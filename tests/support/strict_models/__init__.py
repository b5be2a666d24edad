"""Strict stand-ins for model APIs: they refuse requests as the real APIs do, in the same words.

The validators are pure: `openai_chat`, `openai_responses`, `anthropic_messages`, `gemini`. `server`
serves them all over HTTP, and `sdk_types` compares requests with the types of the providers' SDKs.
"""
