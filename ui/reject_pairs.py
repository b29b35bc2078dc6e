"""From a run to the tab Pairs: the pairs it made, each knowing how its rejected answer came about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pipeline.pairs.pair import Pair
from ui import pair_import, reject_runs
from ui.pair_case import GivenSet
from ui.reject_head import run_name
from ui.visitor_case import BadCase


class MadePairs:
    """The pairs of a candidates file, in its order; a source as ui/pair_import.py reads them."""

    kind = "pairs"

    def __init__(self, path: Path, without: int = 0) -> None:
        """without: rows that gave no pair, as the run counted them."""
        self._path = path
        self.reasons: Counter[str] = Counter({"no_reject": without} if without else {})
        self.formats: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Pair]:
        from pipeline.candidates.write_candidates import pairs_made

        for pair in pairs_made(self._path):
            self.formats["llamafactory-alpaca"] += 1
            yield pair


def send(run_id: str, lang: str) -> str:
    """Begin to read a run's pairs into a set of the tab Pairs; the id of the set. Raises BadCase, OSError."""
    about, path = reject_runs.about(run_id), reject_runs.candidates_of(run_id)
    if not path.is_file():
        raise BadCase("rejects_no_pairs_yet")
    without = reject_runs.account(run_id).get("rows_without_pair")
    made = MadePairs(path, without if isinstance(without, int) else 0)
    return pair_import.begin(GivenSet(f"rejects · {run_name(about, lang)}", made=made))
