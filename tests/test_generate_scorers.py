"""`generate` with reward functions, a reward model and an embedding model, as they are named on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from openai_server import openai_server, prompt_of
from test_reward_scorer import llama_config, saved
from tiny_answering_models import ROWS, write_rows
from tiny_answering_models import _tokenizer as tiny_tokenizer

from pipeline.__main__ import main
from pipeline.candidates.candidate import SourceRow
from pipeline.candidates.reward_scorer import RewardScorer
from pipeline.checkpoint import open_checkpoint
from pipeline.load_model import load_model
from pipeline.pairs.pair import Pair

SUMS = [(f"What is {n} plus {n + 1}?", str(2 * n + 1)) for n in range(1, 9)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A reward model and an encoder, both with random weights."""
    import torch
    from transformers import BertConfig, BertModel, LlamaForSequenceClassification

    torch.manual_seed(5)
    rows, root = len(tiny_tokenizer()), tmp_path_factory.mktemp("scorers")
    bert = BertConfig(vocab_size=rows, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4,
                      max_position_embeddings=128)  # fmt: skip
    reward = LlamaForSequenceClassification(llama_config(rows, num_labels=1, pad_token_id=0))
    return {"reward": saved(reward, root / "reward"), "embedding": saved(BertModel(bert), root / "embedding", None, None)}


def generate(*argv: object) -> int:
    return main(["generate", *map(str, argv)])


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def sums(body: Any) -> str:
    """Right for every other candidate, by a number in words of its own."""
    question = next(one for one in SUMS if one[0] in prompt_of(body))
    number = body["seed"] % 1000
    return f"It is {question[1]}." if number % 2 else f"It is {int(question[1]) + 10 + number}."


@pytest.mark.parametrize("reward", ["number", "exact_answer", r"regex:(\d+)\D*$"])
@pytest.mark.parametrize("policy", ["best_of_n", "worst_of_n"])
def test_reward_functions_choose(tmp_path: Path, reward: str, policy: str) -> None:
    write_rows(tmp_path / "sums.json", SUMS)
    output = tmp_path / "out.jsonl"

    def answer(body: Any) -> str:
        return sums(body).removeprefix("It is ").rstrip(".") if reward == "exact_answer" else sums(body)

    with openai_server(answer=answer) as server:
        assert generate("--model", server.url, "--data", tmp_path / "sums.json", "--output", output, "--strategy",
                        "endpoint:n=4", "--reward", reward, "--choose", policy) == 0  # fmt: skip
    pairs, right = lines(output), dict(SUMS)
    assert len(pairs) == len(SUMS)
    for pair in pairs:
        gold = right[pair["instruction"]]
        assert gold in pair["chosen"] and gold not in pair["rejected"].split(".")[0].split()
        if policy == "worst_of_n":
            assert pair["chosen"] == gold


def test_a_reward_model_chooses(tmp_path: Path, models: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """The scores are those of the scorer alone; the best of a row is chosen, the worst rejected."""
    data, output = write_rows(tmp_path / "rows.json", ROWS[:6]), tmp_path / "out.jsonl"
    with openai_server() as server:
        options = ("--model", server.url, "--data", data, "--output", output, "--strategy", "endpoint:n=4", "--reward",
                   models["reward"], "--embedding-model", models["embedding"], "--device", "cpu")  # fmt: skip
        assert generate(*options, "--choose", "best_of_n:same_script=ignored,on_topic=ignored") == 0
        assert capsys.readouterr().err == ""
        kept = lines(tmp_path / "out.jsonl.candidates.jsonl")
        assert generate(*options, "--choose", "worst_of_n:same_script=ignored,on_topic=ignored", "--choose-only") == 0
    rewards: dict[int, dict[str, float]] = {}
    for one in kept:
        rewards.setdefault(one["row"], {})[one["text"]] = one["measures"]["reward"]
        assert -1 <= one["measures"]["embedding_similarity"] <= 1
    with RewardScorer(load_model(open_checkpoint(str(models["reward"])), head="reward")) as scorer:
        for row, (question, _) in enumerate(ROWS[:6]):
            asked = SourceRow(row, Pair([{"role": "user", "content": question}], None, None))
            assert scorer.score(asked, list(rewards[row])) == pytest.approx(list(rewards[row].values()), abs=1e-3)
    chosen = [one for one in kept if one["choice"] == "chosen"]
    assert len(chosen) >= 5 and all(one["measures"]["reward"] == max(rewards[one["row"]].values()) for one in chosen)
    for pair in lines(output):  # of worst_of_n, against the data's answer
        row = [question for question, _ in ROWS].index(pair["instruction"])
        worst = min(rewards[row].values())
        assert pair["chosen"] == ROWS[row][1] and rewards[row][pair["rejected"]] == worst


@pytest.mark.parametrize("option", ["--reward", "--embedding-model"])
def test_a_scorer_that_is_none_is_told_before_a_row_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    data = write_rows(tmp_path / "rows.json", ROWS[:3])
    (tmp_path / "folder").mkdir()
    with openai_server() as server:
        for path, says in ((tmp_path / "nowhere", "no such file or folder"), (tmp_path / "folder", f"{option} {tmp_path / 'folder'}: ")):
            options = ("--model", server.url, "--data", data, "--output", tmp_path / "out.jsonl", option, path)
            assert generate(*options) == 2
            told = capsys.readouterr()
            assert told.out == "" and told.err.count("\n") == 1 and says in told.err
        assert not server.requests
