"""What a database holds: tables and their columns."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property


@dataclass(frozen=True, eq=False)
class Schema:
    """tables: name -> names of its columns, as written in the database; views too. collated: some column compares in
    another way than byte by byte (COLLATE), so that `a = b` and `b = a` may differ."""

    tables: dict[str, tuple[str, ...]] = field(default_factory=dict)
    collated: bool = False

    @cached_property
    def folded(self) -> dict[str, frozenset[str]]:
        """The same in lower case, as SQLite compares names."""
        return {folded(t): frozenset(map(folded, columns)) for t, columns in self.tables.items()}

    @cached_property
    def all_columns(self) -> frozenset[str]:
        return frozenset().union(*self.folded.values()) if self.tables else frozenset()


_LOWER = {c: c + 32 for c in range(ord("A"), ord("Z") + 1)}
_UPPER = {c + 32: c for c in range(ord("A"), ord("Z") + 1)}


def folded(name: str) -> str:
    """In lower case, as databases do: ASCII letters only, `É` and `é` are two names."""
    return name.translate(_LOWER)


def raised(name: str) -> str:
    """In upper case, ASCII letters only."""
    return name.translate(_UPPER)
