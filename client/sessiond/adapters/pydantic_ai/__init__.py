"""A `ConversationStore` of Pydantic AI, kept by sessiond.

    store = SessiondConversationStore(target="localhost:50051")
    conversation = await store.load("user-42") or Conversation(conversation_id="user-42")
    result = await agent.run("Hello", conversation=conversation)
    await store.save(result)

It is experimental: Pydantic AI has had conversation stores since 2.66, and may still change them.

A conversation is a session. Each entry is a message of the format "other" and the format_name
"pydantic-ai", whose message_id is the entry's id. The record is kept in the session's state. A save
appends the entries and replaces the record in one commit, which fails if the conversation has
changed. A branch of a conversation is a branch of the session, and a fork is a copy. So branches
and forks of long conversations take no longer than those of short ones.
"""

from sessiond.adapters.pydantic_ai._store import SessiondConversationStore

__all__ = ["SessiondConversationStore"]
