"""Beams equal those of transformers where it has them; diverse groups differ."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from candidate_rows import source_rows

from pipeline.candidates.beam_search import Beam, beam_candidates
from pipeline.candidates.candidate import Cancelled
from pipeline.candidates.prompting import Prompt
from pipeline.demo.build import DemoFolder
from pipeline.load_model import LoadedModel
from pipeline.refusal import Refused
from pipeline.sample_answers import GenerationFailed, stop_ids

VOCABULARY = 60
EOS = 1


def _random_model(kind: str) -> LoadedModel:
    import torch
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        LlamaConfig,
        LlamaForCausalLM,
        PreTrainedTokenizerFast,
        T5Config,
        T5ForConditionalGeneration,
    )

    torch.set_num_threads(1)
    torch.manual_seed(3)
    ends: Any = {"eos_token_id": EOS, "pad_token_id": 0}
    if kind == "llama":
        model: Any = LlamaForCausalLM(LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=128, initializer_range=0.4, **ends))  # fmt: skip
    elif kind == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(
            vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=128, initializer_range=0.3, **ends))  # fmt: skip
    else:
        model = T5ForConditionalGeneration(T5Config(
            vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=0,
            **ends))  # fmt: skip
    with torch.no_grad():  # an end that comes at times, so that finished and running beams compete
        head = model.get_output_embeddings()
        head.bias = torch.nn.Parameter(torch.zeros(VOCABULARY))
        head.bias[EOS] += {"llama": 1.0, "gpt2": 3.0, "t5": 1.0}[kind]
    return LoadedModel(
        model.eval(), _tokenizer(PreTrainedTokenizerFast), kind == "t5", "cpu", "float32", "float32"
    )


def _tokenizer(make: Any) -> Any:
    from tokenizers import Tokenizer, models

    words = {"<pad>": 0, "</s>": EOS, **{f"w{i}": i for i in range(2, VOCABULARY)}}
    return make(tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w2")), pad_token="<pad>", eos_token="</s>")


@pytest.fixture(scope="module", params=["llama", "gpt2", "t5"])
def loaded(request: pytest.FixtureRequest) -> LoadedModel:
    return _random_model(request.param)


def _prompts(count: int) -> list[Prompt]:
    from random import Random

    random = Random(5)
    return [
        Prompt(tuple(random.randrange(2, VOCABULARY) for _ in range(random.randint(1, 9))), "", "") for _ in range(count)
    ]


def _of_transformers(loaded: LoadedModel, prompt: Prompt, **settings: Any) -> list[Beam]:
    """What `generate` finds, with its scores."""
    import torch

    ids = torch.tensor([prompt.ids])
    made = loaded.core.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), return_dict_in_generate=True, output_scores=True,
        do_sample=False, **settings,
    )  # fmt: skip
    first = 1 if loaded.is_encoder_decoder else ids.shape[1]
    beams = []
    for row, score in zip(made.sequences[:, first:].tolist(), made.sequences_scores.tolist(), strict=True):
        ended = EOS in row
        kept = row[: row.index(EOS) + 1] if ended else row[: settings["max_new_tokens"]]
        beams.append(Beam(tuple(kept), ended, score))
    return beams


@pytest.mark.parametrize(
    "settings",
    [
        {"num_beams": 4, "num_return_sequences": 4},
        {"num_beams": 3, "num_return_sequences": 2, "length_penalty": 0.6, "early_stopping": True},
        {"num_beams": 5, "num_return_sequences": 5, "length_penalty": 1.2, "early_stopping": "never"},
        {"num_beams": 3, "num_return_sequences": 3, "no_repeat_ngram_size": 2, "repetition_penalty": 1.3},
    ],
    ids=["plain", "early", "never", "penalties"],
)
def test_one_group_equals_transformers_in_every_row(loaded: LoadedModel, settings: dict[str, Any]) -> None:
    prompts = _prompts(12)
    found = beam_candidates(loaded, prompts, max_new_tokens=12, **settings)
    ended = 0
    for prompt, beams in zip(prompts, found, strict=True):
        wanted = _of_transformers(loaded, prompt, max_new_tokens=12, **settings)
        assert [(b.ids, b.ended) for b in beams] == [(b.ids, b.ended) for b in wanted]
        assert [b.score for b in beams] == pytest.approx([b.score for b in wanted], abs=1e-6)
        ended += sum(b.ended for b in beams)
    assert ended > 0, "the comparison has to meet answers that end"


def test_groups_begin_differently(loaded: LoadedModel) -> None:
    prompts = _prompts(8)
    plain = beam_candidates(loaded, prompts, num_beams=6, num_return_sequences=6, max_new_tokens=10)
    found = beam_candidates(
        loaded, prompts, num_beams=6, num_return_sequences=6, num_beam_groups=3, diversity_penalty=50.0,
        max_new_tokens=10,
    )  # fmt: skip
    firsts = []
    for beams in found:
        by_group = {g: {b.ids[0] for b in beams if b.group == g} for g in range(3)}
        assert all(by_group.values()), "each group gives answers"
        assert not by_group[0] & by_group[1] and not by_group[2] & (by_group[0] | by_group[1])
        assert [b.group for b in beams[:3]] == [0, 1, 2], "the best of each group comes first"
        firsts.append(len(set.union(*by_group.values())))
    assert sum(firsts) > sum(len({b.ids[0] for b in beams}) for beams in plain)


def test_first_group_is_plain_beam_search(loaded: LoadedModel) -> None:
    """The groups after it are kept from its tokens, it from nobody's."""
    prompts = _prompts(5)
    grouped = beam_candidates(
        loaded, prompts, num_beams=6, num_return_sequences=6, num_beam_groups=2, diversity_penalty=0.7,
        max_new_tokens=10,
    )  # fmt: skip
    plain = beam_candidates(loaded, prompts, num_beams=3, num_return_sequences=3, max_new_tokens=10)
    assert [[b.ids for b in beams if b.group == 0] for beams in grouped] == [[b.ids for b in b3] for b3 in plain]


