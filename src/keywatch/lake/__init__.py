"""The lake: its tables, who may write, its copies, and which weeks it has."""

from keywatch.lake.attach import catalogue_file
from keywatch.lake.explaining import explained
from keywatch.lake.lake import (
    FORMAT_VERSION,
    METADATA,
    Lake,
    duckdb_version,
    sql_statements,
    sql_text,
    utc_now,
)
from keywatch.lake.literals import quoted
from keywatch.lake.server import CatalogueServer

__all__ = [
    "FORMAT_VERSION",
    "METADATA",
    "CatalogueServer",
    "Lake",
    "catalogue_file",
    "duckdb_version",
    "explained",
    "quoted",
    "sql_statements",
    "sql_text",
    "utc_now",
]
