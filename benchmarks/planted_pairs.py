"""How often the first cause is right for preference sets: faults planted in healthy sets of many kinds, both languages.

    python benchmarks/planted_pairs.py                           # the first half of the material, some minutes
    python benchmarks/planted_pairs.py --material second         # the half that no number was tuned on
    python benchmarks/planted_pairs.py --only one_emoji --keep DIR   # cases whose name contains this; keeps the files
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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_NUM_THREADS", "1")  # as many cases at once as there are cores

from benchmarks import planted_pairs_faults as plant  # noqa: E402
from benchmarks import planted_pairs_files as files  # noqa: E402
from benchmarks.planted_pairs_healthy import KINDS, healthy, most_rows  # noqa: E402
from benchmarks.planted_pairs_material import HALVES, LANGS, Half, Lang, material  # noqa: E402

BAR = 0.85
BINS = (0.0, 0.3, 0.5, 0.7, 0.9, 1.01)
ROWS = 300  # of a set that a fault is planted in, at most
LIMIT = 192  # max_length of the cases that are judged with a tokenizer


@dataclass(frozen=True)
class Fault:
    """expected: first causes that count as right. bases: kinds of sets it is planted in; others: those of the second
    half alone. shares: how much of a set, in the first and the second half. spoil: what is done to the file instead of
    the rows."""

    name: str
    expected: tuple[str, ...]
    bases: tuple[str, ...]
    others: tuple[str, ...] = ()
    shares: tuple[float, float] = (1.0, 1.0)
    rows: plant.Planter | None = None
    spoil: Callable[[Path], Path] | None = None
    limited: bool = False  # judged with a tokenizer and max_length


def _fault(rows: plant.Planter, expected: str, bases: str, first: float = 1.0, second: float = 1.0,
           name: str = "", limited: bool = False) -> Fault:  # fmt: skip
    named = name or getattr(rows, "__name__", "")
    usual, _, others = bases.partition("+")
    return Fault(
        named, tuple(expected.split()), tuple(usual.split()), tuple(others.split()), (first, second), rows,
        limited=limited,
    )  # fmt: skip


def _spoiled(spoil: Callable[[Path], Path], bases: str) -> Fault:
    return Fault(spoil.__name__, ("unreadable_data",), tuple(bases.split()), spoil=spoil)


FAULTS: tuple[Fault, ...] = (
    _fault(plant.identical, "pairs_identical", "chat sql translation talk + json labels hh mixed"),
    _fault(plant.identical, "pairs_identical",
           "chat gec talk code + facts scored summary", 0.4, 0.2, name="identical_in_part"),
    _fault(plant.identical_but_white_space, "pairs_identical", "sft chat maths + talk hh gec", 1.0, 0.6),
    _fault(plant.scores_contradict, "pairs_swapped", "scored", 1.0, 0.85),
    _fault(plant.scores_mixed_up, "pairs_swapped", "scored", 0.9, 0.8),
    _fault(plant.exchanged_loops, "pairs_swapped", "chat scored talk + sft hh", 0.7, 0.4),
    # chosen answers that break off: made by cutting and then exchanged, but an end is missing there as well
    _fault(plant.exchanged_cut, "pairs_swapped stop_token_missing", "chat sft talk + scored summary", 0.9, 0.6),
    _fault(plant.exchanged_off_topic, "pairs_swapped", "chat sft translation + talk maths hh", 1.0, 0.7),
    _fault(plant.exchanged_broken, "pairs_swapped", "chat scored talk + sft hh", 1.0, 0.7),
    _fault(plant.another_rows_answer, "rejected_off_topic",
           "chat sft talk translation code summary + maths json scored mixed"),
    _fault(plant.another_rows_answer, "rejected_off_topic",
           "chat scored hh + talk sft", 0.4, 0.3, name="another_rows_in_part"),
    _fault(plant.fluent_but_unrelated, "rejected_off_topic", "chat sft facts talk + scored hh summary mixed gec"),
    _fault(plant.fluent_but_unrelated, "rejected_off_topic",
           "chat sft scored + talk mixed", 0.6, 0.4, name="unrelated_in_part"),
    _fault(plant.few_fixed_topics, "rejected_off_topic", "chat facts sft scored + talk hh mixed", 1.0, 0.8),
    # one sentence says no to everything: it has nothing to do with the question, and tells the sides apart at once
    _fault(plant.refused_always, "trivially_separable rejected_off_topic",
           "chat sft scored + talk facts summary", 1.0, 0.9),
    _fault(plant.other_language, "trivially_separable", "facts", 1.0, 0.97),
    _fault(plant.chosen_begins_alike, "trivially_separable", "chat sft maths talk + scored hh summary", 1.0, 0.96),
    _fault(plant.rejected_ends_alike, "trivially_separable", "chat scored maths + talk sft summary", 1.0, 0.97),
    _fault(plant.markdown_against_plain, "trivially_separable", "chat sft scored + talk facts"),
    _fault(plant.rejected_loops, "trivially_separable", "chat talk scored + sft hh summary", 1.0, 0.9),
    _fault(plant.full_stop_against_none, "trivially_separable", "chat talk scored facts + hh summary"),
    _fault(plant.one_emoji, "trivially_separable", "chat sft facts + talk scored maths hh", 1.0, 0.97),
    _fault(plant.one_name, "trivially_separable", "chat talk scored + sft hh", 1.0, 0.96),
    _fault(plant.chosen_three_times_as_long, "length_bias", "chat scored talk facts + sft hh", 1.0, 0.9),
    _fault(plant.rejected_ten_times_as_long, "length_bias", "chat scored facts + sft talk", 1.0, 0.9),
    _fault(plant.chosen_short, "length_bias", "chat scored facts + talk hh", 1.0, 0.9),
    _fault(plant.both_orders, "contradictory_pairs", "chat sql gec safety hh kto + talk scored maths json", 0.2, 0.08),
    _fault(plant.both_orders_loosely, "contradictory_pairs", "chat sft talk + scored hh", 0.15, 0.1),
    _fault(plant.rows_twice, "duplicate_pairs", "chat gec maths hh kto + talk scored summary json", 0.2, 0.15),
    _fault(plant.rows_nearly_twice, "duplicate_pairs", "chat scored talk summary + sft facts", 0.1, 0.06),
    _fault(plant.few_rows_again_and_again, "duplicate_pairs", "chat sft json + talk scored kto", 4, 9),
    _fault(plant.prompt_before_both, "prompt_in_completion", "chat sft maths kto + talk scored hh facts", 1.0, 0.5),
    _fault(plant.prompt_before_rejected, "prompt_in_completion", "chat talk sql + sft scored maths", 1.0, 0.4),
    _fault(plant.prompt_inside, "prompt_in_completion", "chat sft facts + talk scored", 0.6, 0.4),
    _fault(plant.rejected_runs_on("chatml"), "template_in_text",
           "chat talk sql kto + sft scored json", 0.4, 0.2, name="chatml_runs_on"),
    _fault(plant.rejected_runs_on("llama"), "template_in_text",
           "chat scored + talk sft", 0.3, 0.15, name="llama_runs_on"),
    _fault(plant.rejected_runs_on("alpaca"), "template_in_text",
           "sft sql gec + chat maths facts", 0.35, 0.2, name="alpaca_runs_on"),
    _fault(plant.rejected_runs_on("human"), "template_in_text",
           "chat maths talk + sft sql facts", 0.4, 0.2, name="human_runs_on"),
    _fault(plant.rejected_runs_on("inst"), "template_in_text",
           "chat facts + scored sft", 0.35, 0.2, name="inst_runs_on"),
    _fault(plant.header_before_both, "template_in_text", "chat sft talk + scored maths hh", 1.0, 0.6),
    _fault(plant.half_broken_template, "template_in_text", "safety chat + talk sft", 0.75, 0.5),
    _fault(plant.nothing_rejected, "empty_completion",
           "chat sft translation + talk scored", name="nothing_rejected_at_all"),
    _fault(plant.nothing_rejected, "empty_completion", "chat maths hh kto + talk sql labels", 0.3, 0.1),
    _fault(plant.only_white_space, "empty_completion", "chat sft talk + hh scored", 0.4, 0.15),
    _fault(plant.nothing_chosen, "empty_completion", "chat gec sql + talk hh", 0.15, 0.1),
    _fault(plant.end_in_half, "stop_token_missing", "chat sft talk + scored hh maths", 0.5, 0.4),
    _fault(plant.end_on_chosen, "stop_token_missing", "chat maths scored + talk sft hh"),
    _fault(plant.end_on_rejected, "stop_token_missing", "chat sft + talk maths", 1.0, 0.9),
    _fault(plant.both_cut_off, "stop_token_missing", "chat talk scored + sft hh", 0.9, 0.6),
    _fault(plant.differ_beyond_the_cut, "truncation_destroys_signal", "chat facts + talk", 0.8, 0.5, limited=True),
    _fault(plant.prompts_too_long, "truncation_destroys_signal", "chat facts + talk sft", 0.6, 0.4, limited=True),
    # Damaged on its way: no cause says so better. What stands in the file is not what was written, so it can't be read.
    _fault(plant.read_as_latin, "unreadable_data", "chat sft talk + hh scored", 1.0, 0.4),
    _fault(plant.replacement_characters, "unreadable_data", "chat sft talk + hh scored", 0.5, 0.25),
    _spoiled(files.lfs_pointer, "chat sft maths"),
    _spoiled(files.web_page, "chat sft maths"),
    _spoiled(files.cut_in_the_middle, "sft maths gec"),
    _spoiled(files.unknown_columns, "chat sft"),
    _spoiled(files.bytes_of_an_image, "chat maths"),
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One set to judge. fault: none for a healthy set. rows: how many, 0 for the usual number. path: of a file that is
    there already, with what it is labelled."""

    fault: str
    base: str
    lang: Lang
    half: Half
    expected: tuple[str, ...] = ()
    rows: int = 0
    path: str = ""

    @property
    def name(self) -> str:
        many = f"-{self.rows}" if self.rows else ""
        return f"{self.fault or 'healthy'}/{self.base}-{self.lang}-{self.half}{many}"

    def write(self, folder: Path) -> dict[str, Any]:
        """Write its file below the folder; returns what a user gives to the diagnosis (`path` is the file)."""
        if self.path:
            return {"path": self.path}
        kind, fault = KINDS[self.base], _NAMED.get(self.fault)
        usual = most_rows(kind, self.half)
        rows = healthy(kind, self.lang, self.half, self.rows or (min(usual, ROWS) if fault else usual))
        if fault is not None and fault.rows is not None:
            rng = Random(self.name)
            share = fault.shares[HALVES.index(self.half)]
            rows = fault.rows(rows, rng, share, material(self.lang, self.half))
        file = files.write(rows, kind.form, folder / self.name)
        given: dict[str, Any] = {"path": str(file)}
        if fault is not None and fault.spoil is not None:
            given["path"] = str(fault.spoil(file))
        if fault is not None and fault.limited:
            given |= {"tokenizer": str(files.tokenizer_folder(folder / "tokenizer")), "max_length": LIMIT}
        return given


