"""What a model thinks of pairs, against a plain computation in double precision and against TRL's own DPOTrainer."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_answering_models import train

from pipeline.checkpoint import open_checkpoint
from pipeline.demo.build import DemoFolder
from pipeline.load_model import LoadedModel, load_model
from pipeline.pair_likelihoods import SIDES, PairLikelihoods, pair_likelihoods, piece_of
from pipeline.pair_tokens import TokenisedPair, tokenise_pairs
from pipeline.pairs.pair import Pair
from pipeline.score_answers import NotScored, start_id


def asked(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def demo_pairs(demo: DemoFolder, count: int = 24) -> list[Pair]:
    """Questions of the demo with their answer and with the next row's; every fourth answer is made much longer."""
    lines = demo.cases["healthy_decoder"].data_file.read_text(encoding="utf-8").splitlines()
    rows = list({row["instruction"]: row for row in map(json.loads, lines)}.values())[: count * 7 : 7]
    return [
        Pair(asked(row["instruction"]), row["output"] * (1 + 5 * (n % 4 == 0)), rows[n - 1]["output"])
        for n, row in enumerate(rows)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def models(demo: DemoFolder, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], LoadedModel]:
    made: dict[str, LoadedModel] = {}

    def load(name: str) -> LoadedModel:
        if name == "scaled_t5" and name not in made:
            made[name] = load_model(open_checkpoint(str(train(tmp_path_factory.mktemp(name), "t5", steps=5))))
            assert made[name].core.config.scale_decoder_outputs
        if name not in made:
            case = demo.cases[name]
            base = open_checkpoint(str(case.base)) if case.base else None
            made[name] = load_model(open_checkpoint(str(case.checkpoint)), base=base)
        return made[name]

    return load


def tokenised(loaded: LoadedModel, pairs: Sequence[Pair], **settings: Any) -> list[TokenisedPair]:
    return list(tokenise_pairs(pairs, loaded.tokenizer, encoder_decoder=loaded.is_encoder_decoder, **settings))


