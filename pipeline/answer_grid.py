"""One checkpoint asked the same prompts under every strategy, alone and in a batch: what the samples checks look at."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipeline.config_files import load_config
from pipeline.own_segmentation import own_pieces
from pipeline.repetition import repeated_share
from pipeline.sample_answers import (
    Answer,
    Asked,
    Budget,
    GenerationFailed,
    OwnSettings,
    Strategy,
    answer_all,
    budget_for,
    own_settings,
    stop_ids,
    strategies,
)

if TYPE_CHECKING:
    from pipeline.load_model import LoadedModel


AS_USED = "greedy_declared_format"


@dataclass(frozen=True)
class BatchComparison:
    """First greedy tokens of the same prompts one by one, in a batch padded as the architecture needs, and in one
    padded as the tokenizer does by default. exact: compared in float32, where drift is no excuse."""

    alone: tuple[tuple[int, ...], ...]
    batched: tuple[tuple[int, ...], ...]
    as_tokenizer: tuple[tuple[int, ...], ...]
    tokenizer_side: str
    needed_side: str
    exact: bool


@dataclass(frozen=True)
class AnswerGrid:
    """Answers by strategy, rows in the order of `asked`. source: `prompts` | `data` | `probes`, where they come from.

    own: settings of the checkpoint's files; its answers stand under `own`, which is greedy's where both say the same.
    own_refused: what `generate` said when it didn't take them. failed: strategies that crashed, with one line.
    special: ids of the tokenizer's special tokens; token_names: those, the stop ids and all other added tokens by
    name. format: name of the prompt format used. as_used: greedy answers in the format that generation would use,
    where the prompts were asked in another one that fits better. own_pieces: for each greedy answer, how many of its
    tokens the tokenizer would write itself, and of how many (pipeline/own_segmentation.py).
    """

    asked: tuple[Asked, ...]
    source: str
    format: str
    answers: Mapping[str, tuple[Answer, ...]]
    own: OwnSettings
    own_refused: str | None
    failed: Mapping[str, str]
    comparison: BatchComparison | None
    cap: int
    stops: tuple[int, ...]
    special: frozenset[int]
    token_names: Mapping[int, str]
    is_encoder_decoder: bool
    parameters: int
    as_used: tuple[Answer, ...] | None = None
    own_pieces: tuple[tuple[int, int], ...] = ()

    def golds(self) -> list[str]:
        """Gold answers of the rows that have one."""
        return [a.gold for a in self.asked if a.gold is not None]


def choose_rows(lengths: Sequence[tuple[int, int | None]], budget: Budget) -> list[int]:
    """Which of many rows to ask, by (prompt tokens, gold tokens): spread evenly, in order.

    Rows that leave room to see the answer end are preferred; without that, stopping can't be judged.
    """
    table = load_config("sampling.yaml")
    short = [i for i, (prompt, _) in enumerate(lengths) if 0 < prompt <= table["max_prompt_tokens"]]
    if len(short) < 4:  # data of long prompts: the shortest of them
        longer = [i for i, (prompt, _) in enumerate(lengths) if 0 < prompt <= 4 * table["max_prompt_tokens"]]
        short = sorted(sorted(longer, key=lambda i: lengths[i][0])[:4])
    room = [i for i in short if (gold := lengths[i][1]) is None or 2 * gold + 1 <= budget.max_new_tokens]
    pool = room if len(room) >= min(4, len(short)) else short
    if len(pool) <= budget.prompts:
        return pool
    step = len(pool) / budget.prompts
    return [pool[int(i * step)] for i in range(budget.prompts)]


def new_tokens_for(asked: Sequence[Asked], budget: Budget) -> int:
    """How many tokens each answer may take: some times the longest gold answer, within the budget."""
    table = load_config("sampling.yaml")
    golds = [a.gold_tokens for a in asked]
    if not golds or any(g is None for g in golds):
        return budget.max_new_tokens
    wanted = int(table["cap_times_gold"] * max(g or 0 for g in golds) + table["spare_tokens"])
    return min(budget.max_new_tokens, max(int(table["least_new_tokens"]), wanted))


def ask_checkpoint(
    loaded: LoadedModel, asked: Sequence[Asked], *, source: str, format_name: str, as_used: Sequence[Asked] = (),
    device: str = "cpu", seed: int = 0, cancel: threading.Event | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> AnswerGrid:  # fmt: skip
    """Every strategy over `asked` (already chosen rows, at least one).

    as_used: the same rows as generation would write them, where that is another format.
    Raises GenerationFailed when not even greedy decoding works, GenerationCancelled when `cancel` is set.
    """
    parameters = sum(p.numel() for p in loaded.model.parameters())
    budget = budget_for(parameters, device)
    cap = _within_positions(loaded, asked, new_tokens_for(asked, budget))
    own = own_settings(loaded)

    shown = int(load_config("sampling.yaml")["shown_prompts"])

    def run(strategy: Strategy, rows: Sequence[Asked] = asked) -> tuple[Answer, ...]:
        note(f"{strategy.name}: {len(rows)} x {cap}")
        room = _within_positions(loaded, rows, cap)
        return tuple(
            answer_all(loaded, rows, strategy, max_new_tokens=room, seed=seed, batch_size=budget.batch, cancel=cancel)
        )

    answers: dict[str, tuple[Answer, ...]] = {}
    failed: dict[str, str] = {}
    for strategy in strategies():
        if strategy.beams > 1 and not budget.beams:
            continue
        try:
            # Beams multiply the work and serve the eye: a share is judged of greedy and sampled answers.
            answers[strategy.name] = run(strategy, asked[:shown] if strategy.beams > 1 else asked)
        except GenerationFailed as refused:
            if strategy.name == "greedy":
                raise
            failed[strategy.name] = str(refused)
    own_refused = None
    if own.same_as_greedy:
        answers["own"] = tuple(replace(a, strategy="own") for a in answers["greedy"])
    else:
        try:
            answers["own"] = run(own.strategy)
        except GenerationFailed as refused:
            own_refused = str(refused)
    usual = run(Strategy(AS_USED, {"do_sample": False}), as_used[:shown]) if as_used else None
    stops = stop_ids(loaded.model)
    special = frozenset(int(i) for i in loaded.tokenizer.all_special_ids)
    return AnswerGrid(
        tuple(asked), source, format_name, answers, own, own_refused, failed,
        _compare_batches(loaded, asked, cancel), cap, stops, special,
        _token_names(loaded.tokenizer, {*stops, *special}), loaded.is_encoder_decoder, parameters, usual,
        tuple(own_pieces(loaded.tokenizer, a.content_ids) for a in answers["greedy"]),
    )  # fmt: skip


def _token_names(tokenizer: Any, ids: set[int]) -> dict[int, str]:
    names = {int(i): str(token) for i, token in tokenizer.added_tokens_decoder.items()}
    for i in ids - names.keys():
        token = tokenizer.convert_ids_to_tokens(i) if 0 <= i < len(tokenizer) else None
        names[i] = str(token) if token is not None else f"id {i}"
    return names


def _within_positions(loaded: LoadedModel, asked: Sequence[Asked], cap: int) -> int:
    """Learned positions end; going past them crashes or gives garbage that is nobody's fault."""
    config = loaded.core.config
    limit = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    if not isinstance(limit, int) or limit <= 0 or loaded.is_encoder_decoder:
        return cap
    return max(1, min(cap, limit - max(len(a.ids) for a in asked)))


