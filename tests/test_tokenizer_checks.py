"""TOK001-TOK012 and GEN001 on small real tokenizers: each fault is named, and sound models of many kinds are quiet."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from tokenizer_folders import (
    CHATML,
    CORPUS,
    added_tokens_decoder,
    byte_level,
    chat_folder,
    data_file,
    t5_folder,
    unigram,
    write_json,
)
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers

from diagnostics.check_table import CHECKPOINT_CHECKS
from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.report import Finding
from diagnostics.run_checks import run_checks
from diagnostics.thresholds import load_thresholds
from pipeline.checkpoint import open_checkpoint

ROOT = Path(__file__).resolve().parent.parent
CHECKS = [c for c in CHECKPOINT_CHECKS if c.code.startswith(("TOK", "TPL")) or c.code == "GEN001"]


def findings(folder: Path, *, data: Path | None = None, base: Path | None = None) -> dict[str, Finding]:
    """Findings by `CODE/outcome`; a crashed check fails the test."""
    subject = CheckpointSubject(
        open_checkpoint(str(folder)), base_path=str(base) if base else None, data_paths=(str(data),) if data else ()
    )
    seen: dict[str, Finding] = {}
    try:
        for event in run_checks(CHECKS, subject, load_thresholds(), depth="files"):
            if event.finding is not None:
                seen[event.finding.signal] = event.finding
            if event.skipped is not None:
                assert event.skipped.reason_id != "check_crashed", event.skipped
    finally:
        subject.close()
    return seen


def alarms(seen: dict[str, Finding]) -> set[str]:
    return {signal for signal, finding in seen.items() if finding.severity in ("warning", "error")}


QA = [
    ("列出五种不同的水果。", "苹果、香蕉、橘子、菠萝、草莓。"), ("List fruit", "apples, bananas"),
    ("Which colour", "yellow"), ("Answer in one word", "yes"),
]  # fmt: skip


# --- sound models ------------------------------------------------------------------------------------------------

LLAMA2 = ("{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content + ' [/INST]' }}"
          "{% else %}{{ ' ' + m.content + ' ' + eos_token }}{% endif %}{% endfor %}")  # fmt: skip
ZEPHYR = ("{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + eos_token + '\n' }}{% endfor %}"
          "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}")  # fmt: skip
GEMMA = ("{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}"
         "{% endif %}{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else 'user') + '\n' }}"
         "{{ m.content + '<end_of_turn>\n' }}{% endfor %}"
         "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}")  # fmt: skip
GLM = ("[gMASK]<sop>{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content }}{% endfor %}"
       "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}")  # fmt: skip
PHI3 = ("{% for m in messages %}{% if m.role == 'user' %}{{ '<|user|>\n' + m.content + '<|end|>\n<|assistant|>\n' }}"
        "{% else %}{{ m.content + '<|end|>\n' }}{% endif %}{% endfor %}")  # fmt: skip
HARMONY = ("{% for m in messages %}{{ '<|start|>' + m.role + '<|message|>' + m.content + '<|end|>' }}{% endfor %}"
           "{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}")  # fmt: skip
COHERE = ("{{ bos_token }}{% for m in messages %}{{ '<|START_OF_TURN_TOKEN|><|' + m.role + '|>' + m.content }}"
          "{% if m.role == 'assistant' %}{{ '<|END_RESPONSE|>' }}{% endif %}{{ '<|END_OF_TURN_TOKEN|>' }}{% endfor %}"
          "{% if add_generation_prompt %}{{ '<|START_OF_TURN_TOKEN|><|assistant|>' }}{% endif %}")  # fmt: skip
R1 = ("{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '<｜User｜>' + m.content }}{% else %}"
      "{{ '<｜Assistant｜>' + m.content + eos_token }}{% endif %}{% endfor %}"
      "{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\n' }}{% endif %}")  # fmt: skip
FALCON = ("{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
          "{% if add_generation_prompt %}assistant:{% endif %}")  # fmt: skip
# template, tokens, bos, eos, stop tokens, model type, further fields of generation_config.json
SOUND: dict[str, tuple[str, tuple[str, ...], str | None, str, tuple[str, ...], str]] = {
    "chatml": (CHATML, ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), None, "<|im_end|>", ("<|im_end|>",), "qwen2"),
    "llama2": (LLAMA2, ("<unk>", "<s>", "</s>"), "<s>", "</s>", ("</s>",), "llama"),
    "headers are text": (ZEPHYR, ("<unk>", "<s>", "</s>"), "<s>", "</s>", ("</s>",), "mistral"),
    "two stop tokens": (GEMMA, ("<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"), "<bos>", "<eos>",
                        ("<eos>", "<end_of_turn>"), "gemma3_text"),
    "ends with end_of_turn and eos": (GEMMA, ("<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"), "<bos>", "<eos>",
                                      ("<eos>",), "gemma"),
    "next role stops": (GLM, ("<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>"), None,
                        "<|endoftext|>", ("<|endoftext|>", "<|user|>"), "glm4"),
    "header in the user's turn": (PHI3, ("<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>"), None,
                                  "<|endoftext|>", ("<|endoftext|>", "<|end|>"), "phi3"),
    "harmony": (HARMONY, ("<|endoftext|>", "<|start|>", "<|message|>", "<|end|>", "<|return|>"), None, "<|return|>",
                ("<|return|>",), "gpt_oss"),
    "two ends in every turn": (COHERE, ("<s>", "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|END_RESPONSE|>",
                               "<|user|>", "<|assistant|>", "<|system|>"), "<s>", "<|END_OF_TURN_TOKEN|>",
                               ("<|END_OF_TURN_TOKEN|>",), "cohere2"),
    "opens a thought": (R1, ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"),
                        "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", ("<｜end▁of▁sentence｜>",), "deepseek_v3"),
    "no end marker": (FALCON, ("<|endoftext|>",), None, "<|endoftext|>", ("<|endoftext|>",), "falcon"),
}  # fmt: skip


def family_folder(folder: Path, name: str, stops: tuple[str, ...] | None = None) -> Path:
    template, tokens, bos, eos, published, model_type = SOUND[name]
    tokenizer = byte_level(*tokens)
    ids = [tokenizer.token_to_id(t) for t in (published if stops is None else stops)]
    return chat_folder(
        folder, tokenizer=tokenizer, config={"model_type": model_type, "eos_token_id": tokenizer.token_to_id(eos)},
        generation_config={"eos_token_id": ids[0] if len(ids) == 1 else ids, "pad_token_id": None},
        tokenizer_config={"chat_template": template, "bos_token": bos, "eos_token": eos, "pad_token": None},
    )  # fmt: skip


@pytest.mark.parametrize("name", SOUND)
@pytest.mark.parametrize("with_vocabulary", [True, False])
def test_sound_chat_models_are_quiet(name: str, with_vocabulary: bool, tmp_path: Path) -> None:
    folder = family_folder(tmp_path / "m", name)
    if not with_vocabulary:
        (folder / "tokenizer.json").unlink()
    assert alarms(findings(folder)) == set()


@pytest.mark.parametrize(
    ("name", "stops", "signal"),
    [
        ("chatml", ("<|endoftext|>",), "TOK004/terminator_not_stopped_on"),
        ("two stop tokens", ("<eos>",), "TOK004/terminator_not_stopped_on"),
        ("header in the user's turn", ("<|endoftext|>",), "TOK004/terminator_not_stopped_on"),
        ("next role stops", ("<|endoftext|>",), "TOK004/next_turn_not_stopped_on"),
        ("harmony", ("<|endoftext|>",), "TOK004/terminator_not_stopped_on"),
        ("opens a thought", ("<｜User｜>",), "TOK004/terminator_not_stopped_on"),
    ],
)  # fmt: skip
def test_the_same_models_with_another_stop_id(
    name: str, stops: tuple[str, ...], signal: str, tmp_path: Path
) -> None:
    seen = findings(family_folder(tmp_path / "m", name, stops))
    assert alarms(seen) == {signal} and seen[signal].severity == "error"


def test_sound_models_of_other_kinds_are_quiet(tmp_path: Path) -> None:
    assert alarms(findings(t5_folder(tmp_path / "t5"), data=data_file(tmp_path / "rows.json", QA))) == set()
    assert alarms(findings(chat_folder(tmp_path / "chat"), data=data_file(tmp_path / "rows.json", QA))) == set()
    base = byte_level("<|endoftext|>")
    end = base.token_to_id("<|endoftext|>")
    plain = chat_folder(
        tmp_path / "base", tokenizer=base, config={"eos_token_id": end, "vocab_size": end + 900},
        generation_config={"eos_token_id": end, "pad_token_id": None},
        tokenizer_config={"eos_token": "<|endoftext|>", "pad_token": None, "chat_template": None},
    )  # fmt: skip
    assert alarms(findings(plain)) == set()
    classifier = chat_folder(
        tmp_path / "reward", generation_config={"eos_token_id": None},
        config={"architectures": ["Qwen2ForSequenceClassification"], "eos_token_id": None},
    )  # fmt: skip
    assert alarms(findings(classifier)) == set()


# --- stop ids ----------------------------------------------------------------------------------------------------


def _ids() -> tuple[int, int]:
    tokenizer = byte_level("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    return tokenizer.token_to_id("<|endoftext|>"), tokenizer.token_to_id("<|im_end|>")


TEXT_END, TURN_END = _ids()
LATE = CHATML + "{% if not add_generation_prompt %}{{ '<|endoftext|>' }}{% endif %}"


@pytest.mark.parametrize(
    ("changes", "signal", "severity"),
    [
        ({"generation_config": {"eos_token_id": None}}, "TOK004/never_stops", "error"),
        ({"generation_config": {"eos_token_id": "<|im_end|>"}}, "TOK004/unusable_stop_id", "error"),
        ({"generation_config": {"eos_token_id": -1}}, "TOK004/unusable_stop_id", "error"),
        ({"generation_config": {"eos_token_id": TEXT_END}}, "TOK004/terminator_not_stopped_on", "error"),
        ({"generation_config": {"eos_token_id": TEXT_END}, "tokenizer_config": {"chat_template": LATE}},
         "TOK004/terminator_not_stopped_on", "error"),
        ({"generation_config": {"eos_token_id": TEXT_END}, "tokenizer_config": {"chat_template": None}},
         "TOK004/eos_not_stopped_on", "warning"),
        ({"tokenizer_config": {"chat_template": None, "eos_token": "<|endoftext|>"},
          "generation_config": {"eos_token_id": TURN_END}}, "TOK004/eos_differs", "info"),
    ],
)  # fmt: skip
def test_stop_ids(changes: dict[str, Any], signal: str, severity: str, tmp_path: Path) -> None:
    assert findings(chat_folder(tmp_path / "m", **changes))[signal].severity == severity


@pytest.mark.parametrize(
    ("config_eos", "tokenizer_eos", "signal"),
    [
        (TURN_END, "<|im_end|>", "TOK004/ok"),
        (TEXT_END, "<|im_end|>", "TOK004/only_tokenizer_is_right"),
        (TEXT_END, "<|endoftext|>", "TOK004/terminator_not_stopped_on"),
        (None, "<|im_end|>", "TOK004/not_declared"),
    ],
)
def test_stop_ids_without_generation_config(
    config_eos: int | None, tokenizer_eos: str, signal: str, tmp_path: Path
) -> None:
    folder = chat_folder(
        tmp_path / "m", config={"eos_token_id": config_eos}, tokenizer_config={"eos_token": tokenizer_eos}
    )
    (folder / "generation_config.json").unlink()
    assert signal in findings(folder)


def test_generate_stops_where_the_check_says(tmp_path: Path) -> None:
    """The rule of which file counts, against transformers itself."""
    from transformers import GenerationConfig

    from diagnostics.tokenizer.stop_ids import stop_ids

    for number, (own, other) in enumerate([([5, 6], 7), (None, 7), (5, None)]):
        folder = chat_folder(
            tmp_path / str(number), generation_config={"eos_token_id": own}, config={"eos_token_id": other}
        )
        expected = GenerationConfig.from_pretrained(folder).eos_token_id
        found = stop_ids(open_checkpoint(str(folder)))
        assert list(found.ids) == ([] if expected is None else expected if isinstance(expected, list) else [expected])
        (folder / "generation_config.json").unlink()
        expected = GenerationConfig.from_pretrained(
            folder, config_file_name="config.json", _from_model_config=True
        ).eos_token_id
        assert list(stop_ids(open_checkpoint(str(folder))).ids) == ([] if expected is None else [expected])


def test_base_model_with_a_chat_template(tmp_path: Path) -> None:
    """Published so by Qwen; the same files after training, or under a chat model's name, can't stop."""
    one = {"bos_token_id": TEXT_END, "eos_token_id": TEXT_END}
    changes: dict[str, Any] = {
        "config": one, "generation_config": {**one, "do_sample": False, "temperature": None},
        "tokenizer_config": {"eos_token": "<|endoftext|>"},
    }  # fmt: skip
    base = chat_folder(tmp_path / "m-1b", **changes)
    assert "TOK004/base_with_template" in findings(base)
    chat = chat_folder(tmp_path / "m-1b-chat", **changes)
    assert "TOK004/terminator_not_stopped_on" in findings(chat)
    (base / "training_args.bin").write_bytes(b"x")
    assert "TOK004/terminator_not_stopped_on" in findings(base)


def test_encoder_decoder_stop_ids(tmp_path: Path) -> None:
    seen = findings(t5_folder(tmp_path / "a", generation_config={"eos_token_id": 2}))
    assert seen["TOK004/decoder_waits_for_other"].severity == "error"
    bare = unigram()
    bare.post_processor = None
    assert findings(t5_folder(tmp_path / "b", tokenizer=bare))["TOK004/eos_not_appended"].severity == "info"


# --- the end marker in the data ----------------------------------------------------------------------------------


def with_marker(marker: str) -> list[tuple[str, str]]:
    return [(q, a + marker) for q, a in QA * 5]


@pytest.mark.parametrize(
    ("make", "marker", "signal", "severity"),
    [
        (t5_folder, "[EOS]", "TOK006/marker_is_text", "error"),
        (t5_folder, "<|im_end|>\n", "TOK006/marker_is_text", "error"),
        (t5_folder, "</s>", "TOK006/marker_is_eos", "info"),
        (t5_folder, "</answer>", "TOK006/no_marker_in_data", "ok"),
        (t5_folder, "[1]", "TOK006/no_marker_in_data", "ok"),
        (chat_folder, "</s>", "TOK006/marker_is_text", "error"),
        (chat_folder, " [EOS] ", "TOK006/marker_is_text", "error"),
        (chat_folder, "<|im_end|>", "TOK006/marker_is_eos", "info"),
        (chat_folder, "<|im_start|>", "TOK006/marker_not_stopped_on", "warning"),
    ],
)  # fmt: skip
def test_end_marker_in_data(
    make: Callable[[Path], Path], marker: str, signal: str, severity: str, tmp_path: Path
) -> None:
    data = data_file(tmp_path / "rows.json", with_marker(marker))
    seen = findings(make(tmp_path / "m"), data=data)
    assert seen[signal].severity == severity
    assert not [s for s in seen if s.startswith("TOK006") and s != signal]
    if signal == "TOK006/marker_is_text":
        assert seen[signal].params["k"] > 1 and "".join(seen[signal].params["pieces"])


def test_founding_case_names_its_cause(tmp_path: Path) -> None:
    """A T5 whose training text ended with the characters [EOS]."""
    from diagnostics.diagnose_checkpoint import diagnose_checkpoint

    folder = t5_folder(tmp_path / "m")
    data = data_file(tmp_path / "rows.json", [(f"{q}[EOS]", f"{a}[EOS]") for q, a in QA * 5])
    report = diagnose_checkpoint(str(folder), data=[str(data)])
    message = next(f.message for f in report.findings if f.code == "TOK006")
    assert "[EOS]" in message and "</s>" in message and "100%" in message


def test_few_marked_answers_are_no_end_marker(tmp_path: Path) -> None:
    rows = [("Explain </s>", "It is written </s>"), *QA * 4]
    assert "TOK006/no_marker_in_data" in findings(t5_folder(tmp_path / "m"), data=data_file(tmp_path / "r.json", rows))


def test_end_token_that_the_vocabulary_lacks(tmp_path: Path) -> None:
    folder = chat_folder(tmp_path / "m", tokenizer_config={"eos_token": "<|eot_id|>"})
    assert findings(folder)["TOK006/eos_not_in_vocabulary"].severity == "error"


# --- ids, files, vocabulary --------------------------------------------------------------------------------------


def grown(*tokens: str) -> Tokenizer:
    return byte_level("<|endoftext|>", "<|im_start|>", "<|im_end|>", *tokens)


SIZE = grown().get_vocab_size()


@pytest.mark.parametrize(
    ("changes", "signal", "severity"),
    [
        ({"config": {"vocab_size": SIZE}}, "TOK002/ok", "ok"),
        ({"config": {"vocab_size": SIZE + 1000}}, "TOK002/ok", "ok"),
        ({"config": {"vocab_size": SIZE * 20}}, "TOK002/far_smaller", "warning"),
        ({"config": {"vocab_size": SIZE - 100}}, "TOK002/pieces_beyond", "error"),
        ({"config": {"vocab_size": SIZE - 1}}, "TOK002/special_beyond", "error"),
        ({"config": {"vocab_size": SIZE}, "tokenizer": grown("<happy>", "<sad>")}, "TOK002/added_beyond", "warning"),
        ({"config": {"vocab_size": SIZE}, "tokenizer": grown("<image_soft_token>")}, "TOK002/media_beyond", "info"),
        ({"config": {"vocab_size": SIZE}, "tokenizer_config": {"pad_token": "[PAD]"}}, "TOK002/special_beyond",
         "error"),
        ({"config": {"vocab_size": SIZE, "pad_token_id": SIZE}}, "TOK002/configured_id", "error"),
        ({"config": {"vocab_size": None, "text_config": {"vocab_size": SIZE}}}, "TOK002/ok", "ok"),
    ],
)  # fmt: skip
def test_ids_and_embedding(changes: dict[str, Any], signal: str, severity: str, tmp_path: Path) -> None:
    seen = findings(chat_folder(tmp_path / "m", **changes))
    assert seen[signal].severity == severity


def test_rows_come_from_the_weights(tmp_path: Path) -> None:
    folder = chat_folder(tmp_path / "m")
    name = "model.embed_tokens.weight"
    header = json.dumps({name: {"dtype": "F16", "shape": [SIZE - 2, 4], "data_offsets": [0, (SIZE - 2) * 8]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes((SIZE - 2) * 8))
    found = findings(folder)["TOK002/special_beyond"]
    assert any(name in e.where and e.value == SIZE - 2 for e in found.evidence)


def test_added_tokens_that_the_data_uses(tmp_path: Path) -> None:
    folder = chat_folder(tmp_path / "m", config={"vocab_size": SIZE}, tokenizer=grown("<happy>", "<sad>"))
    data = data_file(tmp_path / "rows.json", [("Which colour", "<happy> yellow"), *QA])
    assert findings(folder, data=data)["TOK002/used_beyond"].params["token"] == "<happy>"


def test_marker_that_is_a_word_only(tmp_path: Path) -> None:
    whole = byte_level("<|endoftext|>", "<|im_start|>")
    whole.add_tokens([AddedToken("<|im_end|>", special=True, normalized=False, single_word=True)])
    found = findings(chat_folder(tmp_path / "m", tokenizer=whole))["TOK003/end_splits"]
    assert found.severity == "error" and found.params["n"] >= 2


def test_files_that_disagree(tmp_path: Path) -> None:
    folder = chat_folder(tmp_path / "m")
    write_json(folder, "special_tokens_map.json", {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"})
    write_json(folder, "added_tokens.json", {"<|im_end|>": 5})
    (folder / "chat_template.jinja").write_text(CHATML + "{# changed #}", encoding="utf-8")
    seen = findings(folder)
    assert seen["TOK009/role_differs_unread"].severity == "info"
    assert seen["TOK009/two_ids"].severity == "error"
    assert seen["TOK009/two_templates"].severity == "info"
    older = chat_folder(tmp_path / "o", tokenizer_config={"added_tokens_decoder": None})
    write_json(older, "special_tokens_map.json", {"eos_token": "<|endoftext|>"})
    differs = findings(older)["TOK009/role_differs"]
    assert (differs.severity, differs.params["role"], differs.params["wins"]) == ("warning", "eos", "<|endoftext|>")
    moved = chat_folder(tmp_path / "n", tokenizer_config={"added_tokens_decoder": {"7": {"content": "<|im_end|>"}}})
    assert findings(moved)["TOK009/id_moved"].severity == "error"


@pytest.mark.parametrize(
    ("changes", "signal", "severity"),
    [
        ({"tokenizer_config": {"pad_token": "<|im_end|>"}}, "TOK005/pad_is_end", "info"),
        ({"tokenizer_config": {"pad_token": None}, "generation_config": {"pad_token_id": None}}, "TOK005/no_pad",
         "info"),
        ({"generation_config": {"pad_token_id": 3}}, "TOK005/ids_differ", "info"),
        ({"config": {"pad_token_id": "<pad>"}}, "TOK005/unusable_id", "error"),
        ({"tokenizer_config": {"padding_side": "right"}}, "TOK008/right", "info"),
        ({"tokenizer_config": {"padding_side": "middle"}}, "TOK008/unknown_side", "warning"),
    ],
)  # fmt: skip
def test_padding(changes: dict[str, Any], signal: str, severity: str, tmp_path: Path) -> None:
    assert findings(chat_folder(tmp_path / "m", **changes))[signal].severity == severity
    t5 = t5_folder(tmp_path / "t5", generation_config={"pad_token_id": 5})
    assert findings(t5)["TOK005/ids_differ"].severity == "warning"


def test_start_tokens(tmp_path: Path) -> None:
    from tokenizers import processors

    tokenizer = byte_level("<s>", "</s>")
    bos = tokenizer.token_to_id("<s>")

    def folder(name: str, template: str, adds: bool) -> Path:
        whole = Tokenizer.from_str(tokenizer.to_str())
        if adds:
            whole.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bos)])
        end = whole.token_to_id("</s>")
        return chat_folder(
            tmp_path / name, tokenizer=whole, generation_config={"eos_token_id": end, "pad_token_id": None},
            tokenizer_config={"bos_token": "<s>", "eos_token": "</s>", "pad_token": None, "chat_template": template},
        )  # fmt: skip

    once, twice = ZEPHYR.replace("{% for", "{{ bos_token }}{% for", 1), "<s>{{ bos_token }}" + ZEPHYR
    assert findings(folder("once", once, False))["TOK007/ok"].severity == "ok"
    assert findings(folder("both", once, True))["TOK007/both_add"].severity == "info"
    assert findings(folder("none", ZEPHYR, True))["TOK007/template_without_bos"].severity == "info"
    assert findings(folder("twice", twice, False))["TOK007/template_writes_two"].severity == "error"
    data = data_file(tmp_path / "rows.json", [(f"<s> {q}", a) for q, a in QA])
    assert findings(folder("data", once, False), data=data)["TOK007/bos_in_data"].severity == "error"
    some = data_file(tmp_path / "some.json", [("<s>Which", "yes"), *QA])
    assert findings(folder("some", ZEPHYR, True), data=some)["TOK007/bos_in_data"].severity == "warning"


def test_text_that_does_not_survive(tmp_path: Path) -> None:
    english = t5_folder(tmp_path / "m", tokenizer=unigram(150, english=True))
    chinese = data_file(tmp_path / "zh.json", [(CORPUS[5], CORPUS[6]), (CORPUS[7], CORPUS[5])])
    assert findings(english, data=chinese)["TOK010/data_unknown"].severity == "error"
    assert findings(english)["TOK010/language_not_covered"].params["language"] == "zh"
    own = data_file(tmp_path / "en.json", [(CORPUS[0], CORPUS[1])])
    assert findings(english, data=own)["TOK010/data_ok"].params["percent"] < 1


def test_control_tokens_in_data(tmp_path: Path) -> None:
    folder = chat_folder(tmp_path / "m", tokenizer=grown("<|reserved_7|>", "<think>"))
    thoughts = data_file(tmp_path / "t.json", [(q, f"<think>hm</think> {a}") for q, a in QA])
    assert findings(folder, data=thoughts)["TOK011/ok"].severity == "ok"
    inside = data_file(tmp_path / "i.json", [(q, f"{a} <|im_start|> more") for q, a in QA])
    assert findings(folder, data=inside)["TOK011/special_inside"].severity == "warning"
    reserved = data_file(tmp_path / "r.json", [(f"{q} <|reserved_7|>", a) for q, a in QA])
    assert findings(folder, data=reserved)["TOK011/reserved"].severity == "warning"
    prompts = [(f"<|im_start|>user\n{q}<|im_end|>\n<|im_start|>assistant", a) for q, a in QA]
    rendered = data_file(tmp_path / "d.json", prompts)
    assert findings(folder, data=rendered)["TOK011/already_rendered"].severity == "info"


def test_tokenizer_of_another_model(tmp_path: Path) -> None:
    folder = chat_folder(tmp_path / "m")
    assert findings(folder, base=chat_folder(tmp_path / "same"))["TOK012/ok"].severity == "ok"
    more = chat_folder(tmp_path / "more", tokenizer=grown("<happy>"), config={"vocab_size": SIZE + 64})
    assert findings(more, base=folder)["TOK012/ok"].severity == "ok"
    other = Tokenizer(models.BPE())
    other.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    other.train_from_iterator(["zebra quokka xylophone jazz " * 9, "另一个完全不同的语料库文本" * 9], trainer)
    other.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    rows = {"vocab_size": 448}
    foreign = chat_folder(tmp_path / "foreign", tokenizer=other, config=rows)
    seen = findings(foreign, base=chat_folder(tmp_path / "base", config=rows))
    assert seen["TOK012/pieces_differ"].severity == "error" and seen["TOK012/pieces_differ"].params["n"] > 10
    renamed = Tokenizer.from_str(grown("<|reserved_1|>").to_str().replace("<|reserved_1|>", "<|mine|>"))
    seen = findings(
        chat_folder(tmp_path / "renamed", tokenizer=renamed),
        base=chat_folder(tmp_path / "reserved", tokenizer=grown("<|reserved_1|>")),
    )
    assert seen["TOK012/renamed"].severity == "info"


def test_unreadable_vocabularies(tmp_path: Path) -> None:
    cut = chat_folder(tmp_path / "cut")
    raw = (cut / "tokenizer.json").read_bytes()
    (cut / "tokenizer.json").write_bytes(raw[: len(raw) // 2])
    assert findings(cut)["TOK001/broken"].severity == "error"
    pointer = chat_folder(tmp_path / "pointer")
    (pointer / "tokenizer.json").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n")
    assert findings(pointer)["TOK001/lfs_pointer"].severity == "error"
    foreign = chat_folder(tmp_path / "tiktoken")
    (foreign / "tokenizer.json").rename(foreign / "qwen.tiktoken")
    assert findings(foreign)["TOK001/unsupported"].severity == "info"


# --- generation settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "outcome", "severity"),
    [
        ({"temperature": 0.6, "top_p": 0.95, "top_k": 20, "repetition_penalty": 1.05}, "ok", "ok"),
        ({"do_sample": False, "temperature": 0.0}, "sampling_off", "info"),
        ({"do_sample": True, "temperature": 0.0}, "temperature_zero", "error"),
        ({"do_sample": True, "temperature": 2.5}, "temperature_high", "warning"),
        ({"top_p": 1.5}, "out_of_range", "error"),
        ({"repetition_penalty": 0.0}, "out_of_range", "error"),
        ({"repetition_penalty": 1.8}, "penalty_high", "warning"),
        ({"repetition_penalty": 0.7}, "penalty_rewards_repetition", "warning"),
        ({"length_penalty": -2.0, "num_beams": 5, "do_sample": False, "temperature": None}, "short_beams_favoured",
         "warning"),
        ({"length_penalty": -2.0}, "length_penalty_idle", "info"),
        ({"num_beams": 5}, "beams_with_sampling", "info"),
        ({"remove_invalid_values": True}, "hides_invalid_values", "warning"),
        ({"no_repeat_ngram_size": 1}, "ngram_ban_tight", "warning"),
        ({"no_repeat_ngram_size": 4}, "ngram_ban", "info"),
        ({"max_length": 20}, "very_short", "warning"),
        ({"max_new_tokens": 8}, "very_short", "warning"),
        ({"max_length": 20, "max_new_tokens": 512}, "ok", "ok"),
        ({"max_new_tokens": 100, "min_new_tokens": 200}, "minimum_above_maximum", "error"),
        ({"do_sample": False, "temperature": None, "num_return_sequences": 4}, "too_many_sequences", "error"),
        ({"suppress_tokens": [TEXT_END, TURN_END]}, "end_is_forbidden", "error"),
        ({"temperature": "0.7"}, "not_a_number", "error"),
    ],
)  # fmt: skip
def test_generation_defaults(settings: dict[str, Any], outcome: str, severity: str, tmp_path: Path) -> None:
    seen = findings(chat_folder(tmp_path / "m", generation_config=settings))
    assert seen[f"GEN001/{outcome}"].severity == severity
    assert len([s for s in seen if s.startswith("GEN001/")]) == 1


def test_encoder_decoder_without_a_start(tmp_path: Path) -> None:
    """generate() takes the start from generation_config.json alone where that is there, else from config.json."""
    gone = {"decoder_start_token_id": None}
    cases = [
        (gone, gone, True), ({}, gone, True), (gone, {}, False), ({**gone, "bos_token_id": 0}, gone, True),
        (gone, {**gone, "bos_token_id": 0}, False), (gone, None, True), ({}, None, False),
        ({**gone, "model_type": "bart"}, None, False),
    ]  # fmt: skip
    for number, (config, generation, fails) in enumerate(cases):
        folder = t5_folder(tmp_path / str(number), config=config, generation_config=generation or {})
        if generation is None:
            (folder / "generation_config.json").unlink()
        found = findings(folder)
        assert ("GEN001/no_decoder_start" in found) == fails, (config, generation)
        assert not fails or found["GEN001/no_decoder_start"].severity == "error"


def test_summariser_settings_are_quiet(tmp_path: Path) -> None:
    settings = {"num_beams": 4, "no_repeat_ngram_size": 3, "length_penalty": 2.0, "min_length": 56, "max_length": 142,
                "early_stopping": True, "forced_bos_token_id": 0}  # fmt: skip
    assert "GEN001/ok" in findings(t5_folder(tmp_path / "m", generation_config=settings))
    assert "GEN001/default_length" in findings(t5_folder(tmp_path / "n", generation_config={"max_length": None}))


# --- words -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["tokenizer", "template"])
def test_every_outcome_in_these_folders_has_words_in_both_languages(family: str) -> None:
    """Also outcomes that helpers yield, which a check's own source does not show."""
    for path in sorted((ROOT / "diagnostics" / family).glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        code = (ast.get_docstring(tree) or "")[:6]
        if not code[3:].isdigit():
            continue
        calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and n.args]
        named = {
            n.args[0].value
            for n in calls
            if isinstance(n.args[0], ast.Constant) and isinstance(n.args[0].value, str)
            and (getattr(n.func, "id", "") in ("ok", "info", "warning", "error") or isinstance(n.func, ast.IfExp))
        }  # fmt: skip
        for lang in ("en", "zh"):
            words = yaml.safe_load((ROOT / f"configs/words/{lang}/{code[:3]}.yaml").read_text(encoding="utf-8"))[code]
            assert named <= words.keys(), f"{lang} {code}: {named - words.keys()}"