class Plain:
    """The definitions as they are written, in double precision, one sequence at a time."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self.model = copy.deepcopy(loaded.model).double().eval()

    def answer(self, context: Sequence[int], answer: Sequence[int]) -> tuple[float, Any]:
        """(log-probability of `answer` behind `context`, the hidden states that predict its tokens)."""
        import torch

        with torch.no_grad():
            if self.loaded.is_encoder_decoder:
                core = self.loaded.core
                target = [start_id(self.loaded), *answer]
                out = self.model(
                    input_ids=torch.tensor([context]), decoder_input_ids=torch.tensor([target]), output_hidden_states=True
                )  # fmt: skip
                logits, states = out.logits[0, : len(answer)], out.decoder_hidden_states[-1][0, : len(answer)]
                if core.config.scale_decoder_outputs:  # T5 1.0 does, before it multiplies with the shared embeddings
                    states = states * core.config.d_model**-0.5
            else:
                out = self.model(input_ids=torch.tensor([[*context, *answer]]), output_hidden_states=True)
                before = slice(len(context) - 1, len(context) + len(answer) - 1)
                logits, states = out.logits[0, before], out.hidden_states[-1][0, before]
            logs = torch.log_softmax(logits, -1)
            return float(logs[range(len(answer)), list(answer)].sum()), states

    def ches(self, one: TokenisedPair) -> tuple[float, float]:
        plus, minus = (self.answer(*one.kept(side))[1] for side in SIDES)
        a, b = plus.sum(0), minus.sum(0)
        n, m = len(plus), len(minus)
        return float(a @ b - a @ a), float(a @ b / (n * m) - a @ a / n**2)


def check(loaded: LoadedModel, pairs: Sequence[TokenisedPair], found: PairLikelihoods) -> None:
    plain = Plain(loaded)
    by_position = {one.position: one for one in pairs}
    for place, position in enumerate(found.positions.tolist()):
        one = by_position[position]
        for side in SIDES:
            context, answer = one.kept(side)
            assert found.logp[side][place] == pytest.approx(plain.answer(context, answer)[0], rel=1e-4, abs=1e-4)
            assert found.tokens[side][place] == len(answer)
        own = piece_of(one, "rejected").answer
        for column, other in enumerate(found.other_positions[place].tolist()):
            assert by_position[other].prompt != one.prompt
            expected = plain.answer(by_position[other].prompt, own)[0]
            assert found.others["rejected"][place, column] == pytest.approx(expected, rel=1e-4, abs=1e-4)
        ches, by_length = plain.ches(one)
        assert found.ches[place] == pytest.approx(ches, rel=1e-3, abs=1e-3)
        assert found.ches_by_length[place] == pytest.approx(by_length, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("name", ["healthy_decoder", "healthy_decoder_lora", "healthy_t5", "scaled_t5"])
def test_as_computed_plainly(name: str, models: Callable[[str], LoadedModel], demo: DemoFolder) -> None:
    loaded = models(name)
    made = tokenised(loaded, demo_pairs(demo), max_length=40)
    assert any(len(one.kept("chosen")[1]) < len(one.chosen or ()) for one in made)  # some are cut
    found = pair_likelihoods(loaded, made)
    assert len(found) == len(made) == found.offered and not found.left_out
    check(loaded, made, found)
    assert np.isfinite(found.others["rejected"]).all() and found.others["rejected"].shape == (len(made), 2)
    if name == "healthy_decoder":  # the sound model knows what belongs to its prompt
        assert np.median(found.per_token("chosen")) > np.median(found.per_token("rejected")) + 1
    if loaded.adapter:
        with loaded.model.disable_adapter():
            base = pair_likelihoods(loaded, made, others=0)
        assert np.abs(base.logp["chosen"] - found.logp["chosen"]).min() > 0.01


def test_log_probabilities_are_those_dpotrainer_trains_with(
    models: Callable[[str], LoadedModel], demo: DemoFolder, tmp_path: Path
) -> None:
    import trl
    from datasets import Dataset, disable_progress_bars
    from transformers import AutoModelForCausalLM

    disable_progress_bars()
    loaded, pairs = models("healthy_decoder"), demo_pairs(demo)
    folder = demo.cases["healthy_decoder"].checkpoint
    for mode in ("keep_start", "keep_end"):
        trainer = trl.DPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(folder),
            args=trl.DPOConfig(
                str(tmp_path), precompute_ref_log_probs=True, max_length=18, truncation_mode=mode, use_cpu=True, bf16=False,
                report_to=[], gradient_checkpointing=False, per_device_train_batch_size=5, dataloader_pin_memory=False,
            ),
            train_dataset=Dataset.from_list([
                {"prompt": p.prompt, "chosen": [{"role": "assistant", "content": p.chosen}],
                 "rejected": [{"role": "assistant", "content": p.rejected}], "position": n}
                for n, p in enumerate(pairs)
            ]),
            processing_class=loaded.tokenizer,
        )  # fmt: skip
        made = tokenised(loaded, pairs, max_length=18, truncation_mode=mode)
        found = pair_likelihoods(loaded, made, others=0, ches=False)
        theirs = trainer.train_dataset
        assert found.positions.tolist() == list(theirs["position"])
        assert (len(found) < len(pairs)) == (mode == "keep_start")
        for side in SIDES:
            assert np.allclose(found.logp[side], theirs[f"ref_{side}_logps"], rtol=1e-4, atol=1e-3)


def test_without_a_prompt_the_first_token_is_context(models: Callable[[str], LoadedModel]) -> None:
    loaded = models("healthy_decoder")
    made = tokenised(loaded, [Pair(asked(""), "a b c d", "e f g h")], layout="trl")
    assert made[0].prompt == ()
    found = pair_likelihoods(loaded, made)
    assert found.tokens["chosen"][0] == len(made[0].chosen or ()) - 1
    ids = made[0].chosen or ()
    assert found.logp["chosen"][0] == pytest.approx(Plain(loaded).answer(ids[:1], ids[1:])[0], rel=1e-4)
    assert np.isnan(found.others["rejected"]).all() and (found.other_positions == -1).all()
    assert np.isnan(found.gain_of_own_prompt("rejected")).all()


def test_an_answer_gains_from_its_own_prompt_only(models: Callable[[str], LoadedModel], demo: DemoFolder) -> None:
    """The chosen answers belong to their prompts; the rejected ones are those of other rows."""
    loaded = models("healthy_decoder")
    pairs = [pair for n, pair in enumerate(demo_pairs(demo, 48)) if n % 4]
    found = pair_likelihoods(loaded, tokenised(loaded, pairs), others=3, others_for=SIDES)
    assert set(found.others) == set(SIDES)
    assert np.median(found.gain_of_own_prompt("chosen")) > 1 > np.median(np.abs(found.gain_of_own_prompt("rejected")))


def test_other_prompts_are_in_the_same_writing_system(models: Callable[[str], LoadedModel]) -> None:
    loaded = models("healthy_decoder")
    questions = ["Which colour?", "What animal?", "Who sings?", "什么颜色？", "什么动物？", "谁在唱歌？", "谁在唱歌？"]
    found = pair_likelihoods(loaded, tokenised(loaded, [Pair(asked(q), "a", "b") for q in questions]))
    latin = {0, 1, 2}
    for position, others in zip(found.positions.tolist(), found.other_positions.tolist(), strict=True):
        tried = {other for other in others if other >= 0}
        assert tried <= (latin if position in latin else {3, 4, 5, 6}) and len(tried) == 2
        assert all(questions[other] != questions[position] for other in tried)


def test_one_prompt_for_all_rows_leaves_nothing_to_swap(models: Callable[[str], LoadedModel]) -> None:
    loaded = models("healthy_decoder")
    found = pair_likelihoods(loaded, tokenised(loaded, [Pair(asked("Which?"), "a", f"{n}") for n in range(3)]))
    assert np.isnan(found.others["rejected"]).all() and np.isfinite(found.logp["rejected"]).all()


def test_ches_tells_alike_pairs_from_unlike_ones(models: Callable[[str], LoadedModel], demo: DemoFolder) -> None:
    loaded = models("healthy_decoder")
    pairs = [pair for n, pair in enumerate(demo_pairs(demo)) if n % 4]
    same = [replace(pair, rejected=pair.chosen) for pair in pairs]
    near = [replace(pair, rejected=f"{pair.chosen}!") for pair in pairs]
    by_length = [
        pair_likelihoods(loaded, tokenised(loaded, rows), others=0).ches_by_length for rows in (same, near, pairs)
    ]  # fmt: skip
    assert np.allclose(by_length[0], 0, atol=1e-6)
    assert np.median(by_length[1]) > np.median(by_length[2])


def test_a_bounded_sample_in_order_and_the_same_again(models: Callable[[str], LoadedModel], demo: DemoFolder) -> None:
    loaded = models("healthy_decoder")
    made = tokenised(loaded, [*demo_pairs(demo), Pair(asked("Which?"), "a", None), Pair([], "a", "b")])
    one, two = (pair_likelihoods(loaded, iter(made), max_pairs=10, seed=4) for _ in range(2))
    assert len(one) == 10 and one.offered == 24 and one.left_out == {"one_side_only": 1, "empty_prompt": 1}
    assert one.positions.tolist() == sorted(one.positions.tolist()) == two.positions.tolist()
    for side in SIDES:
        assert np.array_equal(one.logp[side], two.logp[side])
    assert np.array_equal(one.other_positions, two.other_positions)
    whole = pair_likelihoods(loaded, made)
    assert np.allclose(whole.logp["chosen"][one.positions], one.logp["chosen"], rtol=1e-4)


def test_nothing_to_ask_about(models: Callable[[str], LoadedModel]) -> None:
    found = pair_likelihoods(models("healthy_decoder"), [])
    assert len(found) == 0 and found.others["rejected"].shape == (0, 2) and found.ches.shape == (0,)


def test_progress_and_cancel(models: Callable[[str], LoadedModel], demo: DemoFolder) -> None:
    loaded = models("healthy_decoder")
    made, told = tokenised(loaded, demo_pairs(demo)), list[tuple[int, int]]()
    cancel = threading.Event()
    pair_likelihoods(loaded, made, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (24 * 4, 24 * 4) and [done for done, _ in told] == sorted(done for done, _ in told)
    assert {total for _, total in told} == {24 * 4} and len(told) > 1
    with pytest.raises(NotScored) as stopped:
        pair_likelihoods(loaded, made, cancel=cancel, progress=lambda done, total: cancel.set())
    assert stopped.value.reason == "cancelled"


@pytest.fixture(scope="module")
def short_model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A model with 512 positions."""
    folder = train(tmp_path_factory.mktemp("short"), "llama", steps=1)
    return load_model(open_checkpoint(str(folder)))