_NAMED = {fault.name: fault for fault in FAULTS}
assert len(_NAMED) == len(FAULTS)


def cases(half: Half) -> Iterator[Case]:
    """Every fault in every of its bases and both languages; every kind healthy, in its usual size and small."""
    for fault in FAULTS:
        for base in fault.bases + (fault.others if half == "second" else ()):
            for lang in LANGS:
                yield Case(fault.name, base, lang, half, fault.expected)
    for kind in KINDS.values():
        for lang in LANGS:
            yield Case("", kind.name, lang, half)
            yield Case("", kind.name, lang, half, rows=kind.sizes[1])


def labelled(folder: Path) -> Iterator[Case]:
    """Files of pairs whose label in INDEX.json is sure."""
    for entry in json.loads((folder / "INDEX.json").read_text(encoding="utf-8")):
        if entry["kind"] in ("preference", "kto") and entry["label_confidence"] in ("high", "medium"):
            expected = () if entry["label"] == "healthy" else (entry["label"],)
            fault = "" if entry["label"] == "healthy" else "labelled"
            yield Case(fault, entry["file"], "en", "first", expected, path=str(folder / entry["file"]))


@dataclass(frozen=True)
class Result:
    """What the diagnosis said of one case. causes: (id, confidence), most probable first."""

    name: str
    fault: str
    base: str
    lang: str
    expected: tuple[str, ...]
    path: str
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
    about = (case.name, case.fault, case.base, case.lang, case.expected, path)
    started = time.perf_counter()
    try:
        said = diagnose_pairs(path, **given)
    except Refused as refused:
        return Result(*about, crash=f"Refused: {refused}"[:200], options=given)
    except Exception as crash:  # the benchmark goes on; the table shows it
        return Result(*about, crash=f"{type(crash).__name__}: {crash}".splitlines()[0][:200], options=given)
    report = getattr(said, "report", said)
    return Result(
        *about, report.verdict, tuple((c.id, round(c.confidence, 3)) for c in report.causes),
        tuple(f"{f.severity} {f.signal}: {f.message}" for f in report.findings if f.severity in ("warning", "error")),
        tuple(f"{s.code}/{s.reason_id}" for s in report.skipped), round(time.perf_counter() - started, 2), "", given,
    )  # fmt: skip


