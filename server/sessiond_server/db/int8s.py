"""Parameters of type bigint[]."""

import struct
from collections.abc import Sequence

from psycopg.adapt import Dumper
from psycopg.pq import Format


class Int8s(list[int]):
    """A parameter of type bigint[].

    psycopg dumps an ordinary list item by item, with a type that depends on the items. This type is
    faster.
    """


class Int8sDumper(Dumper):
    """Dumps a one-dimensional array in the binary format that PostgreSQL's array_recv reads."""

    format = Format.BINARY
    oid = 1016

    def dump(self, obj: Int8s) -> bytes:
        return int8_array(obj)


def int8_array(values: Sequence[int]) -> bytes:
    """Encode numbers as a one-dimensional array, as PostgreSQL's array_recv reads it."""
    count = len(values)
    if not count:
        return _NO_INT8S
    items = [8] * (2 * count)
    items[1::2] = values
    return struct.pack(f">iiiii{'iq' * count}", 1, 0, _INT8_OID, count, 1, *items)


_INT8_OID = 20
_NO_INT8S = struct.pack(">iii", 0, 0, _INT8_OID)