def test_small_files_alone_know_what_they_can(tmp_path: Path) -> None:
    """Configuration and tokenizer_config.json only, as a repository looks before the large files are fetched."""
    folder = chat_folder(tmp_path / "m", generation_config={"eos_token_id": TEXT_END})
    (folder / "tokenizer.json").unlink()
    seen = findings(folder)
    assert alarms(seen) == {"TOK004/terminator_not_stopped_on"}
    assert seen["TOK001/only_declared"].severity == "info"
    assert added_tokens_decoder(grown())[str(TURN_END)]["content"] == "<|im_end|>"


# --- another model's tokenizer, seen in the ids alone ------------------------------------------------------------

LLAMA_LIST = {
    str(128000 + n): {"content": t, "special": True}
    for n, t in enumerate(["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|eot_id|>"])
}


def small_files(folder: Path, ids: Any, **tokenizer_config: Any) -> Path:
    """Llama's list of added tokens beside a configuration that uses `ids`; no vocabulary."""
    named = {"chat_template": CHATML.replace("<|im_end|>", "<|eot_id|>"), "eos_token": "<|eot_id|>",
             "pad_token": None, "bos_token": "<|begin_of_text|>", "added_tokens_decoder": LLAMA_LIST}  # fmt: skip
    made = chat_folder(
        folder, config={"vocab_size": 152064, "eos_token_id": ids}, tokenizer_config={**named, **tokenizer_config},
        generation_config={"eos_token_id": ids, "pad_token_id": None},
    )  # fmt: skip
    (made / "tokenizer.json").unlink()
    return made


