"""The limits of configs/sql.yaml."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from pipeline.config_files import load_config


@dataclass(frozen=True)
class SqlLimits:
    """What one query may cost; each is explained in configs/sql.yaml."""

    seconds: float
    grace_seconds: float
    rows: int
    result_bytes: int
    statement_bytes: int
    value_bytes: int
    expression_depth: int
    compound_terms: int
    instructions: int
    pattern_bytes: int
    heap_bytes: int
    process_bytes: int
    process_cpu_seconds: int
    process_busy_seconds: float
    open_databases: int
    schema_tables: int


def setting(name: str) -> Any:
    """One number of configs/sql.yaml."""
    return load_config("sql.yaml")[name]


@cache
def default_limits() -> SqlLimits:
    return SqlLimits(**{f.name: setting(f.name) for f in fields(SqlLimits)})


@cache
def names_of(name: str) -> frozenset[str]:
    """One list of names of configs/sql.yaml, in lower case."""
    return frozenset(str(setting(name)).split())
