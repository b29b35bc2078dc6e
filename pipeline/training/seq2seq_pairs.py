"""Rows for an encoder-decoder as token ids, cut and padded: the prompt for the encoder, the answers for the decoder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.pair_tokens import Ids, Layout, tokenise_pairs
from pipeline.pairs.pair import Pair
from pipeline.pairs.turns import as_side
from pipeline.refusal import Refused

if TYPE_CHECKING:
    import torch
    from datasets import Dataset

IGNORED = -100  # label of a place that counts for nothing
PROMPT, CHOSEN, REJECTED = "prompt_ids", "chosen_ids", "rejected_ids"
REFERENCE = ("ref_chosen_logps", "ref_rejected_logps")
_CUT = "cut_parts"
_ROWS_AT_ONCE = 1000


def cut_prompt(ids: Ids, room: int | None, end: int | None) -> Ids:
    """At most `room` ids from the start. An end token that stood behind it stays, as in the tokenizer's own cut."""
    if room is None or len(ids) <= room:
        return ids
    return (*ids[: room - 1], end) if end is not None and ids[-1] == end else ids[:room]


def cut_answer(ids: Ids, room: int | None) -> Ids:
    """At most `room` ids from the start, without an end: an answer that goes on must not teach to stop there."""
    return ids if room is None else ids[:room]


