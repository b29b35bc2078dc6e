"""From sources in whatever format to one file in the format asked for, with an account of every row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.pairs.all_formats import format_named
from pipeline.pairs.dataset_info import DatasetInfo, entries_for, llamafactory_layout
from pipeline.pairs.mix_pairs import Mix, Source, Taken
from pipeline.pairs.open_source import refusing, rows_of
from pipeline.pairs.pair import Pair
from pipeline.pairs.read_pairs import LeftOut, PairSource
from pipeline.pairs.write_pairs import WriteReport, write_pairs
from pipeline.refusal import Refused, Sentence

_LISTED = 10  # rows named for each reason in text
_TICK = 256  # rows between two questions whether progress is to be shown


@dataclass(frozen=True)
class Given:
    """One thing to read. open: its pairs from the beginning, at each call. path: of the file, None for the Hub."""

    name: str
    open: Callable[[], PairSource]
    path: Path | None = None
    weight: float | None = None


@dataclass(frozen=True)
class NewEntry:
    """What LLaMA-Factory's list is to be told of the file written. replace: an entry of that name that differs."""

    info: DatasetInfo
    name: str
    replace: bool = False


@dataclass
class Conversion:
    """What was read and what became of it. to: the format written. read: each source as it was read first. taken: of a
    mix, in the same order. entries: names added to a dataset_info.json. instead_of: the format asked for, where another
    one was written for LLaMA-Factory."""

    output: Path
    to: str
    read: list[PairSource]
    report: WriteReport
    taken: list[Taken] | None = None
    info: Path | None = None
    entries: tuple[str, ...] = ()
    instead_of: str = ""


class NothingWritten(Exception):
    """Not one row could be written: (the Conversion,)."""


def convert(
    given: Sequence[Given],
    output: Path,
    to: str,
    *,
    seed: int = 0,
    strategy: str = "first_exhausted",
    entry: NewEntry | None = None,
    progress: Callable[[int], None] = lambda rows: None,
) -> Conversion:
    """Reads all of `given`, one after the other or, where they have weights, mixed by them, and writes the file, with
    an entry in the layout that LLaMA-Factory reads.

    progress: called with the number of rows read, now and then. Raises Refused for what can't be read or done,
    NothingWritten, UnknownFormat, UnknownSuffix, OSError; what was at `output` and in the dataset_info.json then stays
    as it was.
    """
    asked, to = to, llamafactory_layout(to) if entry is not None else to
    read = [_opened(one) for one in given]
    format = format_named(to)
    for source in read:
        with refusing(source):
            if source.kind == "supervised" and format.kind == "pairs":
                raise Refused("sides_missing", path=source.name, format=_format_name(source), to=to)
    done = Conversion(output, to, read, WriteReport(), instead_of=asked if asked != to else "")
    watch = _Watch(progress)
    firsts: dict[int, PairSource | None] = dict(enumerate(read))

    def opened(number: int) -> Iterator[Pair]:
        # a mix may begin a source anew; the account is of its first reading
        return watch.rows(firsts.pop(number, None) or _opened(given[number]))

    pairs: Iterable[Pair]
    mixed = None
    if any(one.weight is not None for one in given):
        pairs = mixed = Mix(
            [
                Source(one.name, lambda n=n: opened(n), 1.0 if one.weight is None else one.weight)  # type: ignore[misc]
                for n, one in enumerate(given)
            ],
            seed=seed,
            strategy=strategy,
        )
    else:
        pairs = (pair for n in range(len(given)) for pair in opened(n))

    new: list[DatasetInfo] = []

    def before_replacing(report: WriteReport) -> None:
        done.report, done.taken = report, mixed.taken if mixed is not None else None
        if not report.rows:
            raise NothingWritten(done)
        _lose_nothing(done, given)
        if entry is not None:
            added = entries_for(entry.name, output, to, report.columns, beside=entry.info.path)
            new.append(entry.info.with_entries(added, replace=entry.replace))
            done.info, done.entries = entry.info.path, tuple(added)

    done.report = write_pairs(pairs, output, to, before_replacing=before_replacing)
    for info in new:
        try:
            info.write()
        except OSError as failed:
            raise Refused("info_failed", output=output, path=info.path, why=failed.strerror or failed) from None
    return done


def _opened(given: Given) -> PairSource:
    source = given.open()
    source.name = given.name
    return source


class _Watch:
    """Counts rows, and ends the reading where a choice that only the user can make was not made."""

    def __init__(self, progress: Callable[[int], None]) -> None:
        self._progress, self._rows = progress, 0

    def rows(self, source: PairSource) -> Iterator[Pair]:
        for pair in rows_of(source):
            self._rows += 1
            if self._rows % _TICK == 0:
                self._progress(self._rows)
            yield pair


def _lose_nothing(done: Conversion, given: Sequence[Given]) -> None:
    """Raises Refused where the file written takes the place of one read and doesn't hold all of it."""
    for one in given:
        if one.path is None or not _same(one.path, done.output):
            continue
        report = done.report
        lost = report.left_out.total() + report.dropped.total() + report.replaced + len(report.as_text)
        lost += sum(source.reasons.total() for source in done.read)
        if done.taken is not None:  # a mix may end before a file does
            lost += 1
        if lost:
            raise Refused("output_loses_input", path=done.output, rows=lost)


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _format_name(source: PairSource) -> str:
    if source.formats:
        return source.formats.most_common(1)[0][0]
    return source.format.name if source.format is not None else ""


# --- the account ---


