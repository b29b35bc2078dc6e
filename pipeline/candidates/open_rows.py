"""Rows with requests under way: which are whole once some of them have come back."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import TypeVar

from pipeline.candidates.candidate import Candidate, SourceRow
from pipeline.candidates.endpoint import Answer, EndpointGone

POLL_SECONDS = 0.1
"""How soon a cancel is seen while nothing comes back."""

Asked = TypeVar("Asked")


@dataclass
class OpenRow:
    """A row and what was made of it. left: requests that are still under way."""

    row: SourceRow
    made: list[Candidate] = field(default_factory=list)
    left: int = 0


def settled(
    flying: dict[Future[Answer], tuple[OpenRow, Asked]], read: Callable[[OpenRow, Asked, Future[Answer]], None]
) -> tuple[list[OpenRow], EndpointGone | None]:
    """Waits a moment for requests, reads those that came back and takes them out of `flying`. The rows that are whole
    by that, and why nothing more is answered, where `read` raised so."""
    done, _ = wait(flying, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
    whole: list[OpenRow] = []
    gone: EndpointGone | None = None
    for future in done:
        opened, asked = flying.pop(future)
        try:
            read(opened, asked, future)
        except EndpointGone as error:
            gone = error
            continue
        opened.left -= 1
        if not opened.left:
            whole.append(opened)
    return whole, gone