def tokenised_rows(
    rows: Dataset, tokenizer: Any, *, answers: Mapping[str, str], prompt_room: int | None, answer_room: int | None,
    processes: int | None = None, what: str = "rows",
) -> tuple[Dataset, Counter[str]]:  # fmt: skip
    """(columns `prompt_ids` and one for each of `answers`, {column of ids: column of text}, with the reference's
    log-probabilities where the rows have them; counts). Raises Refused for rows without these columns.

    counts: rows by what was cut or is empty (`prompt_cut`, `chosen_cut`, `chosen_empty`, ...) and `left_out`, rows that
    can't be tokenised. An empty answer is its end token. Rows that have ids already are only cut and counted.
    """
    ids_of = {PROMPT: "prompt", **answers}
    kept = [name for name in REFERENCE if name in rows.column_names]
    if not set(ids_of) <= set(rows.column_names):
        absent = [name for name in ids_of.values() if name not in rows.column_names]
        if absent:
            raise Refused("seq2seq_columns", names=", ".join(absent), found=", ".join(rows.column_names))
    rooms = {column: prompt_room if column == PROMPT else answer_room for column in ids_of}

    def made(batch: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        out: dict[str, list[Any]] = {column: [] for column in (*ids_of, *kept, _CUT)}
        for place, ids in enumerate(_ids(batch, ids_of, tokenizer)):
            if ids is None:
                continue
            cut = {
                column: cut_prompt(one, rooms[column], tokenizer.eos_token_id)
                if column == PROMPT
                else cut_answer(one, rooms[column])
                for column, one in ids.items()
            }
            for column, one in cut.items():
                out[column].append(list(one))
            for column in kept:
                out[column].append(batch[column][place])
            out[_CUT].append(sum(1 << n for n, column in enumerate(ids_of) if len(cut[column]) < len(ids[column])))
        return out

    found = rows.map(
        made, batched=True, batch_size=_ROWS_AT_ONCE, remove_columns=rows.column_names, num_proc=processes,
        desc=f"Tokenising {what}",
    )  # fmt: skip
    counts = _counts(found, ids_of, tokenizer)
    if left_out := len(rows) - len(found):
        counts["left_out"] = left_out
    return found.remove_columns(_CUT), counts


def _ids(
    batch: Mapping[str, Sequence[Any]], ids_of: Mapping[str, str], tokenizer: Any
) -> list[dict[str, Ids] | None]:  # fmt: skip
    """Ids of every row before the cut, None where it can't be tokenised."""
    if set(ids_of) <= set(batch):
        columns = list(ids_of)
        return [
            {column: tuple(one) for column, one in zip(columns, row, strict=True)}
            for row in zip(*(batch[column] for column in columns), strict=True)
        ]
    first, *second = (column for column in ids_of if column != PROMPT)
    found: list[dict[str, Ids] | None] = []
    sides = [batch[ids_of[column]] for column in (first, *second)]
    pairs = [_pair(prompt, *row) for prompt, *row in zip(batch["prompt"], *sides, strict=True)]
    # A prompt of turns goes through the tokenizer's template where it has one, a text as it is
    turns = not isinstance(next((p for p in batch["prompt"] if p is not None), ""), str)
    layout: Layout = "trl-conversational" if turns and getattr(tokenizer, "chat_template", None) else "trl"
    for one in tokenise_pairs(pairs, tokenizer, layout=layout, max_length=None, encoder_decoder=True):
        ids = {PROMPT: one.prompt, first: one.chosen or (), **dict.fromkeys(second, one.rejected or ())}
        end = tokenizer.eos_token_id
        found.append(None if one.problem else {column: _ended_once(part, end) for column, part in ids.items()})
    return found


def _ended_once(ids: Ids, end: int | None) -> Ids:
    """Without a second end token: the text said it already, and the tokenizer once more."""
    while len(ids) > 1 and ids[-2:] == (end, end):
        ids = ids[:-1]
    return ids


def _pair(prompt: Any, chosen: Any, rejected: Any = "") -> Pair:
    turns = [{"role": "user", "content": prompt or ""}] if prompt is None or isinstance(prompt, str) else list(prompt)
    better, worse = (as_side(side) if isinstance(side, list) else (side or "") for side in (chosen, rejected))
    return Pair(turns, better, worse)


def _counts(found: Dataset, ids_of: Mapping[str, str], tokenizer: Any) -> Counter[str]:
    import numpy as np
    import pyarrow.compute as pc

    (nothing,) = _ids({name: [""] for name in ids_of.values()}, ids_of, tokenizer)
    bare = {column: len(ids) for column, ids in (nothing or {}).items()}
    counts: Counter[str] = Counter()
    table = found.with_format("arrow")
    for batch in table.iter(_ROWS_AT_ONCE * 10):
        bits = batch[_CUT].to_numpy()
        for n, (column, name) in enumerate(ids_of.items()):
            counts[f"{name}_cut"] += int(np.count_nonzero(bits >> n & 1))
            lengths = pc.list_value_length(batch[column]).to_numpy()
            counts[f"{name}_empty"] += int(np.count_nonzero(lengths <= bare.get(column, 0)))
    return +counts


@dataclass
class PairCollator:
    """Pads rows of prompt_ids, chosen_ids, rejected_ids on the right.

    input_ids, attention_mask: (pairs, longest prompt), int64. labels: (2 * pairs, longest answer), int64, the chosen
    answers first, IGNORED behind each. ref_*_logps: (pairs,), float32, where the rows have them.
    """

    pad_id: int
    pad_to_multiple_of: int | None = None

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        import torch

        prompts = [row[PROMPT] for row in rows]
        answers = [row[column] for column in (CHOSEN, REJECTED) for row in rows]
        batch = {
            "input_ids": self._padded(prompts, self.pad_id),
            "attention_mask": self._padded([[1] * len(ids) for ids in prompts], 0),
            "labels": self._padded(answers, IGNORED),
        }
        for column in REFERENCE:
            if column in rows[0]:
                batch[column] = torch.tensor([float(row[column]) for row in rows], dtype=torch.float32)
        return batch

    def _padded(self, rows: Sequence[Sequence[int]], filling: int) -> torch.Tensor:
        import torch

        width = max(1, *(len(ids) for ids in rows)) if rows else 1
        if self.pad_to_multiple_of:
            width = -(-width // self.pad_to_multiple_of) * self.pad_to_multiple_of
        return torch.tensor([[*ids, *[filling] * (width - len(ids))] for ids in rows], dtype=torch.int64)
