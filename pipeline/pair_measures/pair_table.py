"""All rows of a set of pairs as arrays, measured in one pass: what checks judge and plots show.

About 700 bytes a row stay in memory, whatever the length of the texts, beside a few blocks of rows.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xxhash

from pipeline.pair_measures.near_duplicates import Signatures
from pipeline.pair_measures.shared_words import SharedWords, StockPhrases
from pipeline.pair_measures.text_block import MAX_CHARS, TextBlock, jaccard
from pipeline.pair_measures.topic_overlap import TopicOverlap
from pipeline.pair_measures.written_signs import (
    LEAST_DIGITS,
    end_marker,
    ends_finished,
    hints_in,
    misread,
    personal_data,
    refuses,
    template_marker,
    written_in_sentences,
)
from pipeline.pairs.pair import Message, Pair, Side, content_text, text_of
from pipeline.record_files import Unreadable
from pipeline.same_beginning import same_beginning

BLOCK = 500  # rows, fewer where they are long
_BLOCK_CHARS = 1_000_000  # of a block that are counted: their n-grams take 120 bytes each
_BLOCK_HELD = 16_000_000  # of a block in all: one row may hold more
SAMPLE = 512  # pairs kept whole, spread over the file: examples, and texts that name what was counted
EXAMPLES = 5
SIDES = ("prompt", "chosen", "rejected")
ANSWERS = ("chosen", "rejected")
FEATURES = ("chinese", "digits", "lines", "markdown", "finished", "repeated", "refuses")
"""What is measured of an answer beside its length: shares of characters, counts, and 0 or 1."""
_LEAST_PROMPT = 8  # characters of a prompt that an answer may be said to repeat
LEAST_SENTENCES = 24  # characters of an answer whose end is looked at; labels and titles end as they like
_CUT = 2000  # characters of a text kept in the sample
_AT_ONCE = 1_000_000  # characters of a text that are copied, or taken apart into words, at once
_EXCERPT = 120
_SIGNS = 256  # different marks that are counted
_MARKDOWN = ("**", "```", "\n- ", "\n* ", "\n# ", "\n## ", "\n### ", "\n1. ")


@dataclass(frozen=True)
class Sampled:
    """A row kept with its texts, each cut at 2,000 characters."""

    position: int
    prompt: str
    chosen: str
    rejected: str


@dataclass
class PairTable:
    """(n,) arrays over the rows in reading order.

    line: in the file. there, chars, hashes: by side; whether it is there, characters without white space at its edges
    (0 where none can be seen), hash of the text without case and runs of white space. similarity: Jaccard of the
    answers' 4-grams. rejected_fit, prompt_fit: as Fits has them. stock: by answer, as StockPhrases has it. features:
    FEATURES by answer. flags: what was found in a row, by name. examples: for a flag, a few (position, excerpt). signs:
    for a flag, how often each mark was found, as it is written; a few hundred different ones at most. duplicate_of: the
    first row of a group of near-duplicates, None where the search for them was stopped. words: what tells the sides
    apart. stopped: reading ended before the end of the data, as asked; interrupted: by Ctrl-C, perhaps only during the
    search for near-duplicates. failure: why no more could be read.
    """

    rows: int = 0
    line: Any = None
    there: dict[str, Any] = field(default_factory=dict)
    chars: dict[str, Any] = field(default_factory=dict)
    hashes: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)
    turns: Any = None
    similarity: Any = None
    rejected_fit: Any = None
    prompt_fit: dict[str, Any] = field(default_factory=dict)
    stock: dict[str, Any] = field(default_factory=dict)
    features: dict[str, dict[str, Any]] = field(default_factory=dict)
    flags: dict[str, Any] = field(default_factory=dict)
    examples: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    signs: dict[str, Counter[str]] = field(default_factory=dict)
    duplicate_of: Any = None
    words: SharedWords = field(default_factory=SharedWords)
    sample: list[Sampled] = field(default_factory=list)
    stopped: bool = False
    interrupted: bool = False
    failure: Unreadable | OSError | None = None

    @property
    def paired(self) -> Any:
        """(n,) whether both sides are there."""
        return self.there["chosen"] & self.there["rejected"]

    def commonest_sign(self, flag: str) -> str:
        """The mark that was found most often; empty for none."""
        counts = self.signs.get(flag)
        return min(counts, key=lambda sign: (-counts[sign], sign)) if counts else ""

    def flagged(self, *names: str) -> Any:
        """(n,) whether one of these was found."""
        found = np.zeros(self.rows, bool)
        for name in names:
            if name in self.flags:
                found |= self.flags[name]
        return found


def measure_pairs(
    pairs: Iterable[Pair],
    *,
    least_similar: tuple[float, float, float],
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
    cancel: threading.Event | None = None,
) -> PairTable:
    """One pass over `pairs`. least_similar: of answers and of prompts, from which rows are near-duplicates, and of
    short answers.

    progress: called with the rows measured so far. cancel: when set, what was measured by then is returned, and so it
    is after Ctrl-C and where reading fails after some rows. Raises Unreadable and OSError where it fails before any.
    """
    # Counting n-grams leaves the interpreter's lock free most of the time: the next rows are read meanwhile.
    with ThreadPoolExecutor(1, "pair_measures") as counting:
        made = _Measuring(seed % 2**64, counting)
        table = made.table
        try:
            for block in _blocks(pairs):
                made.add(block)
                if progress is not None:
                    progress(table.rows)
                if cancel is not None and cancel.is_set():
                    table.stopped = True
                    break
        except KeyboardInterrupt:
            table.stopped = table.interrupted = True
        except (Unreadable, OSError) as failed:
            if not table.rows:
                raise
            table.failure = failed
        made.finish()
        if table.rows and not (cancel is not None and cancel.is_set()):
            try:
                table.duplicate_of = made.groups(*least_similar)
            except KeyboardInterrupt:
                table.interrupted = True
        return table


def _blocks(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    """The rows in blocks of BLOCK, or of as many as are not too long together. What fails while reading is raised after
    the rows before it were given out."""
    source = iter(pairs)
    block: list[Pair] = []
    counted = held = 0
    failure: Unreadable | OSError | None = None
    while True:
        try:
            pair = next(source, None)
        except (Unreadable, OSError) as failed:
            pair, failure = None, failed
        if pair is None:
            break
        block.append(pair)
        sizes = [_size_of(pair.prompt), _size_of(pair.chosen), _size_of(pair.rejected)]
        counted += sum(min(size, MAX_CHARS) for size in sizes)
        held += sum(sizes)
        if len(block) >= BLOCK or counted >= _BLOCK_CHARS or held >= _BLOCK_HELD:
            yield block
            block, counted, held = [], 0, 0
    if block:
        yield block
    if failure is not None:
        raise failure


def _size_of(side: Side | Sequence[Message] | None) -> int:
    """Characters, near enough."""
    if side is None or isinstance(side, str):
        return len(side or "")
    return sum(len(content_text(turn.get("content"))) for turn in side)


class _Measuring:
    def __init__(self, seed: int, counting: ThreadPoolExecutor) -> None:
        self.table = PairTable()
        self._counting = counting
        self._counted: deque[Future[None]] = deque()
        self._columns: dict[str, list[Any]] = {}
        self._flags: dict[str, list[np.ndarray]] = {}
        self._signatures = Signatures()
        self._topic = TopicOverlap(seed)
        self._stock = StockPhrases()
        self._rng = np.random.default_rng(seed)
        self._digits: dict[str, np.ndarray] = {}  # of the block's texts, by side

    def add(self, block: list[Pair]) -> None:
        raw = {
            "prompt": [_prompt_text(pair) for pair in block],
            "chosen": [text_of(pair.chosen) for pair in block],
            "rejected": [text_of(pair.rejected) for pair in block],
        }
        plain = {side: [_plain(text) for text in texts] for side, texts in raw.items()}
        there = {
            "prompt": np.ones(len(block), bool),
            "chosen": np.array([pair.chosen is not None for pair in block]),
            "rejected": np.array([pair.rejected is not None for pair in block]),
        }
        blocks = {side: TextBlock(texts) for side, texts in plain.items()}
        ids = np.array([_hash(text) for text in plain["prompt"]], np.uint64)
        self._count(blocks, there, ids)
        for side in SIDES:
            self._put(f"there.{side}", there[side])
            sizes = [len(text.strip()) if seen else 0 for text, seen in zip(raw[side], plain[side], strict=True)]
            self._put(f"chars.{side}", np.array(sizes, np.int32))
            hashes = ids if side == "prompt" else np.array([_hash(text) for text in plain[side]], np.uint64)
            self._put(f"hashes.{side}", hashes)
        self._put("line", np.array([pair.line for pair in block], np.int64))
        self._put("turns", np.array([len(pair.prompt) for pair in block], np.int32))
        for side in ANSWERS:
            found = [getattr(pair, f"score_{side}") for pair in block]
            self._put(f"scores.{side}", np.array([np.nan if v is None else v for v in found], np.float64))
        self._features(raw, blocks)
        last = [_plain(text_of(pair.prompt[-1:])) if len(pair.prompt) > 1 or pair.system else "" for pair in block]
        self._look(raw, plain, last, there)
        self._sample(raw)
        self.table.rows += len(block)

    def finish(self) -> None:
        """Puts the blocks together. What an interruption left half done is dropped."""
        table = self.table
        while self._counted:
            self._counted.popleft().result()
        if not table.rows:
            return
        for name, parts in self._columns.items():
            whole = np.concatenate(parts)[: table.rows]
            owner, _, key = name.partition(".")
            if owner == "features":
                feature, _, side = key.partition(".")
                table.features.setdefault(feature, {})[side] = whole
            elif key:
                getattr(table, owner)[key] = whole
            else:
                setattr(table, owner, whole)
        table.flags = {name: np.concatenate(parts)[: table.rows] for name, parts in self._flags.items() if parts}
        for name, found in table.examples.items():
            table.examples[name] = [one for one in found if one[0] < table.rows]
        table.sample = sorted((one for one in table.sample if one.position < table.rows), key=lambda one: one.position)

    def groups(self, least_answers: float, least_prompts: float, least_short: float) -> np.ndarray:
        """(n,) as Signatures has them."""
        found = self._signatures.groups(
            least_answers=least_answers, least_prompts=least_prompts, least_short=least_short
        )
        return found[: self.table.rows]

    def _put(self, name: str, values: np.ndarray) -> None:
        self._columns.setdefault(name, []).append(values)

    def _count(self, blocks: dict[str, TextBlock], there: dict[str, np.ndarray], ids: np.ndarray) -> None:
        """Has the block counted, blocks in order. Raises what counting an earlier one raised."""
        while len(self._counted) > 1:  # no more than two blocks wait
            self._counted.popleft().result()
        self._counted.append(self._counting.submit(self._compare, blocks, there, ids))

    def _compare(self, blocks: dict[str, TextBlock], there: dict[str, np.ndarray], ids: np.ndarray) -> None:
        rows = len(blocks["prompt"])
        both = there["chosen"] & there["rejected"]
        similarity = jaccard(blocks["chosen"].fours, blocks["rejected"].fours, rows)
        similarity[~both] = np.nan
        for side in ANSWERS:
            self._put(f"features.repeated.{side}", blocks[side].repeated())
        self._put("similarity", similarity)
        fits = self._topic.add(blocks["prompt"], blocks["chosen"], blocks["rejected"], ids)
        self._put("rejected_fit", fits.rejected)
        self._put("prompt_fit.chosen", fits.chosen_to_prompt)
        self._put("prompt_fit.rejected", fits.rejected_to_prompt)
        for side, share in zip(ANSWERS, self._stock.add(blocks["chosen"], blocks["rejected"]), strict=True):
            self._put(f"stock.{side}", share)
        self._signatures.add(blocks["prompt"], blocks["chosen"], blocks["rejected"])
        # A pair with an empty side tells nothing of words: whatever the other side says stands there alone.
        filled = {side: there[side] & (blocks[side].lengths > 0) for side in ANSWERS}
        chosen, rejected = filled["chosen"], filled["rejected"]
        counted = (chosen & (rejected | ~there["rejected"]), rejected & (chosen | ~there["chosen"]))
        self.table.words.add(blocks["chosen"], blocks["rejected"], counted)

    def _features(self, raw: dict[str, list[str]], blocks: dict[str, TextBlock]) -> None:
        self._digits["prompt"] = blocks["prompt"].count(_table("digits"))
        for side in ANSWERS:
            block, texts = blocks[side], [text[:MAX_CHARS] for text in raw[side]]
            size = np.maximum(block.lengths, 1)
            together = "\n".join(texts)
            marks = [mark for mark in _MARKDOWN if mark in together]
            digits = block.count(_table("digits"))
            self._digits[side] = digits
            found: dict[str, Any] = {
                "chinese": block.count(_table("chinese")) / size,
                "digits": digits / size,
                "lines": [text.count("\n") for text in texts],
                "markdown": [sum(map(text.count, marks)) for text in texts],
                "finished": [ends_finished(text) for text in raw[side]],
                "refuses": [refuses(text) for text in texts],
            }
            for name in found:
                self._put(f"features.{name}.{side}", np.asarray(found[name], np.float32))

    def _look(
        self, raw: dict[str, list[str]], plain: dict[str, list[str]], asked_last: list[str],
        there: dict[str, np.ndarray],
    ) -> None:  # fmt: skip
        """What is found text by text. asked_last: the last turn of each prompt, plain."""
        rows = len(raw["prompt"])
        before = self.table.rows
        flags: dict[str, np.ndarray] = {}

        def mark(name: str, row: int, what: str = "", sign: str = "") -> None:
            if name not in flags:
                flags[name] = np.zeros(rows, bool)
            flags[name][row] = True
            if sign:
                counts = self.table.signs.setdefault(name, Counter())
                if sign in counts or len(counts) < _SIGNS:
                    counts[sign] += 1
            examples = self.table.examples.setdefault(name, [])
            if len(examples) < EXAMPLES:
                examples.append((before + row, what if len(what) <= _EXCERPT else what[:_EXCERPT] + "…"))

        hints = hints_in("\n".join(text[:MAX_CHARS] for side in SIDES for text in plain[side]))
        for row in range(rows):
            asked, last = plain["prompt"][row], asked_last[row]
            if not asked:
                mark("empty_prompt", row)
            for side in ANSWERS:
                text, lowered = raw[side][row], plain[side][row]
                if not there[side][row]:
                    continue
                if not lowered:
                    mark(f"empty_{side}", row)
                    continue
                for repeated in (asked, last):
                    if len(repeated) < _LEAST_PROMPT or repeated not in lowered or repeated == lowered:
                        continue
                    mark(f"{'starts_with' if lowered.startswith(repeated) else 'holds'}_prompt_{side}", row, text)
                    break
                if ended := end_marker(text):
                    mark(f"end_marker_{side}", row, _end_of(text), ended)
                if not ends_finished(text) and len(text) > LEAST_SENTENCES and written_in_sentences(text):
                    mark(f"cut_{side}", row, _end_of(text))
            if (
                there["chosen"][row] and there["rejected"][row]
                and plain["chosen"][row] and plain["chosen"][row] == plain["rejected"][row]
            ):  # fmt: skip
                equal = raw["chosen"][row] == raw["rejected"][row]
                mark("identical" if equal else "identical_but_for_space", row, raw["chosen"][row])
            written_in = 0
            for side in SIDES:
                text, lowered = raw[side][row], plain[side][row]
                written, hard = template_marker(text, lowered, hints, answer=side != "prompt")
                if written:
                    written_in += side != "prompt"
                    mark(f"{'template' if hard else 'speaker'}_{side}", row, _around(text, written), written)
                if not text.isascii():
                    if "\ufffd" in text:
                        mark(f"replaced_{side}", row, _around(text, "\ufffd"))
                    elif stretch := misread(text):
                        mark(f"misread_{side}", row, _around(text, stretch))
                    if _is_half(text):
                        mark(f"half_characters_{side}", row)
                if (self._digits[side][row] >= LEAST_DIGITS or "@" in text) and (
                    kind := personal_data(text, int(self._digits[side][row]))
                ):
                    mark(f"personal_{kind}", row)
            if written_in == 2:
                same = same_beginning(raw["chosen"][row], raw["rejected"][row])
                if same * 2 > min(len(raw["chosen"][row]), len(raw["rejected"][row])):
                    mark("shared_turns", row, raw["chosen"][row][:same])
        self._keep(flags, rows)

    def _keep(self, flags: dict[str, np.ndarray], rows: int) -> None:
        for name, found in flags.items():
            if name not in self._flags:
                self._flags[name] = [np.zeros(self.table.rows, bool)] if self.table.rows else []
            self._flags[name].append(found)
        for name, parts in self._flags.items():
            if name not in flags:
                parts.append(np.zeros(rows, bool))

    def _sample(self, raw: dict[str, list[str]]) -> None:
        """Reservoir sampling (Vitter 1985, algorithm R): every row is as likely to be in the sample."""
        sample, before = self.table.sample, self.table.rows
        for row in range(len(raw["prompt"])):
            place = before + row
            if place >= SAMPLE:
                place = int(self._rng.integers(0, place + 1))
                if place >= SAMPLE:
                    continue
            one = Sampled(before + row, *(raw[side][row][:_CUT] for side in SIDES))
            if place < len(sample):
                sample[place] = one
            else:
                sample.append(one)


def _prompt_text(pair: Pair) -> str:
    """What was asked: all turns, and the system's text before them."""
    asked = text_of(pair.prompt)
    return f"{pair.system}\n{asked}" if pair.system else asked


