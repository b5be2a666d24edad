"""Imports of a process that starts."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collections() -> Iterator[None]:
    """Import modules in the block without garbage collections.

    Nearly all objects of modules are permanent. Collections that look at them take an eighth of the
    CPU time of the imports, and later ones would look at them again. So the objects that exist at
    the end of the block are exempt from collections.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
