"""What a trainer will really see of the first rows: pieces of text, each prompt, trained or cut away.

Rows become ids by pipeline.pair_tokens, which makes and cuts them as TRL does, and the project's own trainers use it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.checkpoint import Checkpoint
from pipeline.pair_tokens import Ids, Layout, TokenisedPair, tokenise_pairs
from pipeline.pairs.pair import Message, Pair, Side
from pipeline.pairs.turns import as_side

MAX_ROWS = 4
MAX_TOKENS = 240  # shown of one side; what stands between the ends of a longer prompt is counted
MAX_LINE_BYTES = 20_000_000  # of one row
_ENDS = 24  # tokens of a long part that are shown at its beginning, and four times as many at its end
_HELD = 12  # ids that may be one character
# Of transformers' table of tokenizers: types whose generic class is believed, and types with a class of their own
GENERIC_TYPES = ("llama", "t5", "mt5", "gpt2", "gemma2", "qwen3")
OWN_CLASSES = {
    "qwen2": "Qwen2Tokenizer", "qwen3": "Qwen2Tokenizer", "t5": "T5Tokenizer", "mt5": "T5Tokenizer",
    "gemma2": "GemmaTokenizer", "gpt2": "GPT2Tokenizer",
}  # fmt: skip
Pieces = list[dict[str, Any]]


@dataclass(frozen=True)
class SampledRows:
    """Rows of a file, evenly spread over it. total: of the file, None where it was not read to its end. unreadable: of
    the lines looked at, with the number of the first. columns: of the first row."""

    pairs: tuple[Pair, ...] = ()
    labels: tuple[bool | None, ...] = ()
    total: int = 0
    unreadable: int = 0
    columns: tuple[str, ...] = ()
    conversational: bool = False


def sample_rows(path: Path, method: str, most: int) -> SampledRows:
    """Up to `most` rows as the trainer reads them. Memory holds those. Raises OSError."""
    pairs: list[Pair] = []
    labels: list[bool | None] = []
    columns: tuple[str, ...] = ()
    unreadable = 0
    with path.open("rb") as file:
        total = _lines(file)
        for line, text in _spread(file, total, most):
            row = _row(text)
            pair = _pair(row, method) if row is not None else None
            if row is None or pair is None:
                unreadable += 1
                continue
            columns = columns or tuple(str(name)[:80] for name in islice(row, 40))
            pair.line = line
            pairs.append(pair)
            label = row.get("label")
            labels.append(label if isinstance(label, bool) else None)
    turns = bool(pairs) and pairs[0].origin == "turns"
    return SampledRows(tuple(pairs), tuple(labels), total, unreadable, columns, turns)


def _lines(file: BinaryIO) -> int:
    count, last = 0, b"\n"
    while block := file.read(1 << 20):
        count += block.count(b"\n")
        last = block[-1:]
    return count + (last != b"\n")


def _spread(file: BinaryIO, total: int, most: int) -> Iterator[tuple[int, bytes]]:
    """(number from 1, line); of more lines than `most` every so-many-th."""
    file.seek(0)
    step = max(1, -(-total // most))
    for number in range(total):
        line = file.readline(MAX_LINE_BYTES)
        if number % step == 0:
            yield number + 1, line


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _pair(row: Mapping[str, Any], method: str) -> Pair | None:
    """The row of pipeline.training.row_columns again as a pair; None where it lacks the method's columns."""
    prompt = row.get("prompt")
    turns = _turns(prompt)
    if turns is None:
        return None
    chosen, rejected = row.get("chosen"), row.get("rejected")
    if method in ("sft", "kto"):
        chosen, rejected = row.get("completion"), None
        if method == "kto" and row.get("label") is False:
            chosen, rejected = None, chosen
    elif method in ("grpo", "rloo"):
        chosen, rejected = "", None
    sides = [_side(side) for side in (chosen, rejected)]
    if sides == [None, None] or (method not in ("sft", "kto", "grpo", "rloo") and None in sides):
        return None
    system = None
    if turns and turns[0]["role"] == "system":
        system, turns = str(turns[0]["content"]), turns[1:]
    return Pair(turns, sides[0], sides[1], system=system, origin="text" if isinstance(prompt, str) else "turns")


def _turns(prompt: Any) -> list[Message] | None:
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    if not isinstance(prompt, list) or not all(
        isinstance(t, dict) and isinstance(t.get("content"), str) for t in prompt
    ):
        return None
    return [{**turn, "role": str(turn.get("role"))} for turn in prompt]


def _side(value: Any) -> Side | None:
    if isinstance(value, str):
        return value
    turns = _turns(value) if isinstance(value, list) else None
    return as_side(turns) if turns else None


def light_tokenizer(checkpoint: Checkpoint) -> tuple[Any, str]:
    """The tokenizer and "", or None and why it can't be had. Without torch where it is known which class AutoTokenizer
    would take: AutoTokenizer itself imports torch, which takes longer than all the rest."""
    from pipeline.load_model import load_tokenizer

    store, name = checkpoint.tokenizer.store, _light_class(checkpoint)
    path = store.local_path("tokenizer.json") if store is not None and name else None
    if path is not None:
        import transformers

        try:
            return getattr(transformers, name).from_pretrained(path.parent, local_files_only=True), ""
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # a Rust panic of tokenizers is no Exception; the long way says what is wrong
            return load_tokenizer(checkpoint)
    return load_tokenizer(checkpoint)