@pytest.mark.parametrize(
    ("ids", "signal"),
    [([151645, 151643], "TOK002/configured_ids_absent"), (128002, "TOK002/configured_ids_reserved")],
)
def test_configuration_of_another_tokenizer(ids: Any, signal: str, tmp_path: Path) -> None:
    """Not a stop token to be added: adding one would hide that every word means another."""
    from diagnostics.diagnose_checkpoint import diagnose_checkpoint

    folder = small_files(tmp_path / "m", ids)
    assert alarms(findings(folder)) == {signal}
    assert diagnose_checkpoint(str(folder), depth="files").causes[0].id == "vocab_mismatch"


def test_stop_ids_of_the_same_tokenizer_stay_a_stop_fault(tmp_path: Path) -> None:
    assert "TOK004/terminator_not_stopped_on" in alarms(findings(small_files(tmp_path / "a", 128001)))
    assert alarms(findings(small_files(tmp_path / "b", [128001, 128003]))) == set()
    unlisted = small_files(tmp_path / "c", 151645, pad_token="<pad>")  # the list is not complete
    assert "TOK002/configured_ids_absent" not in findings(unlisted)


def test_vocabulary_without_the_configured_ids(tmp_path: Path) -> None:
    folder = chat_folder(tmp_path / "m", config={"vocab_size": SIZE + 500, "eos_token_id": SIZE + 9},
                         generation_config={"eos_token_id": SIZE + 9, "pad_token_id": None})  # fmt: skip
    assert "TOK002/configured_ids_absent" in alarms(findings(folder))


