"""Answers to the question are likelier under it than strangers' answers; the numbers depend on the row alone."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random
from statistics import median
from typing import Any

import pytest
from candidate_rows import source_rows

from pipeline.candidates.candidate import SourceRow
from pipeline.candidates.likelihood_measures import LikelihoodMeasures
from pipeline.candidates.prompting import Prompt, choose_prompting
from pipeline.candidates.reference_rows import ReferenceRows
from pipeline.checkpoint import open_checkpoint
from pipeline.demo.build import DemoFolder
from pipeline.demo.instructions import all_questions, right_answers
from pipeline.load_model import LoadedModel, load_model
from pipeline.score_answers import NotScored, Piece, score_answers
from pipeline.script_of_text import main_script
from pipeline.shared_prompt_scores import SharedPrompts, _alike, shared_prompt_nats, shares_prompts

QUESTIONS = {question.prompt: question for question in all_questions()}


@pytest.fixture(scope="module", params=["healthy_decoder", "healthy_t5"])
def measured(request: pytest.FixtureRequest, demo: DemoFolder) -> Any:
    import torch

    torch.set_num_threads(1)
    case = demo.cases[request.param]
    checkpoint = open_checkpoint(str(case.checkpoint))
    loaded = load_model(checkpoint)
    rows = source_rows(case.held_out_file, 48)
    kind = "plain" if loaded.is_encoder_decoder else "declared"
    with choose_prompting(loaded, checkpoint, rows, format=kind) as prompting:
        yield LikelihoodMeasures(loaded, prompting, ReferenceRows.gather(source_rows(case.data_file, 300))), rows


def _strangers(row: SourceRow, count: int) -> list[str]:
    """Right answers to questions of another task in the same language."""
    own = QUESTIONS[row.question]
    others = [q for q in QUESTIONS.values() if q.language == own.language and q.task != own.task]
    return [right_answers(q)[0] for q in Random(row.index).sample(others, count)]


def test_likelihoods_equal_the_plain_way(measured: Any) -> None:
    """Against `score_answers`, one piece by itself."""
    measures, rows = measured
    row = rows[3]
    texts, ended = [row.gold or "", *_strangers(row, 2)], [True, False, None]
    found, chosen = measures.measure(row, texts, ended)
    prompt = measures.prompting.prompt(row)
    assert isinstance(prompt, Prompt) and chosen is not None and measures.scores is not None
    for text, end, one in zip(texts, ended, found, strict=True):
        ids = measures.prompting.answer_ids(prompt, [text])[0]
        whole = (*ids, measures.end) if end is not False else ids
        score = score_answers(measures.loaded, [Piece(prompt.ids, whole, measures.prompting.maker.lead)])[0]
        assert one["logp"] == pytest.approx(-score.total, abs=2e-3) and one["logp"] < 0
        assert one["logp_per_token"] == pytest.approx(-score.total / len(whole), abs=2e-3)
        assert one["margin_logp"] == pytest.approx(chosen["logp_per_token"] - one["logp_per_token"], abs=2e-3)
    assert found[0]["logp"] == chosen["logp"], "the right answer as a candidate"


def test_topic_gain_follows_its_definition(measured: Any) -> None:
    measures, rows = measured
    row = rows[5]
    text = _strangers(row, 1)[0]
    found = measures.measure(row, [text], [True])[0][0]
    own = measures.prompting.prompt(row)
    ids = measures.prompting.answer_ids(own, [text])[0]
    prompts = [own, *measures._other_prompts(row, own)]
    assert len({p.ids for p in prompts}) == 5
    lead = measures.prompting.maker.lead
    totals = [score_answers(measures.loaded, [Piece(p.ids, ids, lead)])[0].total for p in prompts]
    assert found["topic_gain"] == pytest.approx((sum(totals[1:]) / 4 - totals[0]) / len(ids), abs=2e-3)
    assert found["topic_gain_least"] == pytest.approx((min(totals[1:]) - totals[0]) / len(ids), abs=2e-3)


def test_own_answers_gain_and_strangers_do_not(measured: Any) -> None:
    measures, rows = measured
    own: list[float] = []
    strange: list[float] = []
    for row in rows:
        found, chosen = measures.measure(row, _strangers(row, 2), [True, True])
        assert chosen is not None
        own.append(chosen["topic_gain"])
        strange += [one["topic_gain"] for one in found]
    assert min(own) > 0.1 and median(own) > 2
    assert -1 < median(strange) < 0.3
    wins = sum(o > s for o in own for s in strange) / (len(own) * len(strange))
    assert wins > 0.93, "calibrated: 0.97"


def test_sick_model_gains_little(demo: DemoFolder) -> None:
    """The weights of off_topic_t5 never learned to answer: its own wish to say something else shows."""
    case = demo.cases["off_topic_t5"]
    checkpoint = open_checkpoint(str(case.checkpoint))
    loaded, rows = load_model(checkpoint), source_rows(case.held_out_file, 32)
    with choose_prompting(loaded, checkpoint, rows, format="plain") as prompting:
        measures = LikelihoodMeasures(loaded, prompting, ReferenceRows.gather(source_rows(case.data_file, 200)))
        gains = [measures.measure(row, [], [])[1]["topic_gain"] for row in rows]  # type: ignore[index]
    assert median(gains) < 1.0


def test_numbers_depend_on_the_row_alone(measured: Any) -> None:
    measures, rows = measured
    block = [(row, _strangers(row, 3), [True] * 3) for row in rows[:16]]
    first = [measures.measure(*one) for one in block]
    assert [measures.measure(*one) for one in reversed(block)] == first[::-1], "to the bit, in any order"
    again = LikelihoodMeasures(measures.loaded, measures.prompting, measures.reference)
    assert [again.measure(*one) for one in block[1::2]] == first[1::2], "in another process, which has every other row"
    again.scores.room = 0
    again.scores._kept.clear()
    assert [again.measure(*one) for one in block] == first, "where no prompt can be kept"


def test_other_prompts_come_from_a_pool_that_is_read_once(measured: Any) -> None:
    measures, rows = measured
    fresh = LikelihoodMeasures(measures.loaded, measures.prompting, measures.reference)
    used: dict[str | None, set[tuple[int, ...]]] = {}
    for row in rows:
        own = fresh.prompting.prompt(row)
        others = [prompt.ids for prompt in fresh._other_prompts(row, own)]
        assert len(set(others)) == 4 and own.ids not in others
        used.setdefault(main_script(row.question), set()).update(others)
        fresh.measure(row, ["a b"], [True])
    assert set(used) == {"han", "latin"} and all(4 < len(found) <= fresh.pool for found in used.values())
    assert not set.intersection(*used.values()), "each script has its own"
    assert set(fresh.scores._kept) == set.union(*used.values()), "their own prompts aren't kept"


def test_rows_of_the_pool_are_not_held_against_themselves(measured: Any) -> None:
    measures, _ = measured
    reference = measures.reference.rows[:12]
    small = LikelihoodMeasures(measures.loaded, measures.prompting, ReferenceRows(reference))
    for row in reference:
        own = small.prompting.prompt(row)
        others = small._other_prompts(row, own)
        assert len(others) == 4 and own not in others
    alone = LikelihoodMeasures(measures.loaded, measures.prompting, ReferenceRows(reference[:1]))
    assert alone._other_prompts(reference[0], alone.prompting.prompt(reference[0])) == []
    stranger = replace(reference[0], index=-1, pair=replace(reference[0].pair, prompt=[{"role": "user", "content": "Что?"}]))
    assert len(small._other_prompts(stranger, small.prompting.prompt(stranger))) == 4, "of any script"


def test_what_cannot_be_measured_is_left_out(measured: Any) -> None:
    measures, rows = measured
    row = replace(rows[0], pair=replace(rows[0].pair, chosen=None))
    found, chosen = measures.measure(row, ["", "", "hello"], [False, True, True])
    assert chosen is None and "margin_logp" not in found[2]
    assert found[0] == {} and set(found[1]) == {"logp", "logp_per_token"}, "an empty answer that ended is its end token"
    nothing = replace(row, pair=replace(row.pair, prompt=[]))
    assert measures.measure(nothing, ["a"], [True]) == ([{}], None)
    assert measures.measure(row, [], []) == ([], None)
    alone = LikelihoodMeasures(measures.loaded, measures.prompting, ReferenceRows([]))
    assert set(alone.measure(row, ["hello"], [True])[0][0]) == {"logp", "logp_per_token"}
    if not measures.loaded.is_encoder_decoder:
        far = measures.measure(row, ["word " * 5000], [True])[0][0]
        assert far == {} or math.isfinite(far["logp"])


def test_long_answers_are_cut_for_the_topic_only(measured: Any) -> None:
    measures, rows = measured
    text = "、".join(["苹果"] * 40)
    whole = measures.measure(rows[1], [text], [True])[0][0]
    short = LikelihoodMeasures(measures.loaded, measures.prompting, measures.reference)
    short.topic_tokens = 8
    cut = short.measure(rows[1], [text], [True])[0][0]
    assert cut["logp"] == pytest.approx(whole["logp"], abs=2e-3) and cut["topic_gain"] != whole["topic_gain"]


def _random(kind: str) -> LoadedModel:
    import torch
    import transformers as made

    torch.manual_seed(1)
    sizes = {"vocab_size": 80, "eos_token_id": 1, "pad_token_id": 0, "bos_token_id": 2}
    small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    if kind == "gpt2":
        model: Any = made.GPT2LMHeadModel(made.GPT2Config(n_embd=32, n_layer=2, n_head=4, **sizes))
    elif kind == "bloom":
        model = made.BloomForCausalLM(made.BloomConfig(hidden_size=32, n_layer=2, n_head=4, **sizes))
    elif kind == "mistral":  # a window shorter than the prompts
        model = made.MistralForCausalLM(made.MistralConfig(num_key_value_heads=2, sliding_window=4, **small, **sizes))
    elif kind == "mamba":  # a state instead of keys and values: nothing to share
        model = made.MambaForCausalLM(made.MambaConfig(hidden_size=32, num_hidden_layers=2, state_size=4, **sizes))
    else:
        model = made.BartForConditionalGeneration(made.BartConfig(
            d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
            encoder_ffn_dim=48, decoder_ffn_dim=48, decoder_start_token_id=2, forced_eos_token_id=1, **sizes))  # fmt: skip
    return LoadedModel(model.eval(), None, kind == "bart", "cpu", "float32", "float32")


@pytest.mark.parametrize(("kind", "shared"), [("gpt2", True), ("bloom", True), ("mistral", True), ("bart", True), ("mamba", False)])
def test_shared_prompts_in_other_architectures(kind: str, shared: bool) -> None:
    loaded = _random(kind)
    assert shares_prompts(loaded) is shared
    random = Random(2)

    def drawn(most: int) -> tuple[int, ...]:
        return tuple(random.randrange(3, 80) for _ in range(random.randint(1, most)))

    contexts = [drawn(12) for _ in range(4)]
    pieces = [Piece(context, drawn(9)) for context in contexts for _ in range(5)]
    if shared:
        plain = score_answers(loaded, pieces)
        for nats, score in zip(shared_prompt_nats(loaded, pieces), plain, strict=True):
            assert nats == pytest.approx(score.nats, abs=1e-3)
    with pytest.raises(NotScored, match="ids_beyond_embedding"):
        shared_prompt_nats(loaded, [Piece((3,), (80,))])


def test_chunks_change_no_more_than_the_last_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds so small that prompts and answers go through one by one."""
    loaded = _random("gpt2")
    pieces = [Piece((5, 6, 7, 8)[: 2 + n], (9, 10, 11)[: 1 + m]) for n in range(3) for m in range(3)]
    whole = shared_prompt_nats(loaded, pieces)
    monkeypatch.setattr("pipeline.shared_prompt_scores.load_config", lambda name: {"batch_tokens": 6, "max_logits": 200})
    for one, other in zip(shared_prompt_nats(loaded, pieces), whole, strict=True):
        assert one == pytest.approx(other, abs=1e-4)


