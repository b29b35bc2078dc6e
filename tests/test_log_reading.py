"""Logs as people paste and print them: cards, tables, hand-made names, records over several lines, and what is no log."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.logs.log_messages import MessageCounter
from pipeline.logs.pasted_table import pasted_table
from pipeline.logs.read_log import read_log
from pipeline.logs.row_collector import RowCollector
from pipeline.logs.text_lines import TextLines
from pipeline.logs.training_log import TrainingLog


def read(folder: Path, text: str, name: str = "run.txt") -> TrainingLog:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return read_log([path], remembered=())


def values(log: TrainingLog, name: str) -> list[float]:
    return log.curves[name].values.tolist()


def steps(log: TrainingLog, name: str = "loss") -> list[float]:
    return log.steps_of(log.curves[name]).tolist()


# --- tables within a text ---

CARD = """---
license: mit
tags: [trl, dpo]
---
# tuned-model

It achieves the following results on the evaluation set:
- Loss: 0.5
- Rewards/chosen: 0.25

### Training hyperparameters
- learning_rate: 5e-07
- num_epochs: 2

### Training results

| Training Loss | Epoch | Step | Validation Loss | Rewards/chosen | Rewards/accuracies |
|:-------------:|:-----:|:----:|:---------------:|:--------------:|:------------------:|
| No log        | 0.5   | 50   | 0.65            | 0.05           | 0.55               |
| 0.6           | 1.0   | 100  | 0.55            | -0.1           | 0.65               |
| **0.4**       | 2.0   | 200  | **0.5**         | 0.25           | 0.7                |

