"""The pages, one module per topic.

Each module lists its routes: the method, the path, and a function that makes the handler.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from sessiond_console.pages import (
    assets,
    context,
    deletion,
    live,
    messages,
    notes,
    operations,
    picked,
    sessions,
    settings,
    transcript,
    tree,
    turns,
)
from sessiond_console.site import Page, Site

RouteEntry: TypeAlias = tuple[str, str, Callable[[Site], Page]]

ROUTES: Sequence[RouteEntry] = (
    *sessions.ROUTES,
    *picked.ROUTES,
    *transcript.ROUTES,
    *messages.ROUTES,
    *live.ROUTES,
    *turns.ROUTES,
    *notes.ROUTES,
    *settings.ROUTES,
    *tree.ROUTES,
    *context.ROUTES,
    *operations.ROUTES,
    *deletion.ROUTES,
    *assets.ROUTES,
)
