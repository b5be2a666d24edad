"""Imports of a process that starts."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collections() -> Iterator[None]:
    """Import modules in the block without garbage collections.

    Nearly all objects of modules are permanent. Without this block, garbage collections would
    examine these objects during the imports, which takes an eighth of the CPU time, and again
    later. So the objects that exist at the end of the block are exempt from later collections.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