def _compare_batches(
    loaded: LoadedModel, asked: Sequence[Asked], cancel: threading.Event | None
) -> BatchComparison | None:
    """None where a batch would hold no padding: fewer than two rows, or all of one length."""
    import torch

    table = load_config("sampling.yaml")
    by_length = sorted(range(len(asked)), key=lambda i: (len(asked[i].ids), i))
    count = int(table["batch_rows"])
    step = max(1.0, (len(by_length) - 1) / max(1, count - 1))
    picked = sorted({by_length[min(len(by_length) - 1, round(i * step))] for i in range(count)})
    rows = [asked[i] for i in picked]
    if len({len(a.ids) for a in rows}) < 2:
        return None
    greedy = next(s for s in strategies() if s.name == "greedy")
    tokens = _within_positions(loaded, rows, int(table["batch_tokens"]))

    def first(batch_size: int, side: str) -> tuple[tuple[int, ...], ...]:
        found = answer_all(
            loaded, rows, greedy, max_new_tokens=tokens, batch_size=batch_size, padding_side=side, cancel=cancel
        )
        return tuple(a.ids for a in found)

    needed = "right" if loaded.is_encoder_decoder else "left"
    side = str(getattr(loaded.tokenizer, "padding_side", needed))
    batched = first(len(rows), needed)
    return BatchComparison(
        first(1, needed), batched, batched if side == needed else first(len(rows), side), side, needed,
        next(loaded.model.parameters()).dtype == torch.float32,
    )  # fmt: skip


def sample_table(grid: AnswerGrid) -> list[dict[str, Any]]:
    """The samples of the report: some prompts x all strategies. Text is as the model wrote it: untrusted."""
    table = load_config("sampling.yaml")
    limit = int(table["shown_characters"])
    names = [n for n in ("greedy", "sampling", "beam", "own") if n in grid.answers]
    if grid.own.same_as_greedy:
        names.remove("own")
    if grid.as_used:
        names.append(AS_USED)
    rows = []
    for place, asked in enumerate(grid.asked[: int(table["shown_prompts"])]):
        for name in names:
            answer = grid.as_used[place] if name == AS_USED and grid.as_used else grid.answers[name][place]
            rows.append({
                "prompt": asked.question[:limit], "gold": None if asked.gold is None else asked.gold[:limit],
                "strategy": name, "text": answer.text[:limit], "ended": answer.ended,
                "stop": None if answer.stop_id is None else grid.token_names[answer.stop_id], "tokens": len(answer.ids),
                "rep4": round(repeated_share(answer.content_ids, 4), 4), "seed": answer.seed,
            })  # fmt: skip
    return rows