def test_no_advice_beyond_the_embedding(tmp_path: Path) -> None:
    wrong = findings(chat_folder(tmp_path / "a", generation_config={"eos_token_id": 999_999}))
    assert wrong["TOK004/terminator_not_stopped_on"].params["new"] == [TURN_END]
    small = findings(chat_folder(tmp_path / "b", config={"vocab_size": TURN_END, "eos_token_id": TEXT_END},
                                 generation_config={"eos_token_id": TEXT_END}))  # fmt: skip
    assert "TOK002/special_beyond" in small and not any(s.startswith("TOK004") for s in small)


# --- tokenizers that are not there, or can't work ----------------------------------------------------------------


def test_no_end_token_is_named_without_a_tokenizer(tmp_path: Path) -> None:
    write_json(tmp_path, "config.json", {"model_type": "llama", "vocab_size": 100})
    assert not any(s.startswith("TOK004") for s in findings(tmp_path))
    write_json(tmp_path, "generation_config.json", {"eos_token_id": None})
    assert findings(tmp_path)["TOK004/never_stops_unnamed"].severity == "error"


def test_tokenizer_that_crashes_on_text(tmp_path: Path) -> None:
    folder = chat_folder(tmp_path / "m")
    path = folder / "tokenizer.json"
    crash = {"type": "Replace", "pattern": {"String": ""}, "content": "x" * 1000}
    path.write_text(json.dumps({**json.loads(path.read_text()), "normalizer": crash}))
    assert alarms(findings(folder)) == {"TOK001/encode_crashed"}