def test_more_tokens_than_positions(short_model: LoadedModel) -> None:
    pairs = [Pair(asked("Which?"), "a", "b"), Pair(asked("a 1 b 2 " * 60), "a", "a 1 b 2 " * 60), Pair(asked("Who?"), "c", "d")]
    made = tokenised(short_model, pairs, max_length=None)
    assert len(made[1].prompt) < 512 < piece_of(made[1], "rejected").length
    found = pair_likelihoods(short_model, made)
    assert found.positions.tolist() == [0, 2] and found.left_out == {"too_long": 1}
    cut = pair_likelihoods(short_model, tokenised(short_model, pairs, max_length=512))
    assert cut.positions.tolist() == [0, 1, 2]
    assert set(cut.other_positions[1].tolist()) == {0, 2} and np.isfinite(cut.others["rejected"][1]).all()
    # the long prompt in front of a short answer fits as well
    assert np.isfinite(cut.others["rejected"]).all()


def test_ids_of_another_vocabulary(short_model: LoadedModel) -> None:
    alien = TokenisedPair(Pair(asked("Which?"), "a", "b"), 0, (1, 2), (10**6,), (3,))
    with pytest.raises(NotScored) as refused:
        pair_likelihoods(short_model, [alien])
    assert refused.value.reason == "ids_beyond_embedding"


