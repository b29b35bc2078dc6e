"""Files we export are loaded with `datasets` and trained on by the installed TRL: one real step each, in this process."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pipeline.demo.build import DemoFolder
from pipeline.pairs.pair import Pair
from pipeline.pairs.write_pairs import write_pairs

SUFFIXES = (".json", ".jsonl", ".parquet")


def asked(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def questions() -> list[Pair]:
    """One question and one text on each side, with all a pair can carry beside them."""
    rows = [
        ("Which colour has a ripe banana?", "A ripe banana is yellow.", "Red."), ("列出2种水果。", "苹果、香蕉", "汽车"),
        ("What is 3 plus 3?", "6", ""), ("  Spaces, \"quotes\",\nand a line\t", "🍌 yes\n", "no"),
    ]  # fmt: skip
    return [
        Pair(asked(q), a, b, id=f"row-{n}", score_chosen=0.9, score_rejected=0.1, source={"chosen": {"strategy": "greedy"}},
             flags=["checked"], extra={"topic": "fruit", "weight": n})
        for n, (q, a, b) in enumerate(rows)
    ]  # fmt: skip


def conversations() -> list[Pair]:
    """A system text, earlier turns, and an answer of several turns."""
    earlier = [*asked("Which colour has a banana?"), {"role": "assistant", "content": "Yellow."}, *asked("And a cherry?")]
    more = [{"role": "assistant", "content": "Red."}, *asked("Sure?"), {"role": "assistant", "content": "Yes."}]
    return [
        *questions(), Pair(earlier, "Red.", "Blue.", system="Answer in one word.", id="with system"),
        Pair(asked("What colour has a cherry?"), more, "Blue.", id="several turns"),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """An exported file as `datasets` loads it."""
    from datasets import disable_progress_bars, load_dataset

    disable_progress_bars()
    root = tmp_path_factory.mktemp("exported")

    def load(format: str, suffix: str, pairs: list[Pair]) -> Any:
        path = root / f"{len(list(root.iterdir()))}{suffix}"
        report = write_pairs(pairs, path, format)
        assert report.rows == len(pairs) and not report.left_out
        kind = {".jsonl": "json"}.get(suffix, suffix[1:])
        rows = load_dataset(kind, data_files=str(path), split="train", cache_dir=str(root / "cache"))
        assert len(rows) == len(pairs) * (2 if format == "kto" else 1)
        return rows

    return load


@pytest.fixture(scope="module")
def step(demo: DemoFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., None]]:
    """One optimizer step of a trainer of TRL on the demo's decoder."""
    import torch
    import trl
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    folder = demo.cases["healthy_decoder"].checkpoint
    output = tmp_path_factory.mktemp("trained")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def train(name: str, rows: Any, **settings: Any) -> None:
        kind = AutoModelForSequenceClassification if name == "Reward" else AutoModelForCausalLM
        model = kind.from_pretrained(folder, **({"num_labels": 1} if name == "Reward" else {}))
        before = [parameter.detach().clone() for parameter in model.parameters()]
        trainer = getattr(trl, f"{name}Trainer")(
            model=model,
            args=getattr(trl, f"{name}Config")(
                str(output), max_steps=1, per_device_train_batch_size=len(rows), learning_rate=1e-3, logging_steps=1,
                save_strategy="no", report_to=[], use_cpu=True, bf16=False, gradient_checkpointing=False,
                dataloader_pin_memory=False, disable_tqdm=True, **settings,
            ),
            train_dataset=rows,
            processing_class=AutoTokenizer.from_pretrained(folder),
        )  # fmt: skip
        assert len(trainer.train_dataset) == len(rows)  # no row was filtered away
        trainer.train()
        logged = [row["loss"] for row in trainer.state.log_history if "loss" in row]
        assert len(logged) == 1 and math.isfinite(logged[0]) and logged[0] > 0
        moved = [not torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True)]
        assert any(moved) and all(bool(torch.isfinite(p).all()) for p in trainer.model.parameters())

    yield train
    torch.set_num_threads(threads)


@pytest.mark.parametrize(("format", "pairs"), [
    ("trl", questions()), ("trl-conversational", conversations()), ("trl-implicit", conversations()),
], ids=lambda value: value if isinstance(value, str) else "")  # fmt: skip
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_dpo(
    format: str, pairs: list[Pair], suffix: str, loaded: Callable[..., Any], step: Callable[..., None]
) -> None:
    step("DPO", loaded(format, suffix, pairs))


@pytest.mark.parametrize(("format", "pairs"), [
    ("trl", questions()), ("trl-conversational", conversations()), ("trl-implicit", conversations()),
], ids=lambda value: value if isinstance(value, str) else "")  # fmt: skip
def test_reward_model(
    format: str, pairs: list[Pair], loaded: Callable[..., Any], step: Callable[..., None]
) -> None:
    step("Reward", loaded(format, ".jsonl", pairs))


# KTO rows and two columns are text where all pairs can be, else messages; the second list has pairs of both kinds.
@pytest.mark.parametrize("pairs", [questions(), conversations()], ids=["text", "messages"])
@pytest.mark.parametrize("suffix", SUFFIXES[1:])
def test_kto(pairs: list[Pair], suffix: str, loaded: Callable[..., Any], step: Callable[..., None]) -> None:
    rows = loaded("kto", suffix, pairs)
    assert isinstance(rows[0]["prompt"], str) == (len(pairs) == len(questions()))
    step("KTO", rows)


@pytest.mark.parametrize(("format", "pairs"), [
    ("messages", conversations()), ("prompt-completion", questions()), ("prompt-completion", conversations()),
], ids=["messages", "text", "columns of messages"])  # fmt: skip
@pytest.mark.parametrize("suffix", SUFFIXES[1:])
def test_sft(
    format: str, pairs: list[Pair], suffix: str, loaded: Callable[..., Any], step: Callable[..., None]
) -> None:
    step("SFT", loaded(format, suffix, pairs))


def test_a_table_of_text(loaded: Callable[..., Any], step: Callable[..., None]) -> None:
    """A CSV holds no empty text: `datasets` reads one as absent."""
    pairs = [pair for pair in questions() if pair.rejected]
    rows = loaded("trl", ".csv", pairs)
    for side in ("chosen", "rejected"):
        assert list(rows[side]) == [getattr(pair, side) for pair in pairs]
    assert list(rows["prompt"]) == [pair.prompt[0]["content"] for pair in pairs]
    step("DPO", rows)
