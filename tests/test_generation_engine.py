"""Answers made in slots against transformers' `generate` row by row, on random models of several architectures."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
import transformers as hf
from transformers.generation import logits_process as warp

from pipeline.candidates.candidate import Cancelled
from pipeline.generation.answers import AnswerMaker, bytes_per_token, slots_for
from pipeline.generation.decoding import Decoding, Settings, Uniforms, largest, take
from pipeline.generation.slot_engine import Finished, SlotEngine, Wanted, Work, fits_slots
from pipeline.load_model import LoadedModel

VOCABULARY, END = 300, 2
IDS: dict[str, Any] = {"vocab_size": VOCABULARY, "eos_token_id": END, "bos_token_id": 1, "pad_token_id": 0}
SMALL: dict[str, Any] = {
    "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, **IDS,
}  # fmt: skip


def _t5() -> Any:
    return hf.T5ForConditionalGeneration(
        hf.T5Config(
            d_model=48, d_ff=96, d_kv=12, num_layers=2, num_heads=4, vocab_size=VOCABULARY, decoder_start_token_id=0,
            eos_token_id=END, pad_token_id=0, initializer_factor=1.0,
        )
    )  # fmt: skip


def _bart() -> Any:
    return hf.BartForConditionalGeneration(
        hf.BartConfig(
            vocab_size=VOCABULARY, d_model=48, encoder_layers=2, decoder_layers=2, encoder_ffn_dim=64, init_std=0.2,
            decoder_ffn_dim=64, encoder_attention_heads=4, decoder_attention_heads=4, decoder_start_token_id=2,
            eos_token_id=END, pad_token_id=1, bos_token_id=0, forced_eos_token_id=None,
        )
    )  # fmt: skip


MODELS = {
    "qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(head_dim=12, **SMALL)),
    "gpt2": lambda: hf.GPT2LMHeadModel(hf.GPT2Config(n_embd=48, n_layer=2, n_head=4, n_positions=256, **IDS)),
    "sliding": lambda: hf.MistralForCausalLM(hf.MistralConfig(sliding_window=8, **SMALL)),
    "alibi": lambda: hf.BloomForCausalLM(hf.BloomConfig(hidden_size=48, n_layer=2, n_head=4, **IDS)),
    "opt": lambda: hf.OPTForCausalLM(
        hf.OPTConfig(hidden_size=48, ffn_dim=96, num_hidden_layers=2, num_attention_heads=4, word_embed_proj_dim=48,
                     **IDS)
    ),  # fmt: skip
    "t5": _t5,
    "bart": _bart,
    "mamba": lambda: hf.MambaForCausalLM(hf.MambaConfig(hidden_size=32, num_hidden_layers=2, **IDS)),
}
IN_SLOTS = ("qwen3", "gpt2", "sliding", "alibi", "opt", "t5")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _loaded(name: str, **changed: Any) -> LoadedModel:
    torch.manual_seed(5)
    model = MODELS[name]().eval()
    _end_sometimes(model)
    return LoadedModel(model, None, bool(model.config.is_encoder_decoder), "cpu", "float32", None, **changed)


def _end_sometimes(model: Any) -> None:
    """Makes a token the end that this random model does write now and then."""
    model.generation_config.eos_token_id = None
    seen = Counter[int]()
    for prompt in _prompts(6):
        made = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=8, pad_token_id=0)[0].tolist()
        seen.update(set(made[-7:]))
    model.generation_config.eos_token_id = seen.most_common()[0][0]


def _prompts(count: int, seed: int = 1) -> list[tuple[int, ...]]:
    rng = random.Random(seed)
    return [tuple(rng.randrange(3, VOCABULARY) for _ in range(rng.randint(1, 30))) for _ in range(count)]


def _limits(count: int) -> list[int]:
    rng = random.Random(2)
    return [rng.randint(1, 30) for _ in range(count)]


def _row_by_row(loaded: LoadedModel, prompt: Sequence[int], new: int, **settings: Any) -> tuple[int, ...]:
    ids = torch.tensor([list(prompt)])
    out = loaded.model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=new, pad_token_id=0, **settings
    )
    return tuple(out[0, 1 if loaded.is_encoder_decoder else len(prompt) :].tolist())


def _works(prompts: Sequence[tuple[int, ...]], decoding: Decoding, limits: Sequence[int], answers: int = 1) -> list[Work]:
    return [
        Work(p, tuple(Wanted((i, k), decoding, 1000 * i + k, limits[i]) for k in range(answers)))
        for i, p in enumerate(prompts)
    ]


def _by_key(found: Iterator[Finished]) -> dict[Any, Finished]:
    listed = list(found)
    assert len({f.key for f in listed}) == len(listed), "an answer came twice"
    return {f.key: f for f in listed}


@pytest.mark.parametrize("name", MODELS)
def test_greedy_is_that_of_generate_in_every_row(name: str) -> None:
    loaded = _loaded(name)
    prompts, limits = _prompts(14), _limits(14)
    maker = AnswerMaker(loaded, longest=70, slots=7)
    assert maker.in_slots == (name in IN_SLOTS)
    found = _by_key(maker.run(_works(prompts, Decoding(), limits)))
    assert len(found) == len(prompts)
    end = loaded.model.generation_config.eos_token_id
    for i, prompt in enumerate(prompts):
        expected = _row_by_row(loaded, prompt, limits[i])
        assert found[i, 0].ids == expected, f"row {i}"
        assert (found[i, 0].stop_id is not None) == (expected[-1] == end)


@pytest.mark.parametrize("name", ["qwen3", "t5"])
@pytest.mark.parametrize("settings", [{"repetition_penalty": 3.0}, {"no_repeat_ngram_size": 2}, {"min_new_tokens": 20}])
def test_penalties_are_those_of_generate(name: str, settings: dict[str, Any]) -> None:
    loaded = _loaded(name)
    prompts, limits = _prompts(10), [25] * 10
    found = _by_key(SlotEngine(loaded, slots=4).run(_works(prompts, Decoding(**settings), limits)))
    plain = _by_key(SlotEngine(loaded, slots=4).run(_works(prompts, Decoding(), limits)))
    for i, prompt in enumerate(prompts):
        assert found[i, 0].ids == _row_by_row(loaded, prompt, 25, **settings)
    assert any(found[key].ids != plain[key].ids for key in found), "the setting changed nothing"


@pytest.mark.parametrize("name", ["qwen3", "t5", "bart"])
def test_samples_depend_on_nothing_but_their_row(name: str) -> None:
    loaded = _loaded(name)
    prompts, limits = _prompts(10), _limits(10)
    for decoding in (Decoding(0.9), Decoding(1.2, top_k=20), Decoding(0.8, top_p=0.9), Decoding(1.0, min_p=0.02)):
        works = _works(prompts, decoding, limits, answers=3)
        one = _by_key(AnswerMaker(loaded, longest=70, slots=16).run(works))
        other = _by_key(AnswerMaker(loaded, longest=70, slots=3).run(works[::-1]))
        assert len(one) == 30
        assert {k: f.ids for k, f in one.items()} == {k: f.ids for k, f in other.items()}
        assert len({f.ids for f in one.values()}) > 10, "samples don't vary"


def test_greedy_and_drawn_answers_share_the_slots() -> None:
    loaded = _loaded("qwen3")
    prompts = _prompts(12)
    kinds = (Decoding(), Decoding(0.7, top_k=5), Decoding(1.5, repetition_penalty=1.2))
    works = [
        Work(p, tuple(Wanted((i, k), kind, 1000 * i + k, 20) for k, kind in enumerate(kinds)))
        for i, p in enumerate(prompts)
    ]
    mixed = _by_key(SlotEngine(loaded, slots=8).run(works))
    for k, kind in enumerate(kinds):
        apart = [Work(w.ids, (w.wanted[k],)) for w in works]
        for key, done in _by_key(SlotEngine(loaded, slots=8).run(apart)).items():
            assert mixed[key].ids == done.ids, (kind, key)


def test_draws_follow_the_distribution_that_transformers_draws_from() -> None:
    torch.manual_seed(3)
    scores = torch.randn(1, 40) * 3
    for decoding in (
        Decoding(0.7), Decoding(1.3, top_k=7), Decoding(1.0, top_p=0.8), Decoding(0.9, min_p=0.1),
        Decoding(1.1, top_k=12, top_p=0.7),
    ):  # fmt: skip
        steps: list[Any] = [warp.TemperatureLogitsWarper(float(decoding.temperature or 1))]
        steps += [warp.TopKLogitsWarper(decoding.top_k)] if decoding.top_k else []
        steps += [warp.TopPLogitsWarper(decoding.top_p)] if decoding.top_p < 1 else []
        steps += [warp.MinPLogitsWarper(decoding.min_p)] if decoding.min_p else []
        expected = scores.clone()
        for step in steps:
            expected = step(torch.zeros((1, 1), dtype=torch.long), expected)
        expected = torch.softmax(expected, -1)[0]
        # evenly spread numbers instead of random ones: each token must be hit in proportion to its chance
        count = 20_000
        uniforms = (torch.arange(count, dtype=torch.float64) + 0.5) / count
        rows = Settings([decoding], "cpu")
        rows.temperature, rows.top_k = rows.temperature.expand(count), rows.top_k.expand(count)
        rows.top_p, rows.min_p = rows.top_p.expand(count), rows.min_p.expand(count)
        tokens, _ = take(scores.expand(count, -1).contiguous(), rows, uniforms, 0.0)
        share = torch.bincount(tokens, minlength=40) / count
        assert (share - expected).abs().max() < 2e-4, decoding


def test_top_p_reaches_beyond_the_first_look() -> None:
    scores = torch.zeros(1, 2000)  # 0.9 of a flat distribution is 1800 tokens
    seen = Counter(
        int(take(scores, Settings([Decoding(1.0, top_p=0.9)], "cpu"), torch.tensor([u / 500]), 0.0)[0])
        for u in range(500)
    )
    assert len(seen) == 500


def test_the_largest_values_are_those_of_topk() -> None:
    torch.manual_seed(0)
    for width, count in ((4000, 11), (4001, 31), (50, 5), (8191, 2)):
        scores = torch.randn(5, width)
        values, ids = largest(scores, count)
        expected = scores.topk(count, -1)
        assert torch.equal(values, expected.values) and torch.equal(ids, expected.indices)


def test_near_ties_are_reported() -> None:
    scores = torch.tensor([[1.0, 1.0 - 1e-7, 0.0], [1.0, 0.5, 0.0]])
    _, unsure = take(scores, Settings([Decoding(), Decoding()], "cpu"), None, 1e-5)
    assert unsure.tolist() == [True, False]
    drawing = Settings([Decoding(1.0), Decoding(1.0)], "cpu")
    border = float(torch.softmax(scores[0], -1)[0])
    _, unsure = take(scores, drawing, torch.tensor([border + 1e-7, border / 2]), 1e-5)
    assert unsure.tolist() == [True, False]


def test_uniforms_are_the_same_in_any_portions() -> None:
    one, other = Uniforms(7), Uniforms(7)
    assert [one.at(i) for i in range(200)] == [other.at(i) for i in (199, *range(199))][1:] + [other.at(199)]


def test_rows_are_taken_as_they_are_needed() -> None:
    loaded = _loaded("qwen3")
    taken = 0

    def works() -> Iterator[Work]:
        nonlocal taken
        for work in _works(_prompts(300), Decoding(), [3] * 300):
            taken += 1
            yield work

    stream = SlotEngine(loaded, slots=8).run(works())
    for _ in range(20):
        next(stream)
    assert taken <= 40
    stream.close()


def test_memory_does_not_grow_with_rows() -> None:
    loaded = _loaded("qwen3")
    engine, sizes = SlotEngine(loaded, slots=4), set()
    seen = engine._next_scores

    def watched(slots: Any, *rest: Any) -> Any:
        sizes.add(slots.capacity)
        return seen(slots, *rest)

    engine._next_scores = watched  # type: ignore[method-assign]
    assert len(list(engine.run(_works(_prompts(120), Decoding(0.9), [30] * 120)))) == 120
    assert max(sizes) <= 2 * (70 + 256)


def test_cancelled_within_a_step() -> None:
    for name in ("qwen3", "bart"):
        loaded, cancel = _loaded(name), threading.Event()
        stream = AnswerMaker(loaded, longest=70, slots=4).run(_works(_prompts(40), Decoding(), [30] * 40), cancel=cancel)
        next(stream)
        cancel.set()
        with pytest.raises(Cancelled):
            list(stream)


@pytest.mark.parametrize("name", ["qwen3", "sliding"])
def test_scores_that_are_no_numbers_end_their_row_alone(name: str) -> None:
    loaded = _loaded(name)
    with torch.no_grad():
        loaded.model.get_input_embeddings().weight[17] = float("nan")
    prompts = [(4, 5, 6), (17, 5), (7, 8, 9, 10), (9, 9)]
    found = _by_key(AnswerMaker(loaded, longest=40, slots=2).run(_works(prompts, Decoding(), [6] * 4, answers=2)))
    assert len(found) == 8
    assert not found[1, 0].finite
    clean = _by_key(AnswerMaker(_loaded(name), longest=40, slots=2).run(_works(prompts, Decoding(), [6] * 4)))
    for i in (0, 2, 3):
        if 17 not in found[i, 0].ids:
            assert found[i, 0].finite and found[i, 0].ids == clean[i, 0].ids


def test_slots_fit_the_memory() -> None:
    loaded = _loaded("qwen3")
    assert bytes_per_token(loaded) == 2 * 2 * 2 * 12 * 4
    assert slots_for(loaded, 100, free=2**40) == 128
    assert 1 <= slots_for(loaded, 100_000, free=2**28) < 10
    assert slots_for(loaded, 10**9, free=2**20) == 1


def test_a_model_that_can_not_be_asked_has_no_slots() -> None:
    assert not fits_slots(_loaded("mamba"))
    assert not fits_slots(_loaded("bart"))
