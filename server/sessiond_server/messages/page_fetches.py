"""Fetches pages of messages from the page cache of this process, or from the database."""

import asyncio
from dataclasses import replace
from itertools import pairwise
from uuid import UUID

from sessiond_server.messages.encoding import EncodedPage, encode_basic_page, encode_page
from sessiond_server.messages.pages import PageCache, PageKey
from sessiond_server.messages.parts_view import encode_parts_page
from sessiond_server.messages.store.history import HistoryStore, PageQuery
from sessiond_server.messages.store.segments import cut
from sessiond_server.telemetry import metrics


class PageFetcher:
    """Fetches pages through the page cache."""

    def __init__(self, store: HistoryStore, cache: PageCache) -> None:
        self._store = store
        self._cache = cache

    def fetch(
        self, key: UUID, message_log: UUID, query: PageQuery, fits: bool
    ) -> asyncio.Future[EncodedPage | None]:
        """Begin to fetch a page.

        Args:
            key: key of the session.
            message_log: log of the session's new messages.
            query: the page.
            fits: whether the cache has room for all messages of the session.

        Returns:
            The future of the page, which is done if the page is cached. None = the page has no
            messages.
        """
        if not (fits and _is_cacheable(query)):
            return asyncio.ensure_future(self._load(query))
        first, last = query.segments[0], query.segments[-1]
        # A page within one segment is cached under the segment's log, so that a session and its
        # copies share the page.
        source = (first.key, first.log) if first is last else (key, message_log)
        page_key = PageKey(*source, first.first_seq - 1, query.max_rows, query.max_bytes)
        cached = self._cache.get(page_key)
        if cached and (
            cached.last_seq == last.last_seq
            or (cached.last_seq < last.last_seq and not cached.is_open)
        ):
            metrics.count(metrics.CACHE_HITS)
            found: asyncio.Future[EncodedPage | None] = asyncio.get_running_loop().create_future()
            found.set_result(cached)
            return found
        metrics.count(metrics.CACHE_MISSES)
        # A page with a limit in bytes is not extended, because it would have to be measured again.
        is_known = cached and cached.last_seq < last.last_seq and query.max_bytes is None
        return asyncio.ensure_future(self._add(page_key, query, cached if is_known else None))

    async def _add(
        self, page_key: PageKey, query: PageQuery, known: EncodedPage | None
    ) -> EncodedPage | None:
        """Load a page and add it to the cache.

        Args:
            page_key: key of the page in the cache.
            query: the page.
            known: the first part of the page, which was cached while the history ended there. Only
                the rest is loaded. None = load the whole page.
        """
        first, last = query.segments[0], query.segments[-1]
        if known:
            rest = replace(
                query,
                segments=tuple(cut(query.segments, known.last_seq, last.last_seq)),
                max_rows=query.max_rows - known.count,
            )
            appended = await self._load(rest)
            # The rows are missing if the log is being purged.
            page = known.extended(appended) if appended else None
            if page is None or not page.has_no_gap:
                page = await self._load(query)
        else:
            page = await self._load(query)
        # Do not cache a page from a log that is being purged: it is incomplete, and no other reader
        # could use it.
        if page is None or page.first_seq != first.first_seq or not page.has_no_gap:
            return page
        # Later appends may extend the page if it ends only because the history does.
        is_open = page.count < query.max_rows and page.last_seq == last.last_seq
        page = replace(page, is_open=is_open)
        self._cache.put(page_key, page)
        return page

    async def _load(self, query: PageQuery) -> EncodedPage | None:
        rows = await self._store.page(query)
        if not rows:
            return None
        if query.as_parts:
            return await asyncio.to_thread(encode_parts_page, rows)
        return encode_basic_page(rows) if query.basic else encode_page(rows)


def _is_cacheable(query: PageQuery) -> bool:
    # Reads by role, descending reads and reads of other views have different pages. They are rare,
    # so their pages are not worth caching. A page with a gap belongs to a branch; in the cache it
    # would look like a page of the whole history.
    if query.descending or query.roles or query.basic or query.as_parts:
        return False
    return all(s.last_seq + 1 == t.first_seq for s, t in pairwise(query.segments))
