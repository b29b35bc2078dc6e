"""The checks of generated answers on tiny models trained here: sound ones stay quiet, sick ones are named."""

from __future__ import annotations

import json
import shutil
import threading
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
from diagnostics.words import say_finding
from pipeline.checkpoint import open_checkpoint

CHECKS = [c for c in CHECKPOINT_CHECKS if c.code.startswith("GEN") and c.depth == "samples"]
MODELS: dict[str, dict[str, Any]] = {
    "sound_llama": {"kind": "llama", "steps": 80},
    "sound_t5": {"kind": "t5", "steps": 80},
    "literal_end": {"kind": "t5", "end": "[EOS]"},
    "no_end": {"kind": "llama", "end": ""},
    "roles": {"kind": "llama", "end": "<|user|>还有吗？<|assistant|>没有了。<|user|>真的吗？<|assistant|>真的。"},
    "sentinels": {"kind": "t5", "answer": lambda text: "<extra_id_0> " + text[:6], "steps": 40},
    "empty": {"kind": "t5", "answer": lambda text: "", "steps": 20},
    "same": {"kind": "t5", "answer": lambda text: "人工智能正在改变医疗行业。", "steps": 40},
    "loops": {"kind": "llama", "answer": lambda text: text[:3] + "好的好的" * 8, "end": ""},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a model of MODELS, trained on first use."""
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            import torch

            torch.set_num_threads(1)  # two wait for each other longer than they work at this size
            made[name] = train(tmp_path_factory.mktemp(name), **MODELS[name])
        return made[name]

    return get


@pytest.fixture
def data(tmp_path: Path) -> str:
    return write_rows(tmp_path / "rows.json")


def diagnose(path: Path, **given: Any) -> tuple[dict[str, Finding], dict[str, str], CheckpointSubject]:
    """(findings by code, reasons of what was skipped by code, the subject)."""
    subject = CheckpointSubject(open_checkpoint(str(path)), **given)
    try:
        events = list(run_checks(CHECKS, subject, load_thresholds(), depth="samples"))
    finally:
        subject.close()
    findings = {e.code: e.finding for e in events if e.finding is not None}
    skipped = {e.code: e.skipped.reason_id for e in events if e.skipped is not None}
    assert findings.keys() | skipped.keys() == {c.code for c in CHECKS}
    assert "check_crashed" not in skipped.values(), skipped
    for finding in findings.values():
        for lang in ("en", "zh"):
            said = say_finding(finding, lang)
            assert "{" not in said.message and "{" not in said.fix, said
    return findings, skipped, subject


def bad(findings: dict[str, Finding]) -> set[str]:
    return {f.signal for f in findings.values() if f.severity in ("warning", "error")}


def changed(source: Path, target: Path, **settings: Any) -> Path:
    """A copy with fields of generation_config.json set; `config` and `tokenizer_config` name other files' fields."""
    shutil.copytree(source, target)
    for file in ("generation_config", "tokenizer_config"):
        fields = settings if file == "generation_config" else settings.pop(file, {})
        path = target / f"{file}.json"
        value = json.loads(path.read_text("utf-8")) | {k: v for k, v in fields.items() if not isinstance(v, dict)}
        path.write_text(json.dumps(value), "utf-8")
    return target


@pytest.mark.parametrize("name", ["sound_llama", "sound_t5"])
def test_sound_models_are_quiet_and_two_runs_agree(model: Callable[[str], Path], name: str, data: str) -> None:
    findings, skipped, subject = diagnose(model(name), data_paths=(data,))
    assert not bad(findings) and not skipped
    assert findings["GEN008"].outcome == "on_topic" and findings["GEN008"].params["fit"] >= 95
    assert subject.metrics["gen.own_pieces"] == 1.0
    assert subject.metrics["gen.stop_rate.greedy"] == 1.0 and subject.metrics["gen.batch_agreement"] == 1.0
    assert {s["strategy"] for s in subject.samples} == {"greedy", "sampling", "beam"}
    assert all(s["text"].endswith("</s>") and s["stop"] == "</s>" for s in subject.samples if s["ended"])
    json.dumps(finite(subject.samples), allow_nan=False)
    again = diagnose(model(name), data_paths=(data,))[2]
    assert again.samples == subject.samples and again.metrics == subject.metrics


@pytest.mark.parametrize("name", ["sound_llama", "sound_t5"])
def test_foreign_built_in_prompts_accuse_no_tiny_model(model: Callable[[str], Path], name: str) -> None:
    findings, _, subject = diagnose(model(name))
    assert not bad(findings)
    assert subject.generations.source == "probes" and subject.generations.asked[0].gold is None


@pytest.mark.parametrize(
    ("name", "signal"),
    [
        ("literal_end", "GEN002/written"), ("no_end", "GEN003/ran_on"), ("roles", "GEN007/many"),
        ("sentinels", "GEN011/sentinels"), ("empty", "GEN005/empty"), ("same", "GEN008/same"),
        ("loops", "GEN004/under_both"),
    ],
)  # fmt: skip
def test_sick_models_are_named(model: Callable[[str], Path], name: str, signal: str, data: str) -> None:
    findings, _, _ = diagnose(model(name), data_paths=(data,))
    finding = findings[signal[:6]]
    assert (finding.signal, finding.severity) == (signal, "error")
    assert finding.evidence


def test_ids_of_another_vocabulary_are_seen_in_the_answers(
    model: Callable[[str], Path], data: str, tmp_path: Path
) -> None:
    """The ids of all pieces moved: what decodes is made of pieces that the tokenizer never puts side by side."""
    other = tmp_path / "other"
    shutil.copytree(model("sound_llama"), other)
    content = json.loads((other / "tokenizer.json").read_text("utf-8"))
    pieces = [k for k, i in content["model"]["vocab"].items() if i > 6]
    ids = [content["model"]["vocab"][k] for k in pieces]
    content["model"]["vocab"] |= dict(zip(pieces, ids[300:] + ids[:300], strict=True))
    (other / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    findings, _, subject = diagnose(other, data_paths=(data,))
    assert findings["GEN015"].signal == "GEN015/not_its_pieces"
    assert subject.metrics["gen.own_pieces"] < 0.9


def test_text_of_a_literal_end_marker_blames_neither_loops_nor_language(
    model: Callable[[str], Path], data: str
) -> None:
    findings, _, _ = diagnose(model("literal_end"), data_paths=(data,))
    assert findings["GEN002"].params["marker"] == "[EOS]"
    assert bad(findings) == {"GEN002/written", "GEN003/spells_its_end"}


@pytest.mark.parametrize("name", ["sound_llama", "sound_t5"])
def test_an_end_token_that_is_no_stop_id_is_named(
    model: Callable[[str], Path], name: str, data: str, tmp_path: Path
) -> None:
    sick = changed(model(name), tmp_path / "sick", eos_token_id=5)
    finding = diagnose(sick, data_paths=(data,))[0]["GEN003"]
    assert finding.signal == "GEN003/other_end_token"
    assert finding.params["token"] == "</s>" and finding.params["id"] == 1


@pytest.mark.parametrize(
    ("settings", "signal"),
    [
        ({"do_sample": True, "temperature": 5.0, "top_k": 0}, "GEN014/worse"),
        ({"min_new_tokens": 100}, "GEN014/worse"),
        ({"do_sample": True, "temperature": 0.0}, "GEN014/refused"),
        ({"repetition_penalty": 20.0}, "GEN014/further_from_gold"),
        ({"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20}, "GEN014/ok"),
        ({}, "GEN014/same_as_greedy"),
        ({"max_length": 14}, "GEN013/cut"),
        ({"max_new_tokens": 64}, "GEN013/ok"),
    ],
)
def test_own_settings(
    model: Callable[[str], Path], settings: dict[str, Any], signal: str, data: str, tmp_path: Path
) -> None:
    findings, _, subject = diagnose(changed(model("sound_llama"), tmp_path / "m", **settings), data_paths=(data,))
    assert findings[signal[:6]].signal == signal
    fine = signal.endswith(("/ok", "/same_as_greedy"))
    assert bad(findings) == (set() if fine else {signal})
    assert ("own" in {s["strategy"] for s in subject.samples}) == (
        bool(settings) and signal not in ("GEN014/refused", "GEN013/cut", "GEN013/ok")
    )


@pytest.mark.parametrize("hidden", [False, True])
def test_nan_is_found_where_generate_says_nothing(
    model: Callable[[str], Path], hidden: bool, data: str, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    settings = {"remove_invalid_values": True, "do_sample": True} if hidden else {}
    sick = changed(model("sound_t5"), tmp_path / "sick", **settings)
    state = load_file(sick / "model.safetensors")
    state["decoder.block.1.layer.2.DenseReluDense.wo.weight"][3, 3] = float("nan")
    save_file(state, sick / "model.safetensors", {"format": "pt"})
    findings, skipped, _ = diagnose(sick, data_paths=(data,))
    assert findings["GEN012"].outcome == ("hidden_by_settings" if hidden else "not_finite")
    assert bad(findings) == {findings["GEN012"].signal}  # what such a model writes is not judged
    assert skipped["GEN003"] == skipped["GEN004"] == "scores_not_finite"


def test_right_padding_counts_only_where_it_is_declared(
    model: Callable[[str], Path], data: str, tmp_path: Path
) -> None:
    unset = diagnose(model("no_end"), data_paths=(data,))
    assert unset[2].metrics["gen.batch_agreement"] == 1.0
    assert unset[2].metrics["gen.batch_agreement_tokenizer_side"] < 0.8  # else this model shows nothing
    assert unset[0]["GEN006"].severity == "info"
    sick = changed(model("no_end"), tmp_path / "sick", tokenizer_config={"padding_side": "right"})
    declared = diagnose(sick, data_paths=(data,))[0]["GEN006"]
    assert (declared.severity, declared.outcome) == ("warning", "right_padding_declared")
    cured = changed(model("no_end"), tmp_path / "cured", tokenizer_config={"padding_side": "left"})
    assert diagnose(cured, data_paths=(data,))[0]["GEN006"].severity == "ok"


def test_right_padding_is_right_for_encoder_decoders(model: Callable[[str], Path], data: str, tmp_path: Path) -> None:
    right = changed(model("sound_t5"), tmp_path / "right", tokenizer_config={"padding_side": "right"})
    assert diagnose(right, data_paths=(data,))[0]["GEN006"].severity == "ok"


def test_answers_of_another_data_set_are_off_topic(model: Callable[[str], Path], tmp_path: Path) -> None:
    shifted = [(q, ROWS[(i + 2) % len(ROWS)][1]) for i, (q, _) in enumerate(ROWS)]
    findings, _, _ = diagnose(model("sound_llama"), data_paths=(write_rows(tmp_path / "other.json", shifted),))
    assert findings["GEN008"].signal == "GEN008/off_topic" and findings["GEN008"].severity == "error"
    assert findings["GEN009"].severity == "ok"  # an even shift: Chinese still answers Chinese


def test_answers_in_another_script_than_the_gold(model: Callable[[str], Path], tmp_path: Path) -> None:
    english = [(q, "This answer is written in English." if i % 2 == 0 else a) for i, (q, a) in enumerate(ROWS)]
    finding = diagnose(model("sound_t5"), data_paths=(write_rows(tmp_path / "en.json", english),))[0]["GEN009"]
    assert finding.severity == "warning" and finding.params["got"] == "han" and finding.params["wanted"] == "latin"


def test_prompts_of_a_file_are_asked(model: Callable[[str], Path], tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("中国的首都是哪里？\n\nWho wrote Hamlet?\n", "utf-8")
    _, skipped, subject = diagnose(model("sound_llama"), prompts_path=str(prompts))
    assert [a.question for a in subject.generations.asked] == ["中国的首都是哪里？", "Who wrote Hamlet?"]
    assert "北京" in subject.samples[0]["text"] and subject.samples[0]["gold"] is None
    assert skipped["GEN003"] == "too_few_answers"
    missing = diagnose(model("sound_llama"), prompts_path=str(tmp_path / "absent.txt"))[1]
    assert set(missing.values()) == {"prompts_not_read"}


def test_answers_do_not_depend_on_their_batch(model: Callable[[str], Path], data: str) -> None:
    from pipeline.sample_answers import answer_all, strategies

    subject = diagnose(model("no_end"), data_paths=(data,))[2]
    asked = subject.generations.asked
    subject = CheckpointSubject(open_checkpoint(str(model("no_end"))))
    for strategy in strategies()[:2]:
        alone = answer_all(subject.loaded, asked[:5], strategy, max_new_tokens=16, batch_size=1, seed=3)
        together = answer_all(subject.loaded, asked[:5], strategy, max_new_tokens=16, batch_size=5, seed=3)
        assert [a.ids for a in alone] == [a.ids for a in together]
    other = answer_all(subject.loaded, asked[:5], strategies()[1], max_new_tokens=16, batch_size=5, seed=4)
    assert [a.ids for a in other] != [a.ids for a in together]
    assert [a.seed for a in together] == [3 + 1000 * i for i in range(5)]
    subject.close()


def test_cancelling_stops_between_and_inside_answers(model: Callable[[str], Path], data: str) -> None:
    cancel = threading.Event()
    started: list[str] = []

    def note(text: str) -> None:
        started.append(text)
        if text.startswith("sampling"):
            cancel.set()

    skipped = diagnose(model("sound_llama"), data_paths=(data,), cancel=cancel, note=note)[1]
    assert set(skipped.values()) == {"cancelled"}
    assert not any(text.startswith("beam") for text in started)
