"""Metadata and column types that all tables share."""

from sqlalchemy import MetaData, Text
from sqlalchemy.dialects.postgresql import TIMESTAMP

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    }
)

TIME = TIMESTAMP(timezone=True)
# Byte order lets prefix searches and sorting by id use the plain unique index in any locale.
ID_TEXT = Text(collation="C")