def _plain(text: str) -> str:
    """Lower case, every run of white space as one space; empty where nothing can be seen (zero-width characters)."""
    if len(text) <= _AT_ONCE:
        plain = " ".join(text.lower().split())
    else:
        parts: list[str] = []
        apart = False
        for at in range(0, len(text), _AT_ONCE):
            part = text[at : at + _AT_ONCE]
            if words := " ".join(part.lower().split()):
                parts += [" ", words] if parts and (apart or part[0].isspace()) else [words]
            apart = not words or part[-1].isspace()
        plain = "".join(parts)
    if plain and not plain[0].isprintable() and not any(c.isprintable() and c != " " for c in plain):
        return ""
    return plain


def _hash(text: str) -> int:
    if len(text) <= _AT_ONCE:
        return xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))
    digest = xxhash.xxh3_64()
    for at in range(0, len(text), _AT_ONCE):
        digest.update(text[at : at + _AT_ONCE].encode("utf-8", "surrogatepass"))
    return digest.intdigest()


def _end_of(text: str) -> str:
    return text if len(text) < _EXCERPT else "…" + text[1 - _EXCERPT :]


def _around(text: str, stretch: str) -> str:
    """The stretch with what stands about it."""
    at = max(0, text.find(stretch))
    before = max(0, at - _EXCERPT // 3)
    return ("…" if before else "") + text[before : before + _EXCERPT - 1]


def _is_half(text: str) -> bool:
    """Whether a lone surrogate stands in the text."""
    try:
        for at in range(0, len(text), _AT_ONCE):
            text[at : at + _AT_ONCE].encode()
    except UnicodeEncodeError:
        return True
    return False


_TABLES: dict[str, np.ndarray] = {}


def _table(name: str) -> np.ndarray:
    """Which code points are of a kind, for TextBlock.count."""
    if not _TABLES:
        chinese, digits = np.zeros(0x20001, bool), np.zeros(0x20001, bool)
        chinese[0x3400:0x9FFF] = chinese[0xF900:0xFAFF] = True
        digits[0x30:0x3A] = True
        _TABLES.update(chinese=chinese, digits=digits)
    return _TABLES[name]


def positions(found: np.ndarray) -> Iterator[int]:
    """Row numbers where a boolean array is true."""
    yield from np.flatnonzero(found).tolist()