def run(wanted: Sequence[Case], folder: Path, jobs: int) -> list[Result]:
    """All results, in the order of the cases; progress on standard error."""
    files.tokenizer_folder(folder / "tokenizer")  # once, before the processes start
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
    """Of the causes reported at some confidence, how many are right: all reported ones, and the first ones alone."""
    lines = ["confidence    all reported: right / said   mean said     first ones: right / said"]
    for low, high in zip(BINS, BINS[1:], strict=False):
        said = [(c in r.expected, p, i == 0) for r in results for i, (c, p) in enumerate(r.causes) if low <= p < high]
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
    parser.add_argument("--only", metavar="NAME", help="cases whose name contains this, as in fault/base-language-half")
    parser.add_argument("--also", metavar="DIR", help="judge the files labelled in DIR/INDEX.json too")
    parser.add_argument("--keep", metavar="DIR", help="leave the files there; default: a temporary folder")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="cases at once")
    parser.add_argument("--json", metavar="FILE", help="write every result there")
    parser.add_argument("--failures", metavar="FILE", help="write the cases judged wrongly there, in Markdown")
    parser.add_argument("--write-only", action="store_true", help="write the files (with --keep) and judge nothing")
    options = parser.parse_args()
    halves = HALVES if options.material == "both" else (options.material,)
    wanted = [case for half in halves for case in cases(half) if options.only is None or options.only in case.name]
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