def test_long_answers_are_scored_in_parts(
    models: Callable[[str], LoadedModel], demo: DemoFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound on logits splits one answer; what comes out stays the same."""
    import pipeline.score_answers as module

    loaded = models("healthy_decoder")
    made = tokenised(loaded, demo_pairs(demo))
    whole = pair_likelihoods(loaded, made)
    table = dict(module.load_config("prompt_formats.yaml"), max_logits=3 * loaded.vocabulary)
    monkeypatch.setattr(module, "load_config", lambda name: table)
    parts = pair_likelihoods(loaded, made)
    for side in SIDES:
        assert np.allclose(whole.logp[side], parts.logp[side], rtol=1e-4, atol=1e-4)
        assert np.array_equal(whole.tokens[side], parts.tokens[side])
    assert np.allclose(whole.ches, parts.ches, rtol=1e-3, atol=1e-2)
    pieces = [piece_of(one, "chosen") for one in made]
    in_parts = module.score_answers(loaded, pieces, entropy=True, end=True, end_ids=[1, 2])
    monkeypatch.undo()
    at_once = module.score_answers(loaded, pieces, entropy=True, end=True, end_ids=[1, 2])
    for part, one in zip(in_parts, at_once, strict=True):
        assert part.hits == one.hits and part.end == pytest.approx(one.end, abs=1e-4)
        assert part.nats == pytest.approx(one.nats, abs=1e-3) and part.entropy == pytest.approx(one.entropy, abs=1e-3)
