"""Answers behind one prompt are read in one row, and say what the library's class says of each by itself."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from pipeline.candidates.reward_reader import TRIED, RewardPiece, RewardReader
from pipeline.candidates.shared_beginnings import Row, laid_out, rows_of
from pipeline.cpu_threads import side_by_side
from pipeline.load_model import LoadedModel

TOKENS = 60


def pieces(prompts: int, answers: int, *, prompt: int = 24, seed: int = 0) -> list[RewardPiece]:
    draw = random.Random(seed)

    def some(count: int) -> tuple[int, ...]:
        return tuple(draw.randrange(2, TOKENS) for _ in range(count))

    asked = [some(prompt) for _ in range(prompts)]
    return [RewardPiece((*one, *some(draw.randint(1, 12)), 1)) for one in asked for _ in range(answers)]


def decoder(kind: str, **more: Any) -> LoadedModel:
    import transformers as t

    torch.manual_seed(1)
    common: dict[str, Any] = {"vocab_size": TOKENS, "num_labels": 1, "pad_token_id": 0} | more
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128}  # fmt: skip
    made: dict[str, Callable[[], Any]] = {
        "llama": lambda: t.LlamaForSequenceClassification(t.LlamaConfig(**sizes, **common)),
        "qwen3": lambda: t.Qwen3ForSequenceClassification(t.Qwen3Config(**sizes, **common)),
        "mistral": lambda: t.MistralForSequenceClassification(t.MistralConfig(**{"sliding_window": 16, **sizes, **common})),
        "gemma3": lambda: t.Gemma3TextForSequenceClassification(
            t.Gemma3TextConfig(**sizes, **common, sliding_window=16, query_pre_attn_scalar=8)
        ),
        "gpt2": lambda: t.GPT2ForSequenceClassification(t.GPT2Config(n_embd=32, n_layer=2, n_head=4, **common)),
        "neox": lambda: t.GPTNeoXForSequenceClassification(t.GPTNeoXConfig(**sizes, **common)),
        "bloom": lambda: t.BloomForSequenceClassification(t.BloomConfig(hidden_size=32, n_layer=2, n_head=4, **common)),
        "opt": lambda: t.OPTForSequenceClassification(
            t.OPTConfig(hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4, word_embed_proj_dim=32,
                        **common)
        ),
    }  # fmt: skip
    model = made[kind]().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return LoadedModel(model, None, False, "cpu", "float32", None, head="reward")


def alone(loaded: LoadedModel, piece: RewardPiece) -> float:
    with torch.inference_mode():
        return float(loaded.model(input_ids=torch.tensor([piece.ids])).logits[0, 0])


def scores_of(reader: RewardReader, given: list[RewardPiece]) -> list[float]:
    found: dict[RewardPiece, float] = {}
    for batch, scores in reader.batches(given):
        found.update(zip(batch, scores, strict=True))
    return [found[piece] for piece in given]


@pytest.mark.parametrize(
    ("kind", "shares"),
    [("llama", True), ("qwen3", True), ("gpt2", True), ("neox", True), ("mistral", None), ("gemma3", None),
     ("bloom", None), ("opt", None)],
)  # fmt: skip
def test_every_decoder_scores_as_its_own_class(kind: str, shares: bool | None) -> None:
    """Those whose masks or positions don't allow shared rows (a short window, positions in the attention) too."""
    loaded = decoder(kind)
    reader = RewardReader(loaded, 0, 0, 1)
    given = pieces(12, 4)
    assert scores_of(reader, given) == pytest.approx([alone(loaded, piece) for piece in given], abs=1e-4)
    if shares:
        assert reader._direct and reader._shares
        assert any(len(row.texts) > 1 for row in reader._laid(given))


def test_the_trial_reads_few_texts_of_a_row_of_many() -> None:
    """The class reads the prompt anew for every answer: of a row of forty it is asked about three."""

    class Counting(RewardReader):
        asked = 0

        def _class_scores(self, batch: Sequence[RewardPiece]) -> list[float]:
            self.asked += len(batch)
            return super()._class_scores(batch)

    loaded, given = decoder("llama"), pieces(1, 40)
    reader = Counting(loaded, 0, 0, 1)
    assert scores_of(reader, given) == pytest.approx([alone(loaded, piece) for piece in given], abs=1e-4)
    assert reader._shares and max(len(row.texts) for row in reader._laid(given)) > 10
    assert reader.asked <= 2 * TRIED


def test_a_window_is_shared_only_where_all_of_a_text_fits_into_it() -> None:
    loaded = decoder("mistral", sliding_window=30)
    reader = RewardReader(loaded, 0, 0, 1)
    given = pieces(12, 4, prompt=22)  # some reach beyond 30
    assert {len(piece.ids) > 30 for piece in given} == {True, False}
    assert scores_of(reader, given) == pytest.approx([alone(loaded, piece) for piece in given], abs=1e-4)
    rows = reader._laid(given)
    assert any(len(row.texts) > 1 for row in rows) and sorted(p for row in rows for p in row.texts) == [*range(48)]
    assert all(max(row.lengths) <= 30 for row in rows if len(row.texts) > 1)


