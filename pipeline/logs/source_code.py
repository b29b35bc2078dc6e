"""Text that is a program and not what one printed: numbers beside `loss` in it were never measured."""

from __future__ import annotations

import re

_STATEMENT = re.compile(
    rb"\s*(?:def \w+\(|class \w+[(:]|import \w|from [\w.]+ import |return\b|raise \w|assert |else:|try:|except\b.*:"
    rb"|(?:if|elif|while|with|for) .*:\s*(?:#.*)?$|print\(|@\w+|#include\b|using \w"
    rb"|(?:public|private|static|const|let|var|function|void|int|float|double) \w"
    rb"|[\w.\[\]'\", ]{1,80}[-+*/]?= ?[\w.]*[\w(\[{][^|]*$|[\w.]+\([^|]*\)\s*;?$|[)}\]]+[,;]?\s*$)"
)
# Of no other kind of text.
_CERTAIN = re.compile(
    rb"(?m)^\s*(?:def \w+\(.*\).*:|class \w+.*:|import \w[\w., ]*$|from [\w.]+ import |for \w+ in .+:|#include\b)"
)
_SHARE, _FEWEST, _LINES = 0.5, 3, 400


def looks_like_source(first: bytes) -> bool:
    """Whether the beginning of a file is source code: half of its lines are statements, and one in 40 can be nothing
    else. A log in which a traceback or a printed file stands is not."""
    lines = [line for line in first.split(b"\n")[:-1] if line.strip() and not line.lstrip().startswith(b"#")][:_LINES]
    if len(lines) < _FEWEST or len(_CERTAIN.findall(first)) < max(1, len(lines) // 40):
        return False
    return sum(_STATEMENT.match(line[:300]) is not None for line in lines) > _SHARE * len(lines)