### Framework versions
- TRL 0.9
"""


def test_model_card(tmp_path: Path) -> None:
    log = read(tmp_path, CARD, "README.md")
    assert (values(log, "loss"), steps(log)) == ([0.6, 0.4], [100, 200])
    assert (values(log, "eval_loss"), steps(log, "eval_loss")) == ([0.65, 0.55, 0.5], [50, 100, 200])
    assert values(log, "eval_rewards/chosen") == [0.05, -0.1, 0.25]
    assert values(log, "eval_rewards/accuracies") == [0.55, 0.65, 0.7]
    assert "rewards/chosen" not in log.curves
    assert log.settings["learning_rate"] == 5e-07
    assert (log.kind, log.records) == ("dpo", 3)


def test_results_of_a_card_without_table_are_one_evaluation(tmp_path: Path) -> None:
    log = read(tmp_path, CARD.split("### Training results")[0], "README.md")
    assert {name: values(log, name) for name in log.curves} == {"eval_loss": [0.5], "eval_rewards/chosen": [0.25]}
    assert log.records == 1


TABLES = {
    "behind a sentence": "The run took an hour.\n\n| Step | Training Loss |\n|---|---|\n| 10 | 2.5 |\n| 20 | **2.25** |\n| 30 | 2.0 |\n",
    "borders": "+------+---------------+\n| Step | Training Loss |\n+------+---------------+\n| 10   | 2.5           |\n"
    "| 20   | 2.25          |\n| 30   | 2.0           |\n+------+---------------+\n",
    "box": "Training\n┌──────┬──────┐\n│ Step │ Loss │\n├──────┼──────┤\n│ 10   │ 2.5  │\n│ 20   │ 2.25 │\n│ 30   │ 2.0  │\n└──────┴──────┘\n",
    "tabs behind a banner": "==((====))==  Num GPUs = 1\n [30/30 01:02, Epoch 0/1]\nStep\tTraining Loss\n10\t2.5\n20\t2.25\n30\t2.0\n",
    "blanks": "some text\nstep loss lr\n10 2.5 1e-5\n20 2.25 1e-5\n30 2.0 1e-5\nthe end\n",
    "data frame": "    step   loss  lr\n0     10   2.50 1e-5\n1     20   2.25 1e-5\n2     30   2.00 1e-5\n",
    "decimal commas": "Resultados:\n| Época | Paso | Training loss |\n|---|---|---|\n| 1 | 10 | 2,5 |\n| 1 | 20 | 2,25 |\n| 2 | 30 | 2,000 |\n",
    "thousands": "| Step | Loss | Num Tokens |\n|---|---|---|\n| 10 | 2.5 | 1,000 |\n| 20 | 2.25 | 2,000 |\n| 30 | 2.0 | 3,000 |\n",
    "a mean below": "| Step | Loss |\n|---|---|\n| 10 | 2.5 |\n| 20 | 2.25 |\n| 30 | 2.0 |\n| Mean | 2.25 |\n",
}


@pytest.mark.parametrize("kind", TABLES)
def test_table_in_a_text(tmp_path: Path, kind: str) -> None:
    log = read(tmp_path, TABLES[kind])
    assert (values(log, "loss"), steps(log), log.records) == ([2.5, 2.25, 2.0], [10, 20, 30], 3)


def test_column_that_tells_which_rows_are_of_evaluation(tmp_path: Path) -> None:
    text = "| Step | Type | Loss | LR |\n|---|---|---|---|\n| 10 | Train | 0.7 | 1e-5 |\n| 10 | Eval | 0.6 | - |\n| 20 | Train | 0.5 | 1e-5 |\n"
    log = read(tmp_path, text)
    assert (values(log, "loss"), values(log, "eval_loss"), steps(log, "eval_loss")) == ([0.7, 0.5], [0.6], [10])
    assert values(log, "learning_rate") == [1e-5, 1e-5]


def test_notebook_names_with_blanks_around_the_slash(tmp_path: Path) -> None:
    head = "Step\tTraining Loss\trewards / chosen\trewards / rejected\tlogps / chosen\n"
    log = read(tmp_path, head + "1\t0.6931\t0.0\t0.0\t-200\n2\t0.68\t0.02\t-0.01\t-199\n")
    assert (log.kind, values(log, "rewards/chosen"), values(log, "logps/chosen")) == ("dpo", [0.0, 0.02], [-200, -199])


@pytest.mark.parametrize(
    "line", ["| Model | Loss |", "step 10 | loss 2.5 | lr 1e-5", "| Epoch 1 | loss |", "loss | lr", "Step by step"]
)
def test_line_that_is_no_head(line: str) -> None:
    assert pasted_table(line) is None


# --- names of preference training ---

PAIRS = {
    "by hand": "step {n} | train_loss {loss} | lr 1e-6 | chosen_reward {c} | rejected_reward {r} | margin {m} | acc {a}\n",
    "OpenRLHF": "Train:  1%|#  | {n}/30 [00:10<01:00, 1.5s/it, loss={loss}, acc={a}, chosen_reward={c}, reject_reward={r}, margin={m}]\n",
    "Mitchell": "train stats after 64 examples: {{'rewards_train/chosen': '{c}', 'rewards_train/rejected': '{r}', "
    "'rewards_train/accuracies': '{a}', 'rewards_train/margins': '{m}', 'loss/train': '{loss}', 'counters/updates': {n}}}\n",
    "Chinese": "步数: {n} 损失: {loss} 学习率: 1e-6 选中奖励: {c} 拒绝奖励: {r} 奖励差: {m} 准确率: {a}\n",
    "Chinese sentence": "第 {n} 步，损失={loss}，偏好准确率={a}，奖励间隔={m}，选中奖励={c}，拒绝奖励={r}\n",
}


@pytest.mark.parametrize("kind", PAIRS)
def test_preference_names(tmp_path: Path, kind: str) -> None:
    rows = [(10, 0.6931, 0.0, 0.0, 0.0, 0.0), (20, 0.65, 0.1, -0.1, 0.2, 0.75), (30, 0.6, 0.1, -0.3, 0.4, 1.0)]
    log = read(tmp_path, "".join(PAIRS[kind].format(n=n, loss=x, c=c, r=r, m=m, a=a) for n, x, c, r, m, a in rows))
    assert log.kind == "dpo"
    assert (values(log, "loss"), steps(log)) == ([0.6931, 0.65, 0.6], [10, 20, 30])
    assert values(log, "rewards/chosen") == [0.0, 0.1, 0.1]
    assert values(log, "rewards/rejected") == [0.0, -0.1, -0.3]
    assert values(log, "rewards/margins") == [0.0, 0.2, 0.4]
    assert values(log, "rewards/accuracies") == [0.0, 0.75, 1.0]


def test_scores_of_a_reward_model_stay_scores(tmp_path: Path) -> None:
    text = "".join(
        f"step {n} loss 0.6 chosen_reward {0.3 + n / 100} rejected_reward 0.2 acc 0.7\n" for n in (10, 20, 30)
    )
    log = read(tmp_path, text)
    assert log.kind == "reward_model"
    assert "chosen_score" in log.curves and "rewards/chosen" not in log.curves


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        (
            '{"objective/kl": 0.1, "objective/rlhf_reward": -0.5, "objective/scores": -0.4, "loss/policy_avg": -0.01, "episode": 64}',
            "ppo",
        ),
        ('{"current_steps": 10, "total_steps": 30, "loss": 0.2, "reward": 0.4, "lr": 1e-5, "percentage": 3.3}', "ppo"),
        ('{"step": 10, "data": {"loss": 0.69, "rewards/chosen": 0.0, "rewards/rejected": 0.0}}', "dpo"),
        (
            '{"_step": 1, "_runtime": 2.5, "_timestamp": 1700000000.5, "train/loss": 0.69, "train/rewards/chosen": 0.1}',
            "dpo",
        ),
    ],
)
def test_kind_of_records(tmp_path: Path, record: str, kind: str) -> None:
    log = read(tmp_path, f"{record}\n" * 3, "log.jsonl")
    assert (log.kind, log.problem) == (kind, None)


# --- one record over several lines, several on one ---


def test_two_lines_of_one_step_are_one_record(tmp_path: Path) -> None:
    text = "".join(
        f"Epoch: 0 | Step: {n} | Actor Loss: 0.{n}5 | Critic Loss: 0.3\naverage reward score: 1.{n}\n"
        for n in range(1, 9)
    )
    log = read(tmp_path, text)
    assert len(log.step) == 8
    assert log.curves["reward"].rows.tolist() == log.curves["loss"].rows.tolist()


@pytest.mark.parametrize(
    "block",
    [
        "2026-01-01 10:00:00 rank0 olmo.train:922 INFO [step={n}/300,epoch=0]\n    train/CrossEntropyLoss={loss}\n    optim/learning_rate_group0=1e-5\n",
        "---\nstep: {n}\nloss: {loss}\nlr: 1e-5\n",
        '    {{\n      "loss": {loss},\n      "learning_rate": 1e-5,\n      "step": {n}\n    }},\n',
    ],
)
def test_record_over_several_lines(tmp_path: Path, block: str) -> None:
    rows = [(10 * n, 2.5 - n / 100) for n in range(1, 31)]
    text = 'a first line\n"log_history": [\n' + "".join(block.format(n=n, loss=loss) for n, loss in rows)
    log = read(tmp_path, text)
    assert list(zip(steps(log), values(log, "loss"), strict=True)) == rows
    assert values(log, "learning_rate") == [1e-5] * 30


def test_history_on_one_line(tmp_path: Path) -> None:
    text = "trainer.state.log_history\n" + repr(
        [{"loss": 2.5, "step": 10}, {"loss": 2.0, "step": 20}, {"train_runtime": 3.0, "step": 20}]
    )
    assert values(read(tmp_path, text), "loss") == [2.5, 2.0]


# --- steps ---


def test_steps_that_begin_anew_in_each_epoch(tmp_path: Path) -> None:
    text = "".join(
        f"Epoch Step: {n} | Loss: {4 - epoch - n / 500:.3f}\n" for epoch in range(3) for n in range(20, 401, 20)
    )
    log = read(tmp_path, text)
    assert (len(log.curves["loss"]), log.last_step, log.restarts) == (60, 1200, ())


def test_run_started_again_is_no_epoch(tmp_path: Path) -> None:
    text = "".join(f"step {n} | loss: {4 - n / 200:.3f}\n" for last in (400, 400) for n in range(20, last + 1, 20))
    log = read(tmp_path, text)
    assert (len(log.curves["loss"]), log.last_step, len(log.restarts)) == (20, 400, 1)


def test_keras_epochs_follow_each_other(tmp_path: Path) -> None:
    text = ""
    for epoch in range(1, 4):
        text += f"Epoch {epoch}/3\n" + "".join(
            f"{n}/100 [===>....] - ETA: 5s - loss: {2 / epoch - n / 1000:.4f}\n" for n in range(10, 101, 10)
        )
        text += f"100/100 [======] - 12s 50ms/step - loss: {2 / epoch - 0.1:.4f} - val_loss: {2.2 / epoch:.4f}\n"
    log = read(tmp_path, text)
    assert (len(log.curves["loss"]), log.last_step, steps(log, "eval_loss"), log.restarts) == (
        30,
        300,
        [100, 200, 300],
        (),
    )


def test_torchtune_bar(tmp_path: Path) -> None:
    text = "\r".join(
        f"{1 + n // 51}|{n}|Loss: {3 - n / 100}:  0%|## | {n % 50}/50 [00:12<01:33,  2.33s/it]" for n in range(1, 101)
    )
    assert steps(read(tmp_path, text)) == list(range(1, 101))


def test_negative_steps_are_none(tmp_path: Path) -> None:
    log = read(tmp_path, "".join(f'{{"step": {n}, "loss": 2.5}}\n' for n in (10, 20, 30, 40, -5)), "log.jsonl")
    assert (log.last_step, log.restarts) == (40, ())


# --- names and evaluations in lines ---


def test_learning_rate_without_colon_and_evaluation_behind_a_logger(tmp_path: Path) -> None:
    at = "2026-01-01 10:00:00.123 | INFO | __main__:train:120 - "
    text = "".join(f"{at}Step {n}: Train loss 2.5, Learning Rate 1.000e-05, It/sec 0.5\n" for n in (10, 20, 30))
    log = read(
        tmp_path, text + "2026-01-01 10:00:09.123 | INFO | __main__:evaluate:9 - Validation @ step 30: loss = 2.25\n"
    )
    assert values(log, "learning_rate") == [1e-5] * 3
    assert (values(log, "loss"), values(log, "eval_loss")) == ([2.5] * 3, [2.25])


def test_means_over_an_epoch_stand_in_only_where_no_step_has_a_loss(tmp_path: Path) -> None:
    log = read(
        tmp_path,
        "epoch,step,train_loss_step,train_loss_epoch,val_loss\n0,9,2.5,,\n0,19,2.25,,\n0,19,,2.4,2.3\n",
        "metrics.csv",
    )
    assert (values(log, "loss"), values(log, "eval_loss")) == ([2.5, 2.25], [2.3])
    log = read(tmp_path, "epoch,step,train_loss_epoch\n0,19,2.5\n1,39,2.25\n", "other.csv")
    assert values(log, "loss") == [2.5, 2.25]


LINES = {
    "wrapped by a logger": '{{"time": "2026-01-01T10:00:00", "level": "INFO", "message": "step={n} loss={loss}"}}\n',
    "wrapped by a container": '{{"log": "step={n} loss={loss}\\n", "stream": "stdout"}}\n',
    "curly quotes": "{{\u2018loss\u2019: {loss}, \u2018step\u2019: {n}}}\n",
    "MindSpore": "epoch: 1 step: {n}, loss is {loss}\n",
    "PyTorch's word model": "| epoch   1 |   {n}/ 2000 batches | lr 5.00 | ms/batch 12.43 | loss  {loss} | ppl  90.5\n",
    "Composer": "[batch={n}/1000]:\n\t Train loss/train/total: {loss}\n",
}


@pytest.mark.parametrize("kind", LINES)
def test_line(tmp_path: Path, kind: str) -> None:
    rows = [(10 * n, 2.5 - n / 100) for n in range(1, 31)]
    log = read(tmp_path, "".join(LINES[kind].format(n=n, loss=loss) for n, loss in rows))
    assert list(zip(steps(log), values(log, "loss"), strict=True)) == rows


def test_bar_of_the_data_being_mapped_is_no_step(tmp_path: Path) -> None:
    text = "".join(
        f"\r{n}%|## | {n}/100 [00:10<00:20, 1.5it/s]\n{{'loss': 2.5, 'epoch': 0.{n}}}\n" for n in range(10, 100, 10)
    )
    log = read(tmp_path, "Map: 100%|####| 12000/12000 [00:11<00:00, 1043.29 examples/s]\n" + text)
    assert (log.last_step, log.max_steps) == (90, 100)


# --- messages ---

BAR = " 31%|###   | 611/2000 [10:11<23:09,  1.02it/s]"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", ["out_of_memory"]),
        ("[rank3]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", ["out_of_memory"]),
        ("2026-01-01 10:00:00,123 - ERROR - RuntimeError: NPU out of memory. Tried to allocate 2 MiB", ["out_of_memory"]),
        ("RuntimeError: XPU out of memory. Tried to allocate 2 MiB", ["out_of_memory"]),
        (f"{BAR}Killed", ["killed"]),
        ("slurmstepd: error: Detected 1 oom_kill event in StepId=7.0. Some of the step tasks have been OOM Killed.", ["oom_kill"]),
        ("[2026-01-01 10:00:00,000] torch.distributed.elastic.api: [ERROR] failed (exitcode: -9) local_rank: 1", ["killed_by_signal"]),
        (f"{BAR}slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-01-01T10:00:00 DUE TO TIME LIMIT ***", ["time_limit"]),
        ("Continuing training from checkpoint, will skip to saved global_step", ["resumed"]),
        ("INFO: Resuming training from out/ckpt.pt", ["resumed"]),
        ("从检查点 checkpoint-500 恢复训练", ["resumed"]),
        ("Warning: optimizer.pt not found, starting with a fresh state", ["optimizer_not_restored"]),
        ("assistant: CUDA out of memory means that the batch is too large", []),
        ("If you see CUDA out of memory, halve the batch size", []),
        ("CUDA out of memory errors are explained in the manual", []),
        ("3 dogs were Killed in the story", []),
        ("  --resume_from_checkpoint: resuming from a checkpoint is possible", []),
    ],
)  # fmt: skip
def test_messages(line: str, found: list[str]) -> None:
    counter = MessageCounter()
    counter.look(line.encode(), 1, 0)
    assert [message.id for message in counter.messages()] == found


# --- what is no log ---

NO_LOGS = {
    "money.csv": "date,revenue,loss\n" + "".join(f"2026-01-{n:02},{100 + n},{n}\n" for n in range(1, 29)),
    "rated.csv": "id,text,score\n" + "".join(f'{n},"an answer",0.{n}\n' for n in range(1, 10)),
    "config.json": '{"model_type": "tiny", "hidden_size": 64, "loss": 0.1}',
    "story.txt": "The firm lost a lot that year, and in the end a net loss: 4.5 million was what it had to tell its owners.\n"
    * 9,
    "talk.txt": "user: my loss is 0.5 at step 100, is that good?\nassistant: A loss of 0.5 at step 200 is fine.\n" * 9,
    "train.py": "import torch\n\n\ndef train(model):\n    for step in range(10):\n        loss = model(step)\n        if loss < 0.5:\n"
    "            break\n        log(step=1, loss=0.25)\n    return model\n",
}


@pytest.mark.parametrize("name", NO_LOGS)
def test_no_log(tmp_path: Path, name: str) -> None:
    log = read(tmp_path, NO_LOGS[name], name)
    assert (log.problem, log.messages) == ("no_metrics", ())


def test_records_in_comments_of_a_program_are_read(tmp_path: Path) -> None:
    text = "import torch\n\n\ndef train(model):\n    return model\n\n\n# {'loss': 2.5, 'epoch': 0.1}\n# {'loss': 2.0, 'epoch': 0.2}\n"
    assert values(read(tmp_path, text, "train.py"), "loss") == [2.5, 2.0]


# --- what is read does not depend on how the text came in ---


@pytest.mark.parametrize("text", [CARD, *TABLES.values(), NO_LOGS["story.txt"]])
@pytest.mark.parametrize("size", [1, 3])
def test_pieces_equal_the_whole(text: str, size: int) -> None:
    def rows(pieces: list[bytes]) -> dict[str, tuple[list[int], list[float]]]:
        collector = RowCollector()
        lines = TextLines(collector, MessageCounter())
        for piece in pieces:
            lines.read(piece)
        lines.finish()
        return {name: (index.tolist(), numbers.tolist()) for name, (index, numbers) in collector.columns().items()}

    whole = text.encode().splitlines(keepends=True)
    assert rows([b"".join(whole[n : n + size]) for n in range(0, len(whole), size)]) == rows([b"".join(whole)])