@pytest.mark.parametrize("pad", [0, 1, None])
def test_the_head_reads_where_the_class_reads(pad: int | None) -> None:
    """With the end token as padding that is before the last end tokens, and the first token where all are padding."""
    loaded = decoder("llama", pad_token_id=pad)
    given = [*pieces(6, 3), *map(RewardPiece, [(1, 1, 1), (1,), (5, 1, 7, 1, 1), (0, 0)])]
    found = scores_of(RewardReader(loaded, pad, 0, 1), given)
    assert found == pytest.approx([alone(loaded, piece) for piece in given], abs=1e-4)


def test_threads_say_the_same_and_are_put_back() -> None:
    before = torch.get_num_threads()
    loaded, given = decoder("llama"), pieces(300, 2)
    try:
        torch.set_num_threads(2)
        both = scores_of(RewardReader(loaded, 0, 0, 1), given)
        assert torch.get_num_threads() == 2
        torch.set_num_threads(1)
        assert scores_of(RewardReader(loaded, 0, 0, 1), given) == both
    finally:
        torch.set_num_threads(before)


def test_work_side_by_side_keeps_its_order_and_ends_with_its_reader() -> None:
    begun: list[int] = []

    def make(one: int) -> int:
        begun.append(one)
        if one == 7:
            raise ValueError("seven")
        return one * one

    assert list(side_by_side(make, range(5), 2)) == [0, 1, 4, 9, 16]
    reading = side_by_side(make, range(100, 1000), 2)
    assert next(reading) == 10_000
    reading.close()
    assert max(begun) < 120
    with pytest.raises(ValueError, match="seven"):
        list(side_by_side(make, range(9), 3))


def test_no_memory_splits_a_shared_row_to_its_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, given = decoder("llama"), pieces(1, 4)
    reader = RewardReader(loaded, 0, 0, 1)
    wanted = scores_of(reader, given)
    assert len(reader._laid(given)) == 1
    forward = loaded.core.model.forward

    def small(input_ids: Any, **more: Any) -> Any:
        if input_ids.shape[1] > 37 or input_ids.shape[0] > 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return forward(input_ids=input_ids, **more)

    monkeypatch.setattr(loaded.core.model, "forward", small)
    found = scores_of(reader, given)
    fits = [len(piece.ids) <= 37 for piece in given]
    assert True in fits
    assert [score for score, kept in zip(found, fits, strict=True) if kept] == pytest.approx(
        [score for score, kept in zip(wanted, fits, strict=True) if kept], abs=1e-4
    )
    assert [math.isnan(score) for score in found] == [not kept for kept in fits]
    assert reader.no_memory == {piece for piece, kept in zip(given, fits, strict=True) if not kept}


def test_where_the_trial_does_not_fit_texts_are_read_as_the_class_does(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, given = decoder("llama"), pieces(4, 2)
    wanted = [alone(loaded, piece) for piece in given]
    forward = type(loaded.model).forward

    def small(self: Any, input_ids: Any, **more: Any) -> Any:
        if input_ids.shape[0] > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return forward(self, input_ids=input_ids, **more)

    monkeypatch.setattr(type(loaded.model), "forward", small)
    reader = RewardReader(loaded, 0, 0, 1)
    assert scores_of(reader, given) == pytest.approx(wanted, abs=1e-4) and not reader._direct and not reader.no_memory


def test_texts_share_a_row_only_where_that_costs_less() -> None:
    start = tuple(range(40))
    answers = [(*start, 41, 42), (*start, 43), (*start[:39], 44, 45), (50, 51)]
    assert rows_of(answers, width=64, most=1000) == [Row((0, 1, 2), 39, (42, 41, 41)), Row((3,), 2, (2,))]
    assert [row.texts for row in rows_of(answers, width=64, most=43)] == [(0, 1), (2,), (3,)]
    long = [(*start[:4], *[50] * 300), (*start[:4], *[51] * 300)]  # attention over both costs more than 4 tokens
    assert len(rows_of(long, width=64, most=1000)) == 2
    ids, positions, sees = laid_out([Row((0, 1), 2, (4, 3))], [[(7, 8, 9, 10), (7, 8, 11)]], 0)
    assert ids.tolist() == [[7, 8, 9, 10, 11]] and positions.tolist() == [[0, 1, 2, 3, 2]]
    assert sees[0, 0, 4].tolist() == [True, True, False, False, True]
    assert [Row((0, 1), 2, (4, 3)).column(1, at) for at in range(3)] == [0, 1, 4]