def _light_class(checkpoint: Checkpoint) -> str:
    """Name of the class, empty where AutoTokenizer has to be asked."""
    files = checkpoint.tokenizer
    kind = str(checkpoint.config.get("model_type"))
    named = str(files.config.get("tokenizer_class")).removesuffix("Fast")
    if "tokenizer.json" not in files.names or files.config.get("auto_map") is not None:
        return ""
    if named in ("TokenizersBackend", "PreTrainedTokenizer") and kind in GENERIC_TYPES:
        return "PreTrainedTokenizerFast"
    return named if OWN_CLASSES.get(kind) == named else ""


def layout_of(rows: SampledRows) -> Layout:
    return "trl-conversational" if rows.conversational else "trl"


def preview(
    rows: SampledRows, tokenizer: Any, method: str, *, max_length: int | None, truncation_mode: str = "keep_start",
    encoder_decoder: bool = False, stops: Collection[int] = (), most: int = MAX_ROWS,
) -> list[dict[str, Any]]:  # fmt: skip
    """Of the first rows, JSON-able: {kind: tokens, line, method, dropped, problem, sides}.

    A side is {name, pieces, tokens, trained, cut, stop}: its tokens before the cut, those that are trained on, those
    cut away, and the end token that is trained last, null where none is. A piece is {text, as, tokens}; `as`: prompt,
    trained, cut, or gap for tokens that are only counted. stops: ids that `generate` stops on; by itself the
    tokenizer's.
    """
    chosen = islice(zip(rows.pairs, rows.labels, strict=True), most)
    found = []
    kept = list(chosen)
    made = tokenise_pairs(
        [pair for pair, _ in kept], tokenizer, layout=layout_of(rows), max_length=max_length,
        truncation_mode=truncation_mode, encoder_decoder=encoder_decoder,
    )  # fmt: skip
    ends = frozenset(stops) or frozenset({tokenizer.eos_token_id} - {None})
    for one, (pair, label) in zip(made, kept, strict=True):
        entry: dict[str, Any] = {
            "kind": "tokens", "line": pair.line, "method": method, "dropped": bool(one.dropped), "problem": one.problem,
            "sides": [] if one.problem else list(_sides(one, tokenizer, method, ends)),
        }  # fmt: skip
        if label is not None:
            entry["label"] = label
        found.append(entry)
    return found


def _sides(one: TokenisedPair, tokenizer: Any, method: str, ends: Collection[int]) -> Iterator[dict[str, Any]]:
    if method in ("grpo", "rloo"):
        yield {"name": "prompt", "pieces": _pieces([(one.prompt, "prompt")], tokenizer), "tokens": len(one.prompt),
               "trained": 0, "cut": 0, "stop": None}  # fmt: skip
        return
    for name, ids in (("chosen", one.chosen), ("rejected", one.rejected)):
        if ids is None:
            continue
        shown = "completion" if method in ("sft", "kto") else name
        prompt, answer = one.kept(name)  # type: ignore[arg-type]
        runs: list[tuple[Ids, str]]
        if one.truncation_mode == "keep_end" and not one.dropped:
            cut_prompt, cut_answer = len(one.prompt) - len(prompt), len(ids) - len(answer)
            runs = [
                (one.prompt[:cut_prompt], "cut"),
                (prompt, "prompt"),
                (ids[:cut_answer], "cut"),
                (answer, "trained"),
            ]
        else:
            runs = [
                (prompt, "prompt"),
                (one.prompt[len(prompt) :], "cut"),
                (answer, "trained"),
                (ids[len(answer) :], "cut"),
            ]
        last = next((i for i in reversed(answer) if str(tokenizer.decode([i])).strip()), None)
        yield {
            "name": shown, "pieces": _pieces(runs, tokenizer), "tokens": len(one.prompt) + len(ids),
            "trained": len(answer), "cut": len(one.prompt) + len(ids) - len(prompt) - len(answer),
            "stop": str(tokenizer.decode([last])) if last is not None and last in ends else None,
        }  # fmt: skip


def _pieces(runs: Sequence[tuple[Ids, str]], tokenizer: Any) -> Pieces:
    found: Pieces = []
    for ids, kind in runs:
        if len(ids) <= MAX_TOKENS:
            found += _texts(ids, kind, tokenizer)
            continue
        tail = MAX_TOKENS - _ENDS
        found += _texts(ids[:_ENDS], kind, tokenizer)
        found.append({"text": "", "as": "gap", "tokens": len(ids) - _ENDS - tail})
        found += _texts(ids[-tail:], kind, tokenizer)
    return found


def _texts(ids: Iterable[int], kind: str, tokenizer: Any) -> Iterator[dict[str, Any]]:
    """A token each; several where only together they are a character. Each is decoded behind the one before it, as many
    tokenizers drop the space at the beginning of what they decode."""
    held: list[int] = []
    before: list[int] = []
    for one in ids:
        held.append(one)
        text = str(tokenizer.decode(held))
        if text.endswith("\ufffd") and len(held) < _HELD:
            continue
        yield {"text": _behind(before, held, text, tokenizer), "as": kind, "tokens": len(held)}
        before, held = held, []
    if held:
        yield {"text": str(tokenizer.decode(held)), "as": kind, "tokens": len(held)}


def _behind(before: list[int], ids: list[int], alone: str, tokenizer: Any) -> str:
    if not before:
        return alone
    first, both = str(tokenizer.decode(before)), str(tokenizer.decode(before + ids))
    return both[len(first) :] if both.startswith(first) else alone