def as_json(done: Conversion, lang: str) -> dict[str, Any]:
    """One document that says everything, texts in `lang`."""
    report = done.report
    return {
        "schema": 1,
        "output": {
            "path": str(done.output), "format": done.to, "rows": report.rows, "columns": list(report.columns),
        },
        "sources": [_source_json(done, number, lang) for number in range(len(done.read))],
        "left_out": [
            {
                "reason": reason, "rows": rows, "why": _word(f"holds_{reason}", lang),
                "where": [
                    {"source": origin, "line": line}
                    for origin, line in zip(report.origins[reason], report.lines[reason], strict=True)
                ],
            }
            for reason, rows in report.left_out.most_common()
        ],
        "dropped": dict(report.dropped.most_common()),
        "replaced": report.replaced,
        "as_text": report.as_text,
        "in_turns": report.in_turns,
        "put_first": report.put_first,
        "dataset_info": {"path": str(done.info), "entries": list(done.entries)} if done.info is not None else None,
    }  # fmt: skip


def _source_json(done: Conversion, number: int, lang: str) -> dict[str, Any]:
    source, taken = done.read[number], done.taken[number] if done.taken is not None else None
    seen = source.recognised
    return {
        "name": source.name,
        "rows": source.formats.total(),
        "kind": source.kind,
        "format": _format_name(source),
        "reason": _reason(source).said(lang),
        "recognised": None if seen is None else {
            "agreed": seen.agreed, "looked_at": seen.looked_at, "columns": dict(seen.columns),
        },
        "formats": dict(source.formats.most_common()),
        "left_out": [
            {
                "reason": reason, "rows": rows, "why": _word(f"row_{reason}", lang),
                "where": [{"line": one.line, "detail": one.detail} for one in _of_reason(source, reason)],
            }
            for reason, rows in source.reasons.most_common()
        ],
        "absent_columns": sorted(source.absent),
        "taken": None if taken is None else {"rows": taken.rows, "begun_anew": taken.again},
    }  # fmt: skip


def as_text(done: Conversion, lang: str) -> str:
    """The same for people, a line for each thing."""
    report, lines = done.report, list[str]()
    for number, source in enumerate(done.read):
        lines.append(_read_line(source, lang))
        for reason, rows in source.reasons.most_common():
            where = [_place(one, lang, first=n == 0) for n, one in enumerate(_of_reason(source, reason))]
            why = _word(f"row_{reason}", lang)
            lines.append(_word("convert_left_out", lang, rows=f"{rows:,}", why=why, where=_listed(where, rows, lang)))
        lines += [_word("convert_absent_column", lang, name=name) for name in sorted(source.absent)]
        if done.taken is not None:
            taken = done.taken[number]
            again = _word("convert_again", lang, times=f"{taken.again:,}") if taken.again else ""
            lines.append(_word("convert_taken", lang, rows=f"{taken.rows:,}", again=again))
    lines.append(_word("convert_written", lang, path=done.output, rows=f"{report.rows:,}", format=done.to))
    if done.instead_of:
        lines.append(_word("convert_instead", lang, format=done.instead_of))
    for reason, rows in report.left_out.most_common():
        several = len(done.read) > 1
        where = [
            (f"{origin} " if several else "") + _word("convert_line", lang, line=line)
            for origin, line in zip(report.origins[reason], report.lines[reason], strict=True)
        ]
        why = _word(f"holds_{reason}", lang)
        lines.append(_word("convert_cannot_hold", lang, rows=f"{rows:,}", why=why, where=_listed(where, rows, lang)))
    lines += [
        _word("convert_dropped", lang, rows=f"{rows:,}", name=name) for name, rows in report.dropped.most_common()
    ]
    if 0 < report.in_turns < report.rows:
        lines.append(_word("convert_in_turns", lang, rows=f"{report.in_turns:,}"))
    if report.as_text:
        lines.append(_word("convert_as_text", lang, names=", ".join(report.as_text)))
    if report.put_first:
        lines.append(_word("convert_put_first", lang, rows=f"{report.put_first:,}"))
    if report.replaced:
        lines.append(_word("convert_replaced", lang, rows=f"{report.replaced:,}"))
    if done.info is not None:
        lines.append(_word("convert_entry", lang, path=done.info, names=", ".join(done.entries)))
    return "\n".join(lines) + "\n"


def _read_line(source: PairSource, lang: str) -> str:
    rows, reason = f"{source.formats.total():,}", _reason(source).said(lang)
    if len(source.formats) < 2:
        return _word("convert_read", lang, name=source.name, rows=rows, format=_format_name(source), reason=reason)
    formats = ", ".join(
        _word("convert_as_format", lang, rows=f"{count:,}", format=format)
        for format, count in source.formats.most_common()
    )
    return _word("convert_read_mixed", lang, name=source.name, rows=rows, formats=formats, reason=reason)


def _reason(source: PairSource) -> Sentence:
    if source.recognised is not None:
        return source.recognised.reason
    given = source.format.name if source.format is not None else ""
    as_given = given in source.formats or not source.formats
    return Sentence("is_given" if as_given else "is_not_given", {"format": given}, "formats")


def _of_reason(source: PairSource, reason: str) -> list[LeftOut]:
    return [one for one in source.left_out if one.reason == reason]


def _place(one: LeftOut, lang: str, *, first: bool) -> str:
    if one.detail and first:
        return _word("convert_line_detail", lang, line=one.line, detail=one.detail[:80])
    return _word("convert_line", lang, line=one.line)


def _listed(places: Sequence[str], rows: int, lang: str) -> str:
    shown = places[:_LISTED]
    more = [_word("convert_more", lang)] if rows > len(shown) else []
    return "; ".join([*shown, *more])


def _word(entry: str, lang: str, **params: Any) -> str:
    return Sentence(entry, params, "formats").said(lang)
