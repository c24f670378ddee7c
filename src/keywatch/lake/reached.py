"""What a statement reads: tables and table functions, of the tree that DuckDB makes of it."""

from __future__ import annotations

from collections.abc import Iterator

TABLE_FUNCTIONS = frozenset(
    {
        "duckdb_columns", "duckdb_tables", "generate_series", "generate_subscripts", "json_each",
        "json_tree", "range", "repeat", "repeat_row", "unnest",
    }
)  # fmt: skip
"""Those that make rows of their arguments, and what says which tables there are."""


def tables(tree: object) -> Iterator[str]:
    """The names of tables in a statement, as DuckDB serialises it."""
    if isinstance(tree, dict):
        if tree.get("type") == "BASE_TABLE":
            yield str(tree["table_name"])
        for value in tree.values():
            yield from tables(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from tables(value)


def table_functions(tree: object) -> Iterator[str]:
    """The table functions of a statement, as DuckDB serialises it."""
    if isinstance(tree, dict):
        if tree.get("type") == "TABLE_FUNCTION":
            yield str(tree["function"]["function_name"]).lower()
        for value in tree.values():
            yield from table_functions(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from table_functions(value)