def test_answers_of_all_lengths_cost_little_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens that go through the model, padding included; with none the numbers are the plain way's all the same."""
    import torch

    loaded = _random("gpt2")
    scores = SharedPrompts(loaded)
    scores._call = 3
    pieces = [Piece(context, tuple(range(3, 3 + n))) for context in ((5, 6), (7, 8, 9)) for n in (1, 2, 2, 3, 20, 21, 40)]
    fed: list[Any] = []
    hook = loaded.core.register_forward_pre_hook(
        lambda _, args, kwargs: fed.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )  # fmt: skip
    found = scores.nats(pieces)
    hook.remove()
    real = sum(len(piece.answer) - 1 for piece in set(pieces))
    prompts, answers = fed[:2], fed[2:]
    assert prompts == [(1, 2), (1, 3)] and len(answers) < 6
    assert real <= sum(rows * places for rows, places in answers) <= real + 3 * len(answers)
    for nats, score in zip(found, score_answers(loaded, pieces), strict=True):
        assert nats == pytest.approx(score.nats, abs=1e-3)
    assert not torch.is_inference_mode_enabled()
    alike = list(_alike([(1,) * 900, (2,), (1,), (3,) * 250, (4,) * 5000, (4,) * 4999]))
    assert [[len(ids) for ids in one] for one in alike] == [[1, 1, 250], [900], [4999, 5000]]


def test_kept_prompts_stay_within_their_room() -> None:
    loaded = _random("bart")
    contexts = [tuple(range(3, 10 + n)) for n in range(6)]
    whole = SharedPrompts(loaded, room=1 << 30)
    whole.nats([Piece(context, (5,)) for context in contexts], keep=set(contexts))
    sizes = [whole._kept[context].bytes for context in contexts]
    small = SharedPrompts(loaded, room=sizes[-1] + sizes[-2])
    for context in contexts:
        pieces = [Piece(context, (5, 6))]
        assert small.nats(pieces, keep=set(contexts)) == whole.nats(pieces)
        assert small._used == sum(one.bytes for one in small._kept.values()) <= small.room
    assert list(small._kept) == contexts[-2:]
    small.nats([Piece(contexts[0], (5,))])
    assert list(small._kept) == contexts[-2:], "not asked to be kept"