def test_groups_follow_the_definition() -> None:
    """Against a search written out: one beam a group, every token by scores less the penalty for tokens taken."""
    import torch

    loaded = _random_model("llama")
    prompt, penalty, groups = _prompts(3)[2], 1.5, 3
    rows: list[list[int]] = [[] for _ in range(groups)]
    with torch.inference_mode():
        for _ in range(6):
            taken: list[int] = []
            for row in rows:
                if EOS in row:
                    continue
                ids = torch.tensor([[*prompt.ids, *row]])
                scores = torch.log_softmax(loaded.core(ids).logits[0, -1], -1)
                for token in taken:
                    scores[token] -= penalty
                # one beam goes on with the best token that doesn't end it, as it might still win
                row.append(int(scores.argmax()))
                taken.append(row[-1])
    found = beam_candidates(
        loaded, [prompt], num_beams=groups, num_return_sequences=groups, num_beam_groups=groups,
        diversity_penalty=penalty, length_penalty=0.0, early_stopping=True, max_new_tokens=6,
    )[0]  # fmt: skip
    assert [list(beam.ids) for beam in found] == rows


def test_a_row_does_not_depend_on_its_neighbours(loaded: LoadedModel) -> None:
    prompts = _prompts(6)
    settings: dict[str, Any] = {
        "num_beams": 4, "num_return_sequences": 4, "num_beam_groups": 2, "diversity_penalty": 0.5, "max_new_tokens": 8,
    }  # fmt: skip
    together = beam_candidates(loaded, prompts, **settings)
    assert together == [beam_candidates(loaded, [prompt], **settings)[0] for prompt in prompts]


def test_settings_of_the_files_change_nothing(loaded: LoadedModel) -> None:
    from transformers import GenerationConfig

    prompts = _prompts(2)
    before = beam_candidates(loaded, prompts, num_beams=3, num_return_sequences=3, max_new_tokens=8)
    own = loaded.core.generation_config
    loaded.core.generation_config = GenerationConfig(
        do_sample=True, temperature=3.0, num_beams=7, max_length=2, repetition_penalty=5.0, eos_token_id=EOS,
        pad_token_id=0, decoder_start_token_id=0,
    )  # fmt: skip
    try:
        assert beam_candidates(loaded, prompts, num_beams=3, num_return_sequences=3, max_new_tokens=8) == before
        assert loaded.core.generation_config.num_beams == 7
    finally:
        loaded.core.generation_config = own


def test_numbers_that_do_not_go_together(loaded: LoadedModel) -> None:
    prompts = _prompts(1)
    for wrong, said in (
        ({"num_beams": 2, "num_return_sequences": 3}, "3 candidates from 2 beams"),
        ({"num_beams": 4, "num_return_sequences": 4, "num_beam_groups": 3, "diversity_penalty": 1.0}, "4 beams in 3"),
        ({"num_beams": 4, "num_return_sequences": 4, "num_beam_groups": 2}, "diversity_penalty above 0"),
    ):
        with pytest.raises(Refused, match=said):
            beam_candidates(loaded, prompts, max_new_tokens=4, **wrong)


def test_cancel_and_failure(loaded: LoadedModel) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        beam_candidates(loaded, _prompts(1), num_beams=2, num_return_sequences=2, max_new_tokens=4, cancel=stop)
    with pytest.raises(GenerationFailed):
        beam_candidates(
            loaded, [Prompt((VOCABULARY + 5,), "", "")], num_beams=2, num_return_sequences=2, max_new_tokens=4
        )
    before = loaded.core.generation_config
    assert stop_ids(loaded.core) == (EOS,) and loaded.core.generation_config is before


def test_beams_of_the_demo(demo: DemoFolder) -> None:
    """Beams of a sound model: the first ones answer."""
    from pipeline.candidates.prompting import choose_prompting
    from pipeline.checkpoint import open_checkpoint
    from pipeline.demo.instructions import all_questions, is_right
    from pipeline.load_model import load_model

    case = demo.cases["healthy_decoder"]
    checkpoint = open_checkpoint(str(case.checkpoint))
    loaded = load_model(checkpoint)
    questions = {q.prompt: q for q in all_questions()}
    rows = source_rows(case.held_out_file, 12)
    with choose_prompting(loaded, checkpoint, rows, format="declared") as prompting:
        prompts = [p for p in prompting.prompts(rows, new_tokens=32) if isinstance(p, Prompt)]
    found = beam_candidates(
        loaded, prompts, num_beams=4, num_return_sequences=4, num_beam_groups=4, diversity_penalty=1.0,
        max_new_tokens=32,
    )  # fmt: skip
    best = [loaded.tokenizer.decode(beams[0].ids, skip_special_tokens=True) for beams in found]
    right = [is_right(questions[row.question], text) for row, text in zip(rows, best, strict=True)]
    assert sum(right) >= 9
    assert sum(len({b.ids for b in beams}) > 1 for beams in found) >= 6, "groups part where there is another wording"