def test_one_very_long_row(tmp_path: Path) -> None:
    data = data_file(tmp_path / "rows.json", [("a" * 3_000_000, "b"), *QA])
    assert "TOK010/data_ok" in findings(chat_folder(tmp_path / "m"), data=data)


def test_eos_that_no_list_holds(tmp_path: Path) -> None:
    folder = small_files(tmp_path / "m", [128001, 128003], eos_token="<|END|>")
    assert findings(folder)["TOK009/role_not_listed"].severity == "warning"


@pytest.mark.parametrize(
    ("architecture", "template", "severity"),
    [
        ("Qwen2ForCausalLM", False, "warning"), ("Qwen2Model", False, "info"),
        ("Qwen2ForCausalLM", True, "info"),  # a rendered prompt is encoded without additions
    ],
)  # fmt: skip
def test_tokenizer_that_ends_every_prompt(architecture: str, template: bool, severity: str, tmp_path: Path) -> None:
    from tokenizers import processors

    ending = grown()
    ending.post_processor = processors.TemplateProcessing(
        single="$A <|im_end|>", special_tokens=[("<|im_end|>", ending.token_to_id("<|im_end|>"))]
    )
    bare = {} if template else {"tokenizer_config": {"chat_template": None}}
    folder = chat_folder(tmp_path / "m", tokenizer=ending, config={"architectures": [architecture]}, **bare)
    assert findings(folder)["TOK004/eos_behind_prompts"].severity == severity
    declared = small_files(tmp_path / "n", [128001, 128003], add_eos_token=True)
    assert findings(declared)["TOK004/eos_behind_prompts_declared"].severity == "info"


