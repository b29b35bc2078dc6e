"""How often the first cause is right for preference sets: faults planted in healthy sets of many kinds, both languages.

    python benchmarks/planted_pairs.py                           # the first half of the material, some minutes
    python benchmarks/planted_pairs.py --material second         # the half that no number was tuned on
    python benchmarks/planted_pairs.py --only one_emoji --keep DIR   # cases whose name contains this; keeps the files
    python benchmarks/planted_pairs.py --seed 5                  # other sets of the same material
    python benchmarks/planted_pairs.py --also DIR                # and the files that DIR/INDEX.json labels

Prints a table, the share of right first causes, false alarms on healthy sets, and whether the confidences mean what
they say. Exit status 1 when first causes are right in fewer than 85 of 100 faults or a healthy set raises an alarm.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_NUM_THREADS", "1")  # as many cases at once as there are cores

from benchmarks.planted_pairs_cases import Case, cases, labelled  # noqa: E402
from benchmarks.planted_pairs_files import tokenizer_folder  # noqa: E402
from benchmarks.planted_pairs_material import HALVES  # noqa: E402

BAR = 0.85
BINS = (0.0, 0.3, 0.5, 0.7, 0.9, 1.01)


@dataclass(frozen=True)
class Result:
    """What the diagnosis said of one case. also: causes that are true of it beside the expected one. causes: (id,
    confidence), most probable first."""

    name: str
    fault: str
    base: str
    lang: str
    expected: tuple[str, ...]
    path: str
    also: tuple[str, ...] = ()
    verdict: str = ""
    causes: tuple[tuple[str, float], ...] = ()
    alarms: tuple[str, ...] = ()  # severity, CODE/outcome and message of warnings and errors
    skipped: tuple[str, ...] = ()
    seconds: float = 0.0
    crash: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def top(self) -> str:
        return self.causes[0][0] if self.causes else "-"

    @property
    def ok(self) -> bool:
        if self.crash:
            return False
        if not self.expected:
            return self.verdict == "healthy" and not self.causes
        return self.top in self.expected and self.verdict != "healthy"


def judge(case: Case, folder: Path) -> Result:
    """Write one case and diagnose it in this process."""
    from diagnostics.diagnose_pairs import diagnose_pairs
    from pipeline.refusal import Refused

    given = case.write(folder)
    path = given.pop("path")
    about = (case.name, case.fault, case.base, case.lang, case.expected, path, case.also)
    started = time.perf_counter()
    try:
        report = diagnose_pairs(path, **given).report
    except Refused as refused:
        return Result(*about, crash=f"Refused: {refused}"[:200], options=given)
    except Exception as crash:  # the benchmark goes on; the table shows it
        return Result(*about, crash=f"{type(crash).__name__}: {crash}".splitlines()[0][:200], options=given)
    return Result(
        *about, report.verdict, tuple((c.id, round(c.confidence, 3)) for c in report.causes),
        tuple(f"{f.severity} {f.signal}: {f.message}" for f in report.findings if f.severity in ("warning", "error")),
        tuple(f"{s.code}/{s.reason_id}" for s in report.skipped), round(time.perf_counter() - started, 2), "", given,
    )  # fmt: skip


def run(wanted: Sequence[Case], folder: Path, jobs: int) -> list[Result]:
    """All results, in the order of the cases; progress on standard error."""
    tokenizer_folder(folder / "tokenizer")  # once, before the processes start
    found: dict[str, Result] = {}
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(judge, case, folder) for case in wanted]
        for done in as_completed(waiting):
            result = done.result()
            found[result.name] = result
            if not result.ok:
                said = result.crash or result.top
                print(f"[{len(found)}/{len(wanted)}] {result.name}: {said} WRONG", file=sys.stderr, flush=True)
            elif len(found) % 25 == 0:
                print(f"[{len(found)}/{len(wanted)}]", file=sys.stderr, flush=True)
    return [found[case.name] for case in wanted]


def table(results: Sequence[Result]) -> str:
    """One line per case."""
    head = f"{'fault':26} {'base':14}    {'expected':26} {'first cause':26} conf  verdict"
    lines = [f"{head:115} ok  second"]
    for r in results:
        confidence = f"{r.causes[0][1]:.2f}" if r.causes else "   -"
        second = f"{r.causes[1][0]} {r.causes[1][1]:.2f}" if len(r.causes) > 1 else ""
        expected = r.expected[0] if r.expected else "(healthy)"
        lines.append(
            f"{r.fault or '-':26} {r.base[:14]:14} {r.lang} {expected:26} {(r.crash or r.top)[:26]:26} "
            f"{confidence:>4}  {r.verdict:10} {'yes' if r.ok else 'NO':3} {second}"
        )
    return "\n".join(lines)


def by_fault(results: Sequence[Result]) -> str:
    """How many cases of each fault are right."""
    counted: dict[str, list[Result]] = defaultdict(list)
    for r in results:
        counted[r.fault or "(healthy)"].append(r)
    lines = [f"{'fault':32} {'right':>9}   what else came first"]
    for name, some in counted.items():
        wrong: dict[str, int] = defaultdict(int)
        for r in some:
            if not r.ok:
                wrong["crash" if r.crash else r.top if r.causes else f"nothing ({r.verdict})"] += 1
        said = ", ".join(f"{what} {count}" for what, count in sorted(wrong.items(), key=lambda x: -x[1]))
        lines.append(f"{name:32} {sum(r.ok for r in some):4} / {len(some):<3}  {said}")
    return "\n".join(lines)


def calibration(results: Sequence[Result]) -> str:
    """Of the causes reported at some confidence, how many are right: all reported ones, where those count that are true
    beside the expected one, and the first ones alone."""
    lines = ["confidence    all reported: right / said   mean said     first ones: right / said"]
    for low, high in zip(BINS, BINS[1:], strict=False):
        said = [
            (c in r.expected or (i > 0 and c in r.also), p, i == 0)
            for r in results for i, (c, p) in enumerate(r.causes) if low <= p < high
        ]  # fmt: skip
        if not said:
            continue
        right, firsts = sum(ok for ok, _, _ in said), [ok for ok, _, is_first in said if is_first]
        mean = sum(p for _, p, _ in said) / len(said)
        lines.append(
            f"{low:.1f} - {min(high, 1.0):.1f}     {right:4} / {len(said):<4} = {right / len(said):.2f}"
            f"          {mean:.2f}          {sum(firsts):4} / {len(firsts)}"
        )
    return "\n".join(lines)


def failures(results: Sequence[Result]) -> str:
    """Every wrong case in Markdown: its file, what was expected, what was said."""
    lines = ["# Cases judged wrongly", ""]
    for r in results:
        if r.ok:
            continue
        said = ", ".join(f"{c} {p:.2f}" for c, p in r.causes) or "no cause"
        options = "".join(f" {key}={value}" for key, value in r.options.items())
        lines += [f"## {r.name}", "", f"- file: `{r.path}`{options}",
                  f"- expected: {' or '.join(r.expected) or 'healthy, no cause'}",
                  f"- got: {r.crash or f'{r.verdict}; {said}'}", *(f"- {alarm}" for alarm in r.alarms), ""]  # fmt: skip
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--material", choices=(*HALVES, "both"), default="first")
    parser.add_argument("--seed", type=int, default=0, help="other sets from the same material")
    parser.add_argument("--only", metavar="NAME", help="cases whose name contains this, as in fault/base-language-half")
    parser.add_argument("--also", metavar="DIR", help="judge the files labelled in DIR/INDEX.json too")
    parser.add_argument("--keep", metavar="DIR", help="leave the files there; default: a temporary folder")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="cases at once")
    parser.add_argument("--json", metavar="FILE", help="write every result there")
    parser.add_argument("--failures", metavar="FILE", help="write the cases judged wrongly there, in Markdown")
    parser.add_argument("--write-only", action="store_true", help="write the files (with --keep) and judge nothing")
    options = parser.parse_args()
    halves = HALVES if options.material == "both" else (options.material,)
    made = [case for half in halves for case in cases(half, options.seed)]
    wanted = [case for case in made if options.only is None or options.only in case.name]
    if options.also:
        wanted += list(labelled(Path(options.also)))
    if not wanted:
        print(f"no case has {options.only!r} in its name", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.keep or temporary)
        if options.write_only:
            for case in wanted:
                case.write(folder)
            return 0
        results = run(wanted, folder, max(1, options.jobs))
    faults, sound = [r for r in results if r.expected], [r for r in results if not r.expected]
    right, quiet = sum(r.ok for r in faults), sum(r.ok for r in sound)
    print(table(results), by_fault(results), sep="\n\n", end="\n\n")
    if faults:
        print(f"first cause right: {right} of {len(faults)} faults ({right / len(faults):.0%}, bar {BAR:.0%})")
    if sound:
        print(f"false alarms: {len(sound) - quiet} of {len(sound)} healthy sets (bar 0)")
    print(calibration(results))
    if options.json:
        said = [asdict(r) | {"ok": r.ok} for r in results]
        Path(options.json).write_text(json.dumps(said, ensure_ascii=False, indent=1), encoding="utf-8")
    if options.failures:
        Path(options.failures).write_text(failures(results), encoding="utf-8")
    return 1 if quiet < len(sound) or (faults and right / len(faults) < BAR) else 0


if __name__ == "__main__":
    sys.exit(main())
