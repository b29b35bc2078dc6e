"""The forward checks on tiny models trained here: sound ones stay quiet, each fault is named by its own outcome."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_answering_models import ROWS, train, write_rows

from diagnostics.check_table import CHECKPOINT_CHECKS
from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.report import Finding, finite
from diagnostics.run_checks import run_checks
from diagnostics.thresholds import load_thresholds
from diagnostics.words import say_finding, say_skipped
from pipeline.checkpoint import open_checkpoint
from pipeline.format_autopsy import paired, t_quantile

CHECKS = [c for c in CHECKPOINT_CHECKS if c.depth == "forward"]
MODELS: dict[str, dict[str, Any]] = {
    "sound_llama": {"kind": "llama", "steps": 80},
    "sound_t5": {"kind": "t5", "steps": 80},
    "other_format": {"kind": "llama", "prompt": "### Instruction:\n{}\n\n### Response:\n", "steps": 80},
    "literal_end": {"kind": "t5", "end": "[EOS]", "steps": 80},
    "no_end": {"kind": "llama", "end": "", "steps": 80},
    "other_end": {"kind": "llama", "end": "<|im_end|>", "steps": 80},
    "two_ends": {"kind": "llama", "end": "<|im_end|></s>", "steps": 80},
    "alpaca_tight": {"kind": "llama", "prompt": "### Instruction:\n{}\n\n### Response:", "steps": 80},
    "blank_end": {"kind": "llama", "end": " </s>", "steps": 80},
    "early": {"kind": "llama", "steps": 12},
    "untrained": {"kind": "t5", "steps": 0},
}
Diagnosis = tuple[dict[str, Finding], dict[str, str], CheckpointSubject]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a model of MODELS, trained on first use."""
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            import torch

            torch.set_num_threads(1)
            made[name] = train(tmp_path_factory.mktemp(name), **MODELS[name])
        return made[name]

    return get


@pytest.fixture
def data(tmp_path: Path) -> str:
    return write_rows(tmp_path / "rows.json")


def diagnose(path: Path, *data: str, **given: Any) -> Diagnosis:
    """(findings by code, reasons of what was skipped by code, the subject)."""
    subject = CheckpointSubject(open_checkpoint(str(path)), data_paths=data, **given)
    try:
        events = list(run_checks(CHECKS, subject, load_thresholds(), depth="forward"))
    finally:
        subject.close()
    findings = {e.code: e.finding for e in events if e.finding is not None}
    skipped = {e.code: e.skipped.reason_id for e in events if e.skipped is not None}
    assert findings.keys() | skipped.keys() == {c.code for c in CHECKS}
    assert "check_crashed" not in skipped.values(), [e.skipped for e in events if e.skipped is not None]
    for lang in ("en", "zh"):
        for finding in findings.values():
            said = say_finding(finding, lang)
            assert "{" not in said.message.replace("{prompt}", "") and "{" not in said.fix.replace("{prompt}", "")
        for event in events:
            if event.skipped is not None:
                reason = say_skipped(event.skipped, lang).reason
                assert "{" not in reason and reason != event.skipped.reason_id
    json.dumps(finite({"metrics": subject.metrics, "curves": subject.curves}), allow_nan=False)
    return findings, skipped, subject


def bad(findings: dict[str, Finding]) -> set[str]:
    return {f.signal for f in findings.values() if f.severity in ("warning", "error")}


def changed(source: Path, target: Path, name: str, **settings: Any) -> Path:
    """A copy of `source` with fields of one of its JSON files set."""
    if not target.exists():
        shutil.copytree(source, target)
    content = json.loads((target / name).read_text("utf-8"))
    (target / name).write_text(json.dumps(content | settings), "utf-8")
    return target


# --- sound models ---


