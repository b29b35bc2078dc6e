"""How a workspace of pairs behaves as it grows: python benchmarks/pair_workspace.py [--rows 1000 100000 500000]

Makes workspaces of Chinese pairs with 400 characters a side in a temporary folder (500,000 rows: 1.7 GB) and removes
them. Times depend on the machine; what is promised are ratios, of one size to the smallest and of one task to another
in the same run, and a few seconds for what reads every text. NO stands behind a promise that is not kept.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline.pair_workspace import Saved, View, Workspace
from pipeline.pairs.pair import Pair

CHARACTERS = [chr(0x4E00 + n) for n in range(2500)]
STRATEGIES = ("greedy", "sampling", "beam")
REPEATS, EDITS = 5, 200
SAME_COST, FLAT_MIB = 3.0, 60.0  # times that of the smallest; MiB of memory that an import may take more
FIRST_PAGE, FILTERED, SEARCH = 0.3, 0.5, 8.0  # seconds at most on two cores
EVERY, BEAM = View(), View(strategy="beam")
LONGER = View(ranges={"length_ratio": (1.2, None), "score_chosen": (3, 6)}, status="new")


@cache
def texts() -> Callable[[int, int], str]:
    """(start, length) of one long text in which no part of four characters is likely to come twice."""
    chance = random.Random(0)
    long = "".join(chance.choices(CHARACTERS, k=1_000_000))
    return lambda start, length: long[(at := start % 990_000) : at + length]


def pairs(rows: int) -> Iterator[Pair]:
    text = texts()
    for n in range(rows):
        at = n * 7919
        yield Pair(
            [{"role": "user", "content": text(at, 100)}], text(at + 500, 300 + n * 31 % 200), text(at + 1500, 400),
            id=f"row-{n}", line=n + 1, score_chosen=n % 97 / 7, score_rejected=1.0, extra={"topic": n % 5},
            source={"rejected": {"strategy": STRATEGIES[n % 3], "seed": 3}},
        )  # fmt: skip


def timed(call: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Seconds, the median."""
    taken = []
    for _ in range(repeats):
        begun = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def resident() -> float:
    """MiB that this process took at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def imported(path: Path, rows: int) -> dict[str, float]:
    """`seconds`, `memory` (MiB that it took more than all before) and `bytes`."""
    texts()
    before = resident()
    begun = time.perf_counter()
    Workspace.create(path, pairs(rows), source_name="benchmark").close()
    seconds = time.perf_counter() - begun
    return {"import": seconds, "memory": resident() - before, "bytes": path.stat().st_size}


def used(path: Path, rows: int) -> dict[str, float]:
    """Seconds by task."""
    found: dict[str, float] = {}
    # the same rows made and turned into JSON lines, which anything that keeps them has to do
    found["writing JSON lines"] = timed(lambda: write_lines(path.with_suffix(".jsonl"), rows), 1)

    def open_and_page() -> None:
        opened = Workspace.open(path)
        assert len(opened.page(EVERY)) == 50
        opened.close()

    found["open and first page"] = timed(open_and_page)
    workspace = Workspace.open(path)
    found["last page"] = timed(lambda: workspace.page(EVERY, rows - 50))
    found["filtered page, first"] = timed(lambda: workspace.page(LONGER))
    found["filtered page, last"] = timed(lambda: workspace.page(BEAM, rows // 3 - 60))
    found["filtered count"] = timed(lambda: workspace.count(LONGER))
    found["sorted page"] = timed(lambda: workspace.page(View(sort="length_ratio", descending=True)))
    found["distribution"] = timed(lambda: workspace.distribution("length_ratio", EVERY), 3)
    flags = {"PRF005/near_duplicates": np.arange(0, rows, 7), "PRF002": np.arange(0, rows, 3)}
    found["set flags"] = timed(lambda: workspace.set_flags(flags), 1)
    found["page of a finding"] = timed(lambda: workspace.page(View(finding="PRF002"), rows // 3 - 60))

    common, rare = texts()(7919 * (rows - 5) + 600, 1), texts()(7919 * (rows - 5) + 600, 4)
    found["search, first page, common"] = timed(lambda: workspace.page(View(search=common)), 1)
    found["search, first page, rare"] = timed(lambda: workspace.page(View(search=rare)), 1)
    found["search, count"] = timed(lambda: workspace.count(View(search=rare)), 1)
    assert workspace.count(View(search=rare)) >= 1
    found["search, count, Latin"] = timed(lambda: workspace.count(View(search="Hello")), 1)
    found["search, count, other letters"] = timed(lambda: workspace.count(View(search="Élan")), 1)
    number = iter(range(EDITS))

    def edit() -> None:
        row = next(number) * 7919 % rows
        done = workspace.save(row, workspace.get(row).revision, chosen=f"改过 {row}", editor="Li")
        assert isinstance(done, Saved) and done.changed

    found["edit"] = timed(edit, EDITS)
    found["search, count, after edits"] = timed(lambda: workspace.count(View(search=rare)), 1)
    found["undo and redo"] = timed(lambda: (workspace.undo("Li"), workspace.redo("Li")), 20)
    found["discard a third"] = timed(lambda: workspace.bulk(View(finding="PRF002"), "discard", "Li"), 1)
    found["undo of that"] = timed(lambda: workspace.undo("Li"), 1)
    found["export"] = timed(lambda: sum(1 for _ in workspace.pairs()), 1)
    workspace.close()
    return found


def write_lines(path: Path, rows: int) -> None:
    with open(path, "w", encoding="utf-8") as file:
        for pair in pairs(rows):
            kept = [pair.prompt, pair.chosen, pair.rejected, pair.id, pair.score_chosen, pair.source, pair.extra]
            file.write(json.dumps(kept, ensure_ascii=False) + "\n")
    path.unlink()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 100_000, 500_000])
    sizes = sorted(parser.parse_args().rows)
    with tempfile.TemporaryDirectory() as folder:
        paths = {rows: Path(folder) / f"{rows}.workspace" for rows in sizes}
        found = {rows: imported(path, rows) for rows, path in paths.items()}  # first, while little memory was taken
        for rows, path in paths.items():
            found[rows] |= used(path, rows)
            path.unlink()
    smallest, largest = found[sizes[0]], found[sizes[-1]]
    print(f"{'':34}" + "".join(f"{rows:>14,}" for rows in sizes) + "   largest to smallest")
    for task in smallest:
        if task == "bytes":
            print(f"{'file, bytes a row':34}" + "".join(f"{found[rows][task] / rows:14.0f}" for rows in sizes))
        elif task == "memory":
            print(f"{'import, MiB more':34}" + "".join(f"{found[rows][task]:14.1f}" for rows in sizes))
        else:
            times = "".join(f"{found[rows][task] * 1000:11.2f} ms" for rows in sizes)
            print(f"{task:34}{times}{largest[task] / smallest[task]:13.1f}x")
    to_lines = largest["import"] / largest["writing JSON lines"]
    print(f"\nan import of {sizes[-1]:,} rows takes {to_lines:.1f}x as long as making and writing them as JSON lines\n")
    promises = {
        f"an edit costs the same (at most {SAME_COST:.0f}x)": largest["edit"] <= SAME_COST * smallest["edit"],
        f"an undo costs the same (at most {SAME_COST:.0f}x)":
            largest["undo and redo"] <= SAME_COST * smallest["undo and redo"],
        f"any page costs the same (at most {SAME_COST:.0f}x)":
            largest["last page"] <= SAME_COST * smallest["last page"],
        f"the first page is there in {FIRST_PAGE} s": largest["open and first page"] <= FIRST_PAGE,
        f"a filtered page is there in {FILTERED} s": max(
            largest[task] for task in largest if task.startswith("filtered") or task == "page of a finding"
        ) <= FILTERED,
        f"a search takes at most {SEARCH:.0f} s": max(largest[t] for t in largest if t.startswith("search")) <= SEARCH,
        "a search is remembered over edits (a tenth of the first)":
            largest["search, count, after edits"] <= largest["search, count"] / 10,
        f"an import takes no more memory ({FLAT_MIB:.0f} MiB at most)":
            max(one["memory"] for one in found.values()) <= FLAT_MIB,
    }  # fmt: skip
    for promise, kept in promises.items():
        print(f"{'yes' if kept else 'NO':4}{promise}")
    return 0 if all(promises.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