def test_tokens_beyond_are_counted_not_their_range(tmp_path: Path) -> None:
    words = {"<unk>": 0, "<|endoftext|>": 1, "<|im_start|>": 2, "<|im_end|>": 3, "far": 2_000_000_000}
    far = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    far.pre_tokenizer = pre_tokenizers.Whitespace()
    far.add_special_tokens([AddedToken(t, special=True) for t in list(words)[1:4]])
    folder = chat_folder(tmp_path / "m", tokenizer=far, config={"vocab_size": 64})
    assert findings(folder)["TOK002/pieces_beyond"].params["n"] == 1


def test_crashing_tokenizer_is_not_used_in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Loaded:
        tokenizer: str | None = "a tokenizer"
        tokenizer_problem: str = ""

    monkeypatch.setattr(CheckpointSubject, "_load", lambda self, checkpoint, base: Loaded())
    sound, sick = chat_folder(tmp_path / "a"), chat_folder(tmp_path / "b")
    path = sick / "tokenizer.json"
    crash = {"type": "Replace", "pattern": {"String": ""}, "content": "x" * 1000}
    path.write_text(json.dumps({**json.loads(path.read_text()), "normalizer": crash}))
    for folder, expected in ((sound, Loaded()), (sick, Loaded(None, "encode_crashed"))):
        subject = CheckpointSubject(open_checkpoint(str(folder)))
        try:
            assert subject.load_outcome == expected
        finally:
            subject.close()


def test_unknown_markers_behind_a_conversation_are_only_doubted(tmp_path: Path) -> None:
    """Whether the model also writes the end of the conversation can't be told from names that nobody knows."""
    tokenizer = byte_level("<|endoftext|>", "<|im_start|>", "<|done|>")
    ids = {t: tokenizer.token_to_id(t) for t in ("<|endoftext|>", "<|done|>")}
    folder = chat_folder(
        tmp_path / "m", tokenizer=tokenizer, config={"eos_token_id": ids["<|endoftext|>"]},
        generation_config={"eos_token_id": ids["<|endoftext|>"], "pad_token_id": None},
        tokenizer_config={"chat_template": LATE.replace("<|im_end|>", "<|done|>"), "eos_token": "<|endoftext|>"},
    )  # fmt: skip
    assert findings(folder)["TOK004/stops_after_conversation"].severity == "warning"
