"""What `generate` makes of the demo's models: every strategy answers, and what is chosen is on topic and never right.

Whether an answer is right and on topic is told by the demo's own tasks, not by anything the choice was made by.
"""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.__main__ import main
from pipeline.demo.build import DemoFolder
from pipeline.demo.instructions import KINDS, OPPOSITES, Question, all_questions, is_right

QUESTIONS = {question.prompt: question for question in all_questions()}
ROWS = 70
BY_MODEL = ("greedy", "sampling", "beam", "diverse_beam")
ALTERED = ("cut_short", "drop_items", "change_numbers", "swap_entities", "opposite_words", "irrelevant_ending",
           "wrong_language", "near_answer", "random_answer", "repeat", "vague")  # fmt: skip


def _on_topic(question: Question, gold: str, answer: str) -> bool:
    """It names something that the question is about, or is the right answer with a part exchanged."""
    side = 0 if question.language == "zh" else 1
    low = answer.lower()
    if question.task == "sum":
        return any(character.isdigit() for character in answer)
    if question.task == "opposite":
        about = {word for row in OPPOSITES for word in row[2 * side : 2 * side + 2]}
    elif question.task == "kind":
        about = {kind[0] if side == 0 else kind[1] for kind in KINDS.values()}
    elif question.task == "translate":
        about = {pair[1 - side] for *_, pairs in KINDS.values() for pair in pairs}
    else:
        about = {pair[side] for pair in KINDS[question.kind][3]}
    return any(word in low for word in about) or difflib.SequenceMatcher(None, gold, answer).ratio() >= 0.55


@pytest.fixture(autouse=True)
def quiet(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    yield
    capsys.readouterr()


def _generate(demo: DemoFolder, model: str, output: Path, *options: str) -> list[dict[str, Any]]:
    folder = demo.root / model
    status = main(
        ["generate", "--model", str(folder), "--data", str(demo.root / "data" / "held_out.jsonl"), "--output",
         str(output), "--max-samples", str(ROWS), "--max-new-tokens", "48", "--seed", "3", *options]
    )  # fmt: skip
    assert status == 0
    beside = Path(f"{output}.candidates.jsonl")
    return [json.loads(line) for line in beside.read_text(encoding="utf-8").splitlines()]


def _strategies(*names: str) -> list[str]:
    return [word for name in names for word in ("--strategy", name)]


@pytest.mark.parametrize("model", ["healthy_t5", "healthy_decoder"])
def test_every_strategy_answers_and_rejects_are_on_topic_and_never_right(
    demo: DemoFolder, tmp_path: Path, model: str
) -> None:
    base = demo.root / ("base_t5" if model.endswith("t5") else "base_decoder")
    asked = _strategies(
        "greedy", "sampling:n=2,temperature=0.7/1.2", "beam:n=1,num_beams=3",
        "diverse_beam:n=2,num_beams=2,num_beam_groups=2,diversity_penalty=1.0", f"greedy:model={base}", *ALTERED,
    )  # fmt: skip
    candidates = _generate(demo, model, tmp_path / "out.json", *asked, "--choose", "on_topic")
    answered = Counter(one["strategy"] for one in candidates if one["problem"] is None)
    for name in (*BY_MODEL, *ALTERED):
        assert answered[name] > 0, name
    assert {one["row"] for one in candidates} == set(range(ROWS))

    pairs = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert len(pairs) >= 0.75 * ROWS
    strange, right = [], []
    for pair in pairs:
        question = QUESTIONS[pair["instruction"]]
        if is_right(question, pair["rejected"]):
            right.append(pair)
        if not _on_topic(question, pair["chosen"], pair["rejected"]):
            strange.append(pair)
    assert not right
    assert len(strange) <= 0.05 * len(pairs), strange


def test_the_sick_models_answers_are_known_to_be_off_topic(demo: DemoFolder, tmp_path: Path) -> None:
    sick = _generate(demo, "off_topic_t5", tmp_path / "sick.json", "--strategy", "greedy", "--strategy", "sampling")
    sound = _generate(demo, "healthy_t5", tmp_path / "sound.json", "--strategy", "greedy", "--strategy", "sampling")

    def share(found: list[dict[str, Any]]) -> float:
        told = [one["measures"]["on_topic"] for one in found if one["problem"] is None]
        return sum(verdict is True for verdict in told) / len(told)

    assert share(sound) > 0.9
    assert share(sick) < 0.35
    off = [one for one in sick if one["problem"] is None and one["measures"]["on_topic"] is False]
    assert len(off) > 0.4 * len(sick)