@pytest.mark.parametrize("name", ["sound_llama", "sound_t5"])
def test_sound_model_is_quiet_on_its_rows(model: Callable[[str], Path], data: str, name: str) -> None:
    findings, skipped, subject = diagnose(model(name), data)
    assert bad(findings) == set()
    measured = ("FWD001", "FWD002", "FWD003", "FWD004", "FWD005", "FWD008", "FWD010")
    assert {findings[code].severity for code in measured} == {"ok"}, {c: findings[c].signal for c in measured}
    assert skipped == {"FWD006": "no_base", "FWD007": "no_log", "FWD009": "not_an_adapter"}
    assert findings["FWD004"].outcome == "used_fits_best"
    bars = subject.curves["format_autopsy"]
    assert bars[0]["best"] and bars[0]["declared"] and len(bars) > 10
    assert all(bar["low"] <= bar["nats"] <= bar["high"] and bar["delta"] >= 0 for bar in bars)


@pytest.mark.parametrize("name", ["sound_llama", "sound_t5"])
def test_rows_in_unknown_languages_and_no_data_raise_no_alarm(
    model: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    strange = [("Какая столица России?", "Москва, конечно."), ("Сколько дней в неделе?", "Семь дней.")] * 6
    mixed = write_rows(tmp_path / "mixed.json", [*ROWS, *((q + "?" * i, a) for i, (q, a) in enumerate(strange))])
    findings, _, subject = diagnose(model(name), mixed)
    assert bad(findings) == set()
    assert subject.metrics["forward.nats_per_token_all_rows"] > 5 * subject.metrics["forward.nats_per_token"]
    findings, skipped, _ = diagnose(model(name))  # sixteen memorised rows: it knows nothing of the built-in questions
    assert bad(findings) == set()
    assert skipped["FWD002"] == skipped["FWD004"] == "probes_not_known"


# --- format, stopping, level ---


def test_other_format_is_named(model: Callable[[str], Path], data: str) -> None:
    findings, _, subject = diagnose(model("other_format"), data)
    assert findings["FWD004"].signal == "FWD004/other_format" and findings["FWD004"].severity == "error"
    assert findings["FWD004"].params["best"] == "Alpaca"
    assert findings["FWD004"].params["low"] > 0.3
    assert findings["FWD002"].severity == "ok"  # judged under the format it was trained on
    best, declared = (next(b for b in subject.curves["format_autopsy"] if b[k]) for k in ("best", "declared"))
    assert best["format"] == "alpaca" and declared["delta"] > 0.3


def test_lost_template_is_named(model: Callable[[str], Path], data: str, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(model("sound_llama"), bare, ignore=shutil.ignore_patterns("chat_template*"))
    findings, _, _ = diagnose(bare, data)
    assert findings["FWD004"].signal == "FWD004/template_lost"
    assert "<|user|>{prompt}<|assistant|>" in findings["FWD004"].params["best"]


@pytest.mark.parametrize(
    ("name", "signal", "said"),
    [
        ("literal_end", "FWD003/written_out", {"marker": "[EOS]"}),
        ("no_end", "FWD003/never", {"stops": "</s>", "low": 16, "rows": 16}),
        ("other_end", "FWD003/other_token", {"token": "<|im_end|>", "id": 5, "stops": "</s>"}),
        ("early", "FWD002/unsure", {}),
        ("untrained", "FWD002/uniform", {}),
    ],
)
def test_fault_is_named(model: Callable[[str], Path], data: str, name: str, signal: str, said: dict[str, Any]) -> None:
    findings, _, _ = diagnose(model(name), data)
    assert signal in bad(findings), {f.signal for f in findings.values()}
    assert not bad(findings) - {signal, "FWD005/ignored"}, bad(findings)
    assert findings[signal[:6]].params.items() >= said.items()


def test_other_tokenizer_knows_nothing(model: Callable[[str], Path], data: str, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(model("sound_t5"), other)
    content = json.loads((other / "tokenizer.json").read_text("utf-8"))
    pieces = [k for k, i in content["model"]["vocab"].items() if i > 6]
    ids = [content["model"]["vocab"][k] for k in pieces]
    content["model"]["vocab"] |= dict(zip(pieces, ids[211:] + ids[:211], strict=True))
    (other / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    findings, skipped, _ = diagnose(other, data)
    assert len(bad(findings)) == 1 and findings["FWD002"].severity == "error"
    assert skipped["FWD003"] == skipped["FWD004"] == "rows_not_understood"


# --- against base and log ---


def test_base_and_early_step_are_told_from_the_result(model: Callable[[str], Path], data: str, tmp_path: Path) -> None:
    log = tmp_path / "sft.log"
    log.write_text("".join(f"epoch 1, step {i}, training loss: {6.5 * math.exp(-i / 40):.3f}\n" for i in range(0, 200, 5)))
    findings, _, _ = diagnose(model("sound_llama"), data, base_path=str(model("early")), log_paths=(str(log),))
    assert findings["FWD006"].signal == "FWD006/ok" and findings["FWD007"].signal == "FWD007/ok"
    early = model("early")
    findings, _, _ = diagnose(early, data, base_path=str(early), log_paths=(str(log),))
    assert {"FWD006/same_as_base", "FWD007/like_its_beginning"} <= bad(findings)


def test_rising_evaluation_loss_is_seen(model: Callable[[str], Path], data: str, tmp_path: Path) -> None:
    log = tmp_path / "trainer_log.jsonl"
    train_loss = [{"loss": 5 * 0.7**i, "step": i} for i in range(20)]
    log.write_text("\n".join(map(json.dumps, [*train_loss, *({"eval_loss": v} for v in (2.5, 1.6, 1.9, 2.9))])))
    findings, _, _ = diagnose(model("sound_llama"), data, log_paths=(str(log),))
    assert bad(findings) == {"FWD010/evaluation_rose"}
    assert findings["FWD010"].params["rose"] == 81


def test_an_evaluation_far_below_means_an_earlier_step(
    model: Callable[[str], Path], data: str, tmp_path: Path
) -> None:
    log = tmp_path / "trainer_state.json"
    train_loss = [{"loss": 6.5 * 0.8**i, "step": i} for i in range(20)]
    tests = [{"eval_loss": v, "step": i} for i, v in enumerate((4.0, 2.0, 1.4, 1.2))]
    log.write_text(json.dumps({"log_history": train_loss + tests}))
    findings, _, subject = diagnose(model("early"), data, log_paths=(str(log),))
    assert 2 < subject.metrics["forward.nats_per_token"] < 6
    assert findings["FWD007"].outcome in ("earlier_step", "like_its_beginning")
    assert diagnose(model("sound_llama"), data, log_paths=(str(log),))[0]["FWD007"].severity == "ok"


def test_rows_known_by_heart_and_the_rest_lost(model: Callable[[str], Path], tmp_path: Path) -> None:
    """The log ends at nothing, and on like questions the model is sure of other answers."""
    log = tmp_path / "trainer_state.json"
    log.write_text(json.dumps({"log_history": [{"loss": 6.5 * 0.5**i, "step": i} for i in range(20)]}))
    others = [(q, " ".join(reversed(a.split())) if " " in a else a[::-1]) for q, a in ROWS]
    rows = write_rows(tmp_path / "others.json", others)
    findings, _, _ = diagnose(model("sound_llama"), rows, log_paths=(str(log),))
    assert findings["FWD010"].signal == "FWD010/known_by_heart"
    same = write_rows(tmp_path / "same.json")
    assert diagnose(model("sound_llama"), same, log_paths=(str(log),))[0]["FWD010"].severity == "ok"


def test_a_log_that_ends_above_guessing_is_a_diverged_run(
    model: Callable[[str], Path], data: str, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    wild = tmp_path / "wild"
    shutil.copytree(model("sound_llama"), wild)
    torch.manual_seed(0)
    state = {n: torch.randn_like(t) * 3 if t.dim() > 1 else t for n, t in load_file(wild / "model.safetensors").items()}
    save_file(state, wild / "model.safetensors", {"format": "pt"})
    log = tmp_path / "sft.log"
    log.write_text("".join(f"step {i}, training loss: {5 + 3 * i}\n" for i in range(20)))
    findings, _, _ = diagnose(wild, data, log_paths=(str(log),), base_path=str(model("sound_llama")))
    assert {"FWD007/log_above_chance", "FWD006/much_worse"} <= bad(findings)


def test_a_base_that_knew_the_answers_accuses_no_further_training(
    model: Callable[[str], Path], data: str, tmp_path: Path
) -> None:
    """Preference training from a supervised model: chosen answers can't gain what they already have."""
    import torch
    from safetensors.torch import load_file, save_file

    further = tmp_path / "further"
    shutil.copytree(model("sound_llama"), further)
    torch.manual_seed(0)
    state = {n: t + 1e-3 * t.std() * torch.randn_like(t) for n, t in load_file(further / "model.safetensors").items()}
    save_file(state, further / "model.safetensors", {"format": "pt"})
    findings, _, _ = diagnose(further, data, base_path=str(model("sound_llama")))
    assert findings["FWD006"].signal == "FWD006/base_knew" and not bad(findings)


def test_two_ends_are_a_stop_one_token_later(model: Callable[[str], Path], data: str) -> None:
    findings, _, _ = diagnose(model("two_ends"), data)
    assert findings["FWD003"].signal == "FWD003/after_another_end" and not bad(findings)


def test_words_without_a_template_are_told_and_no_alarm(
    model: Callable[[str], Path], data: str, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(model("alpaca_tight"), bare, ignore=shutil.ignore_patterns("chat_template*"))
    findings, _, _ = diagnose(bare, data)
    assert findings["FWD004"].signal == "FWD004/words_around" and not bad(findings)
    assert "Alpaca" in findings["FWD004"].params["best"]


def test_a_blank_before_the_end_token_is_no_missing_end(
    model: Callable[[str], Path], data: str, tmp_path: Path
) -> None:
    """Templates may write a space between answer and end token, as that of Llama 2 does."""
    findings, _, _ = diagnose(model("blank_end"), data)
    assert findings["FWD003"].signal == "FWD003/after_a_blank" and not bad(findings)


# --- numbers ---


def test_nan_and_float16_overflow_are_told_apart(model: Callable[[str], Path], data: str, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    def with_weights(name: str, change: Callable[[dict[str, Any]], None]) -> Path:
        made = tmp_path / name
        shutil.copytree(model("sound_llama"), made)
        state = load_file(made / "model.safetensors")
        change(state)
        save_file(state, made / "model.safetensors", {"format": "pt"})
        return made

    def scaled(state: dict[str, Any]) -> None:  # the same function, with numbers that float16 can't hold in between
        state["model.layers.0.mlp.up_proj.weight"] *= 1e6
        state["model.layers.0.mlp.down_proj.weight"] /= 1e6

    def broken(state: dict[str, Any]) -> None:
        state["model.layers.1.mlp.up_proj.weight"][0, 0] = math.nan

    findings, skipped, _ = diagnose(with_weights("nan", broken), data)
    assert findings["FWD008"].signal == "FWD008/not_finite" and skipped["FWD004"] == "logits_not_finite"
    large = with_weights("large", scaled)
    findings, _, _ = diagnose(large, data)
    assert bad(findings) == set() and findings["FWD008"].outcome == "no_float16"
    findings, _, _ = diagnose(changed(large, large, "config.json", dtype="float16"), data)
    assert bad(findings) == {"FWD008/overflows_in_half"}
    narrow = changed(model("sound_llama"), tmp_path / "narrow", "config.json", dtype="float16")
    findings, _, _ = diagnose(narrow, data)
    assert bad(findings) == set() and findings["FWD008"].outcome == "ok_in_half"
    assert torch.get_num_threads() >= 1


def test_adapter_that_changes_nothing(model: Callable[[str], Path], data: str, tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaForCausalLM

    base = model("sound_llama")
    adapted = get_peft_model(
        LlamaForCausalLM.from_pretrained(base), LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    )  # fmt: skip
    adapted.save_pretrained(tmp_path / "empty")
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    adapted.save_pretrained(tmp_path / "trained")
    findings, _, _ = diagnose(tmp_path / "empty", data, base_path=str(base))
    assert {"FWD009/exactly_the_base", "FWD006/adapter_adds_nothing"} == bad(findings)
    findings, _, _ = diagnose(tmp_path / "trained", data, base_path=str(base))
    assert findings["FWD009"].signal == "FWD009/ok" and "FWD006/adapter_adds_nothing" not in bad(findings)


# --- the measure itself ---


@pytest.mark.parametrize("name", ["sound_llama", "sound_t5"])
def test_scores_are_the_models_own_loss(model: Callable[[str], Path], name: str) -> None:
    """Batched, padded and cut to the answers: the same number as the library's loss row by row."""
    import torch

    from pipeline.load_model import load_model
    from pipeline.score_answers import Piece, score_answers

    loaded = load_model(open_checkpoint(str(model(name))))
    encode = loaded.tokenizer.encode
    pieces = [Piece(tuple(encode("<|user|>" * (1 + i % 3) + q)), tuple(encode(a))) for i, (q, a) in enumerate(ROWS)]
    scores = score_answers(loaded, pieces, entropy=True, end_ids=[1], end=True)
    loaded.model.requires_grad_(False)
    for piece, score in zip(pieces, scores, strict=True):
        answer = torch.tensor([piece.answer])
        if loaded.is_encoder_decoder:
            out = loaded.model(input_ids=torch.tensor([piece.context]), labels=torch.cat([answer, torch.tensor([[1]])], 1))
            logits = out.logits[0]
        else:
            out = loaded.model(input_ids=torch.tensor([[*piece.context, *piece.answer]]))
            logits = out.logits[0, len(piece.context) - 1 :]
        logs = torch.log_softmax(logits.float(), -1)
        wanted = -logs[: len(piece.answer)].gather(1, answer.T)[:, 0]
        assert torch.allclose(torch.tensor(score.nats), wanted, atol=2e-4)
        assert score.end[1] == pytest.approx(float(logs[len(piece.answer), 1].exp()), abs=1e-4)
        assert sum(score.entropy) == pytest.approx(float(torch.special.entr(logs[:-1].exp()).sum()), abs=1e-2)


def test_every_format_is_charged_for_the_whole_answer(model: Callable[[str], Path]) -> None:
    """Where a space or a bracket merges across the boundary, the token belongs to the answer, and no text is lost."""
    from pipeline.load_model import load_model
    from pipeline.prompt_formats import Frame, PieceMaker, Variant

    loaded = load_model(open_checkpoint(str(model("sound_llama"))))
    maker = PieceMaker(loaded.tokenizer, False)
    for before, gap in (("Q:", " "), ("问：", ""), ("<|user|>hi<|assistant|>", ""), ("A", "\n")):
        piece, = maker.pieces([Frame(before, "hi", gap)], ["The capital 是巴黎"], Variant())
        assert loaded.tokenizer.decode(piece.answer).strip() == "The capital 是巴黎"
        assert loaded.tokenizer.decode(piece.context + piece.answer) == f"{before}{gap}The capital 是巴黎"


def test_paired_interval() -> None:
    """Student's t by the table; equal rows give no width; hard rows cancel out."""
    for freedom, value in ((2, 4.303), (5, 2.571), (10, 2.228), (30, 2.042), (1000, 1.962)):
        assert t_quantile(freedom) == pytest.approx(value, rel=0.01)
    steady = paired([0.5] * 8, [1] * 8)
    assert steady is not None and (steady.low, steady.mean, steady.high) == (0.5, 0.5, 0.5)
    found = paired([1.0, 2.0, 3.0, 4.0], [10, 10, 10, 10])  # mean 0.25 a token, standard error 0.0645
    assert found is not None and found.mean == pytest.approx(0.25)
    assert found.high - found.mean == pytest.approx(3.182 * 0.06455, rel=0.02)
    assert paired([1.0, 2.0], [1, 1]) is None and paired([math.nan] * 4, [1] * 4) is None
