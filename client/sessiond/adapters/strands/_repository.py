"""The repository: sessions, agents, groups of agents, and messages."""

from typing import TYPE_CHECKING, Any, TypeVar, cast

from strands.session.session_repository import SessionRepository
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from sessiond._async._client import AsyncClient
from sessiond._requests.options import SessionSettings
from sessiond._types.session import SessionInfo
from sessiond.adapters._backend import (
    MAX_BATCH_MESSAGES,
    AnyClient,
    Backend,
    Call,
    append,
    check_all_deleted,
    part,
)
from sessiond.adapters.strands._messages import new_message, records_of
from sessiond.adapters.strands._states import AGENT, SESSION, agent_in, group_key, times_of
from sessiond.errors import (
    HistoryRewound,
    InvalidField,
    MessageNotFound,
    SequenceConflict,
    SessionAlreadyExists,
    SessiondError,
    SessionNotFound,
)

if TYPE_CHECKING:
    from strands.multiagent import MultiAgentBase

_DEFAULT_AGENT = "default"
# Maximum lengths of an id's parts, in characters. With a namespace of 200, the id has up to 1,024.
_MAX_SESSION, _MAX_AGENT = 500, 300
_MAX_ATTEMPTS = 50
_T = TypeVar("_T")


class SessiondSessionRepository(SessionRepository):
    """A `SessionRepository` of Strands Agents, with groups of agents.

    Its methods may be called from any thread, also inside a running event loop. It keeps nothing
    but the times at which agents were created, so any number of repositories in any number of
    processes may have the same namespace. If two processes append to one agent at once, one of them
    gets a SessionException, and no message is overwritten.

    A session that others have written, such as turns of the server or another framework, can be
    restored as well: its messages are converted, with text, calls and their results.

    Args:
        client: a `Client` or an `AsyncClient`, whose address, API key, TLS and timeout are used.
            Not together with target or api_key.
        target: HOST:PORT of the server. Default: $SESSIOND_TARGET, or localhost:50051.
        api_key: the API key. Default: $SESSIOND_API_KEY, or none.
        namespace: keeps the sessions apart from those of other namespaces, at most 200 characters.
            Default: none.
        create: settings of new sessions: model, user, title, config, metadata, idle_ttl,
            never_expires. Default: the server's.

    Raises:
        InvalidField: if an argument is malformed.
    """

    def __init__(
        self,
        *,
        client: AnyClient | None = None,
        target: str | None = None,
        api_key: str | None = None,
        namespace: str | None = None,
        create: SessionSettings | None = None,
    ) -> None:
        self._backend = Backend(client, target, api_key, namespace)
        self._create: SessionSettings = {**create} if create else {}
        # created_at of the agents that are known to exist, by the ids of their sessions.
        self._created: dict[str, str] = {}

    def sessiond_id(self, session_id: str, agent_id: str = _DEFAULT_AGENT) -> str:
        """Return the id of an agent's session, for calls of a client about the session.

        The id is the namespace's prefix and the session_id, percent-encoded where necessary. For
        agents other than "default", "/" and the agent_id follow.

        Args:
            session_id: the session of Strands.
            agent_id: the agent.

        Raises:
            InvalidField: if an id is empty.
        """
        path = [part(session_id, _MAX_SESSION, "session_id")]
        if agent_id != _DEFAULT_AGENT:
            path.append(part(agent_id, _MAX_AGENT, "agent_id"))
        return self._backend.path(*path)

    def create_session(self, session: Session, **kwargs: Any) -> Session:
        """Create a session.

        A session with this id may already exist in sessiond. If it has no messages and Strands has
        not used it, it is used as the new session.

        Raises:
            SessionException: if the session exists.
        """
        id = self._id(session.session_id)
        state = {SESSION: session.to_dict()}

        async def call(client: AsyncClient) -> None:
            try:
                await client.sessions.create(id, state=state, **self._create)
            except SessionAlreadyExists:
                info = await client.sessions.get(id)
                if info.last_seq or SESSION in (info.state or {}):
                    raise
                await client.sessions.update(id, state=state, state_etag=info.state_etag)

        self._run(call, f"Session {session.session_id} cannot be created")
        return session

    def read_session(self, session_id: str, **kwargs: Any) -> Session | None:
        """Return a session, even if only other programs have written it; None = there is none.

        Raises:
            SessionException: if the server was not reached.
        """
        info = self._info(self._id(session_id))
        if info is None:
            return self._of_agents(session_id)
        kept = (info.state or {}).get(SESSION)
        if kept is not None:
            type = SessionType(kept["session_type"])
            return cast("Session", Session.from_dict({**kept, "session_type": type}))
        if not info.last_seq:
            return None
        return Session(session_id, SessionType.AGENT, *times_of(info.created_at, info.active_at))

    def delete_session(self, session_id: str, **kwargs: Any) -> None:
        """Delete a session with its agents, groups of agents and messages.

        Raises:
            SessionException: if the session does not exist.
        """
        id = self._id(session_id)

        async def call(client: AsyncClient) -> None:
            check_all_deleted(await client.sessions.delete_many(session_id_prefix=f"{id}/"))
            await client.sessions.delete(id)

        self._run(call, f"Session {session_id} cannot be deleted")
        for known in [known for known in self._created if known.partition(f"{id}/")[0] in ("", id)]:
            del self._created[known]

    def create_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        """Create an agent in a session.

        Raises:
            SessionException: if the session does not exist, or if the agent exists already.
        """
        agent_id = session_agent.agent_id
        id, root = self._id(session_id, agent_id), self._id(session_id)
        state = {AGENT: session_agent.to_dict()}

        async def call(client: AsyncClient) -> None:
            info = await client.sessions.get(root)
            if id != root:
                info = await client.sessions.create(id, get_or_create=True, **self._create)
            if AGENT in (info.state or {}):
                raise SessionException(f"Agent {agent_id} already exists in session {session_id}")
            await client.sessions.update(id, state=state, state_etag=info.state_etag)

        self._run(call, f"Agent {agent_id} cannot be created in session {session_id}")
        self._created[id] = session_agent.created_at

    def read_agent(self, session_id: str, agent_id: str, **kwargs: Any) -> SessionAgent | None:
        """Return an agent; None = there is none.

        If only others have stored messages in its session, the agent has no state.

        Raises:
            SessionException: if the server was not reached.
        """
        id = self._id(session_id, agent_id)
        info = self._info(id)
        agent = None if info is None else agent_in(info, agent_id)
        if agent is not None:
            self._created[id] = agent.created_at
        return agent

    def update_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        """Replace the state of an agent. Its created_at stays.

        Raises:
            SessionException: if there is no such agent, or if its state is too large.
        """
        id = self._id(session_id, session_agent.agent_id)
        self._check_agent(session_id, session_agent.agent_id)
        session_agent.created_at = self._created[id]
        state = {AGENT: session_agent.to_dict()}
        what = f"Agent {session_agent.agent_id} of session {session_id} cannot be updated"
        self._run(lambda client: client.sessions.update(id, state=state), what)

    def create_message(
        self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any
    ) -> None:
        """Append a message to the history of an agent.

        Raises:
            SessionException: if there is no such agent, or if the message_id does not directly
                follow the message_id of the agent's last message.
        """
        id, number = self._id(session_id, agent_id), session_message.message_id
        what = f"Message {number} cannot be added to agent {agent_id} of session {session_id}"
        self._check_agent(session_id, agent_id)

        async def call(client: AsyncClient) -> None:
            new = [new_message(session_message)]
            try:
                await append(client, id, new, expected_last_seq=number)
            except SequenceConflict as error:
                last_seq = error.last_seq or 0
                how = "it exists already" if number < last_seq else f"the next is {last_seq}"
                raise SessionException(f"{what}: {how}") from error

        self._run(call, what)

    def read_message(
        self, session_id: str, agent_id: str, message_id: int, **kwargs: Any
    ) -> SessionMessage | None:
        """Return a message; None = there is none.

        Raises:
            SessionException: if the server was not reached.
        """
        id = self._id(session_id, agent_id)
        if message_id < 0:
            return None

        async def call(client: AsyncClient) -> list[SessionMessage]:
            try:
                found = await client.sessions.get_message(id, message_id + 1)
                return await records_of(client, id, [found])
            except (SessionNotFound, MessageNotFound):
                return []

        found = self._run(call, f"Message {message_id} of session {session_id} cannot be read")
        return found[0] if found else None

    def update_message(
        self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any
    ) -> None:
        """Replace a message. Its created_at stays, and so do the messages after it.

        One commit rewinds the history to the previous message, and appends the new message and
        those that followed the old one.

        Raises:
            SessionException: if there is no such message, or if more than 999 follow it.
        """
        id, number = self._id(session_id, agent_id), session_message.message_id
        what = f"Message {number} of agent {agent_id} of session {session_id} cannot be updated"

        async def call(client: AsyncClient) -> None:
            for _ in range(_MAX_ATTEMPTS):
                info = await client.sessions.get(id)
                if not 0 <= number < info.last_seq:
                    raise SessionException(f"{what}: it does not exist")
                if info.last_seq - number > MAX_BATCH_MESSAGES:
                    raise SessionException(f"{what}: {info.last_seq - number - 1} follow it")
                try:
                    read = client.sessions.get_messages(
                        id,
                        after_seq=number,
                        through_seq=info.last_seq,
                        expected_epoch=info.epoch,
                    )
                    old, *followers = [message async for message in read]
                    for previous in await records_of(client, id, [old]):
                        session_message.created_at = previous.created_at
                    await client.sessions.rewind(
                        id,
                        to_seq=number,
                        messages=[new_message(session_message), *followers],
                        expected_last_seq=info.last_seq,
                        expected_epoch=info.epoch,
                    )
                    return
                except (HistoryRewound, SequenceConflict) as error:
                    conflict = error
            raise conflict

        self._run(call, what)

    def list_messages(
        self,
        session_id: str,
        agent_id: str,
        limit: int | None = None,
        offset: int = 0,
        **kwargs: Any,
    ) -> list[SessionMessage]:
        """Return the messages of an agent, in order; none if there is no such agent.

        Args:
            session_id: the session.
            agent_id: the agent.
            limit: maximum number of messages. Default: all.
            offset: number of messages to skip at the beginning.
            **kwargs: ignored.

        Raises:
            SessionException: if the server was not reached.
        """
        id = self._id(session_id, agent_id)
        if limit is not None and limit <= 0:
            return []

        async def call(client: AsyncClient) -> list[SessionMessage]:
            try:
                info = await client.sessions.get(id)
                if offset >= info.last_seq:
                    return []
                # Other programs may have branched the history; the newest branch is read.
                read = client.sessions.get_messages(
                    id, branch_of=info.last_seq, after_seq=max(offset, 0), limit=limit
                )
                return await records_of(client, id, [message async for message in read])
            except SessionNotFound:
                return []

        return self._run(call, f"The messages of session {session_id} cannot be read")

    def create_multi_agent(
        self, session_id: str, multi_agent: "MultiAgentBase", **kwargs: Any
    ) -> None:
        """Store the state of a group of agents.

        Raises:
            SessionException: if the session does not exist, or if the state is too large.
        """
        self._put_group(session_id, multi_agent)

    def read_multi_agent(
        self, session_id: str, multi_agent_id: str, **kwargs: Any
    ) -> dict[str, Any] | None:
        """Return the state of a group of agents; None = there is none.

        Raises:
            SessionException: if the server was not reached.
        """
        info = self._info(self._id(session_id))
        found = (info.state or {}).get(group_key(multi_agent_id)) if info else None
        return cast("dict[str, Any] | None", found)

    def update_multi_agent(
        self, session_id: str, multi_agent: "MultiAgentBase", **kwargs: Any
    ) -> None:
        """Replace the state of a group of agents.

        Raises:
            SessionException: if there is no such group, or if the state is too large.
        """
        if self.read_multi_agent(session_id, multi_agent.id) is None:
            raise SessionException(
                f"MultiAgent state {multi_agent.id} in session {session_id} does not exist"
            )
        self._put_group(session_id, multi_agent)

    def _put_group(self, session_id: str, group: "MultiAgentBase") -> None:
        id, state = self._id(session_id), {group_key(group.id): group.serialize_state()}
        what = f"MultiAgent state {group.id} of session {session_id} cannot be stored"
        self._run(lambda client: client.sessions.update(id, state=state), what)

    def _check_agent(self, session_id: str, agent_id: str) -> None:
        """Check that an agent exists. Each agent is looked up only once."""
        if self._id(session_id, agent_id) in self._created:
            return
        if self.read_agent(session_id, agent_id) is None:
            raise SessionException(f"Agent {agent_id} in session {session_id} does not exist")

    def _id(self, session_id: str, agent_id: str = _DEFAULT_AGENT) -> str:
        try:
            return self.sessiond_id(session_id, agent_id)
        except InvalidField as error:
            raise SessionException(str(error)) from error

    def _of_agents(self, session_id: str) -> Session | None:
        """Create an expired session again if it still has agents; return it.

        The sessions of agents other than "default" are used more often, so they expire later.
        """
        id = self._id(session_id)

        async def call(client: AsyncClient) -> Session | None:
            async for info in client.list_sessions(session_id_prefix=f"{id}/", with_state=True):
                if AGENT in (info.state or {}):
                    times = times_of(info.created_at, info.active_at)
                    session = Session(session_id, SessionType.AGENT, *times)
                    await client.sessions.create(
                        id,
                        get_or_create=True,
                        state={SESSION: session.to_dict()},
                        **self._create,
                    )
                    return session
            return None

        return self._run(call, f"Session {session_id} cannot be read")

    def has_only_messages(self, session_id: str, agent_id: str) -> bool:
        """Whether others have stored messages for an agent that does not exist yet."""
        info = self._info(self._id(session_id, agent_id))
        return info is not None and info.last_seq > 0 and AGENT not in (info.state or {})

    def _info(self, id: str) -> SessionInfo | None:
        async def call(client: AsyncClient) -> SessionInfo | None:
            try:
                return await client.sessions.get(id)
            except SessionNotFound:
                return None

        return self._run(call, f"Session {id} cannot be read")

    def _run(self, call: Call[_T], what: str) -> _T:
        """Make calls. Errors are raised as SessionException."""
        try:
            return self._backend.run_sync(call)
        except SessiondError as error:
            raise SessionException(f"{what}: {error}") from error
