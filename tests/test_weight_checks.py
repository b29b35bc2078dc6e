"""WGT001-WGT009 on small checkpoints: each fault is named as what it is, what is sound stays quiet."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from weight_files import stored, tiny_llama, write_checkpoint, write_safetensors

from diagnostics.check_table import CHECKPOINT_CHECKS
from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.diagnose_checkpoint import diagnose_checkpoint
from diagnostics.run_checks import run_checks
from diagnostics.thresholds import load_thresholds
from pipeline.checkpoint import open_checkpoint

Tensors = dict[str, Any]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }} {{ m['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant {% endif %}"
)


def weights_report(path: Path, **given: Any) -> tuple[dict[str, list[str]], CheckpointSubject]:
    """Outcomes of the WGT checks by code (`skipped:REASON` for what was not measured), and the subject."""
    subject = CheckpointSubject(open_checkpoint(str(path)), **given)
    seen: dict[str, list[str]] = {}
    for event in run_checks([c for c in CHECKPOINT_CHECKS if c.code.startswith("WGT")], subject, load_thresholds(),
                            depth="weights"):  # fmt: skip
        if event.finding is not None:
            seen.setdefault(event.code, []).append(event.finding.outcome)
        if event.skipped is not None:
            assert event.skipped.reason_id != "check_crashed", event.skipped.params
            seen.setdefault(event.code, []).append(f"skipped:{event.skipped.reason_id}")
    if "probe" in subject.__dict__:
        subject.probe.close()
    return seen, subject


def changed(tensors: Mapping[str, Any], name: str, change: Callable[[np.ndarray], np.ndarray]) -> Tensors:
    return {n: change(np.array(t)) if n == name else t for n, t in tensors.items()}


def put(value: float, at: tuple[int, ...]) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array[at] = value
        return array

    return change


UP = "model.layers.1.mlp.up_proj.weight"
FAULTS: dict[str, tuple[Callable[[], Tensors], dict[str, Any], str, str]] = {
    "one NaN": (lambda: changed(tiny_llama(), UP, put(np.nan, (63, 31))), {}, "WGT001", "nan_in_weights"),
    "one infinity": (lambda: changed(tiny_llama(), UP, put(-np.inf, (0, 0))), {}, "WGT001", "infinity_in_weights"),
    "mask": (lambda: tiny_llama() | {"attn_mask": np.full((4, 4), -np.inf, np.float32)}, {}, "WGT001",
             "mask_holds_infinity"),
    "too large": (lambda: changed(tiny_llama(), UP, put(7e4, (1, 1))), {"dtype": "float16"}, "WGT002",
                  "too_large_for_float16"),
    "stored inf": (lambda: {n: stored(t, "F16") for n, t in changed(tiny_llama(), UP, put(7e4, (1, 1))).items()}, {},
                   "WGT002", "infinity_stored"),
    "clipped": (lambda: {n: stored(t, "F16") for n, t in changed(tiny_llama(), UP, put(-65504, (1, 1))).items()}, {},
                "WGT002", "clipped_to_float16"),
    "zero layer": (lambda: {n: t * 0 if ".layers.1." in n and t.ndim == 2 else t for n, t in tiny_llama().items()}, {},
                   "WGT003", "zero_matrices"),
    "zero head": (lambda: changed(tiny_llama(), "lm_head.weight", np.zeros_like), {}, "WGT003", "zero_matrices"),
    "constant": (lambda: changed(tiny_llama(), UP, np.ones_like), {}, "WGT003", "constant_matrices"),
    "final norm": (lambda: changed(tiny_llama(), "model.norm.weight", np.zeros_like), {}, "WGT003", "zero_norms"),
    "one norm": (lambda: changed(tiny_llama(), "model.layers.0.input_layernorm.weight", np.zeros_like), {}, "WGT003",
                 "some_zero_norms"),
    "identity block": (lambda: {n: t * 0 if "layers.1" in n and ("o_proj" in n or "down_proj" in n) else t
                                for n, t in tiny_llama().items()}, {}, "WGT003", "identity_blocks"),
    "one zero projection": (lambda: changed(tiny_llama(), "model.layers.1.mlp.down_proj.weight", np.zeros_like), {},
                            "WGT003", "zero_matrices"),
    "tied differ": (tiny_llama, {"tie_word_embeddings": True}, "WGT009", "differs"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_in_one_checkpoint(fault: str, tmp_path: Path) -> None:
    make, config, code, outcome = FAULTS[fault]
    seen, _ = weights_report(write_checkpoint(tmp_path / "m", make(), **config))
    assert outcome in seen[code]
    quiet = {"WGT001", "WGT002", "WGT003"} - {code, *(["WGT001"] if fault == "stored inf" else [])}
    assert all(seen[c] == ["ok"] for c in quiet), seen


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_sound_weights_are_fine(dtype: str, tmp_path: Path) -> None:
    """Zero biases, norms of one, a zero padding row, Gemma's norms about zero, large numbers in bfloat16."""
    tensors: Tensors = tiny_llama(tied=True) | {"model.layers.0.self_attn.q_proj.bias": np.zeros(32, np.float32)}
    tensors["model.embed_tokens.weight"][0] = 0
    if dtype == "BF16":
        tensors = changed(tensors, UP, put(1e6, (1, 1)))
    tensors = {n: stored(t * 0 if t.ndim == 1 else t, dtype) for n, t in tensors.items()}
    folder = write_checkpoint(
        tmp_path / "m", tensors, model_type="gemma2", tie_word_embeddings=True, eos_token_id=[2, 0], pad_token_id=0,
        dtype={"F32": "float32", "F16": "float16", "BF16": "bfloat16"}[dtype],
    )  # fmt: skip
    seen, subject = weights_report(folder)
    assert [seen[c] for c in ("WGT001", "WGT002", "WGT003", "WGT005")] == [["ok"]] * 4
    assert seen["WGT006"] == ["skipped:no_base"] and seen["WGT009"] == ["skipped:only_one_stored"]
    assert subject.metrics["weights.nan"] == 0


def test_quantised_weights_are_not_judged(tmp_path: Path) -> None:
    tensors = {n: np.zeros(t.shape, np.int8) for n, t in tiny_llama().items() if t.ndim == 2}
    seen, _ = weights_report(write_checkpoint(tmp_path / "m", tensors))
    assert seen["WGT001"] == ["ok"]
    assert seen["WGT002"] == seen["WGT003"] == seen["WGT005"] == ["skipped:quantised_weights"]


# --- beside a base ---


def beside_base(folder: Path, ours: Tensors, base: Tensors | None = None, **config: Any) -> dict[str, list[str]]:
    write_checkpoint(folder / "base", base if base is not None else tiny_llama(), **config)
    write_checkpoint(folder / "ours", ours, **config)
    seen, subject = weights_report(folder / "ours", base_path=str(folder / "base"))
    assert {d["layer"] for d in subject.curves["distance_to_base"]} >= {"layers.0", "layers.1"}
    json.dumps(subject.curves, allow_nan=False)
    return seen


def noisy(tensors: Tensors, scale: float, only: str = "") -> Tensors:
    random = np.random.default_rng(7)
    return {
        n: (t + random.standard_normal(t.shape) * scale).astype(np.float32) if only in n and t.ndim == 2 else t
        for n, t in tensors.items()
    }


def test_fine_tuned_is_fine(tmp_path: Path) -> None:
    seen = beside_base(tmp_path, noisy(tiny_llama(), 0.001))
    assert seen["WGT006"] == seen["WGT007"] == seen["WGT008"] == ["ok"]


def test_merged_lora_is_fine(tmp_path: Path) -> None:
    """Only the query projections moved: most tensors are equal, and that is no fault."""
    seen = beside_base(tmp_path, noisy(tiny_llama(layers=4), 0.01, "q_proj"), tiny_llama(layers=4))
    assert seen["WGT006"] == seen["WGT007"] == seen["WGT008"] == ["ok"]


def test_the_base_itself(tmp_path: Path) -> None:
    seen = beside_base(tmp_path, tiny_llama())
    assert seen["WGT006"] == ["identical"] and seen["WGT007"] == ["hardly_moved"]
    report = diagnose_checkpoint(str(tmp_path / "ours"), base=str(tmp_path / "base"), depth="weights")
    alone = diagnose_checkpoint(str(tmp_path / "base"), depth="weights")
    assert report.subject.fingerprint == alone.subject.fingerprint
    assert report.subject.fingerprint != diagnose_checkpoint(str(tmp_path / "base"), depth="files").subject.fingerprint


def test_the_base_cast_and_resized(tmp_path: Path) -> None:
    ours = tiny_llama()
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        ours[name] = np.concatenate([ours[name], ours[name][:4]])
    seen = beside_base(tmp_path, {n: stored(t, "BF16") for n, t in ours.items()})
    assert seen["WGT006"] == ["identical"]


def test_another_base(tmp_path: Path) -> None:
    seen = beside_base(tmp_path, tiny_llama(seed=1))
    assert seen["WGT007"] == ["unrelated"] and seen["WGT008"] == ["skipped:body_far_from_base"]


def test_weights_blown_up_are_no_other_model(tmp_path: Path) -> None:
    ours = {n: t * 60 if "norm" not in n else t for n, t in tiny_llama(seed=1).items()}
    assert beside_base(tmp_path, ours)["WGT007"] == ["blown_up"]


def test_a_layer_made_anew(tmp_path: Path) -> None:
    other, base = tiny_llama(layers=6, seed=1), tiny_llama(layers=6)
    ours = {n: other[n] if ".layers.3." in n else t for n, t in noisy(base, 0.001).items()}
    seen = beside_base(tmp_path, ours, base)
    assert seen["WGT007"] == ["layers_replaced"] and seen["WGT006"] == ["ok"]


@pytest.mark.parametrize("base_tied", [False, True])
def test_a_head_made_anew(base_tied: bool, tmp_path: Path) -> None:
    """Also where the base has no head of its own: its embedding is what the head should resemble."""
    base = tiny_llama(tied=base_tied)
    ours = noisy(base, 0.001) | {"lm_head.weight": tiny_llama(seed=5)["lm_head.weight"]}
    assert beside_base(tmp_path, ours, base)["WGT008"] == ["head_is_new"]
    ours["lm_head.weight"] = base["model.embed_tokens.weight" if base_tied else "lm_head.weight"] * 1.01
    assert beside_base(tmp_path, ours, base)["WGT008"] == ["ok"]


def test_the_checkpoint_as_its_own_base(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m", tiny_llama())
    seen, _ = weights_report(folder, base_path=str(tmp_path / "." / "m"))
    assert seen["WGT006"] == ["skipped:base_is_this"]


def test_a_base_of_another_shape(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "base", tiny_llama(width=16))
    seen, _ = weights_report(write_checkpoint(tmp_path / "m", tiny_llama()), base_path=str(tmp_path / "base"))
    assert seen["WGT006"] == ["skipped:no_shared_tensors"]


# --- adapters ---


def lora(zero: Callable[[str], bool] = lambda name: False, scale: float = 0.01, **more: Any) -> Tensors:
    random = np.random.default_rng(3)
    made: Tensors = {}
    for n in range(4):
        for module in ("self_attn.q_proj", "mlp.up_proj"):
            name = f"base_model.model.model.layers.{n}.{module}"
            made[f"{name}.lora_A.weight"] = random.standard_normal((4, 32)).astype(np.float32)
            made[f"{name}.lora_B.weight"] = (random.standard_normal((32, 4)) * scale).astype(np.float32)
    made = {n: t * 0 if zero(n) else t for n, t in made.items()}
    return made | more


@pytest.mark.parametrize(
    ("tensors", "outcome"),
    [
        (lora(), "ok"),
        (lora(lambda n: "lora_B" in n), "never_trained"),
        (lora(lambda n: "lora_A" in n), "never_trained"),
        (lora(lambda n: "layers.2" in n and "lora_B" in n), "some_modules_silent"),
        (lora(scale=1e-9), "barely_trained"),
        (lora(lambda n: "lora_B" in n, **{"base_model.model.lm_head.weight": np.ones((9, 4), np.float32)}),
         "only_full_copies"),
        ({n.replace("mlp.up_proj", "visual.up_proj"): t for n, t in lora(lambda n: "up_proj.lora_B" in n).items()},
         "unused_modules"),
        ({f"base_model.model.layers.{n}.mlp.ia3_l": np.ones((1, 32), np.float32) for n in range(3)}, "never_trained"),
        ({"base_model.prompt_encoder.embedding.weight": np.ones((8, 32), np.float32)}, "skipped:no_trained_from_zero"),
    ],
)  # fmt: skip
def test_adapters(tensors: Tensors, outcome: str, tmp_path: Path) -> None:
    write_safetensors(tmp_path / "adapter_model.safetensors", tensors)
    settings = {"peft_type": "LORA", "r": 4, "modules_to_save": ["lm_head"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    seen, _ = weights_report(tmp_path)
    assert seen["WGT004"] == [outcome]
    assert seen["WGT006"] == ["skipped:adapter_not_compared"]
    assert seen["WGT001"] == ["ok"]


def test_what_peft_itself_saves(tmp_path: Path) -> None:
    """A fresh adapter of every kind that starts at zero is empty; after one step of training it is not."""
    from peft import AdaLoraConfig, IA3Config, LoHaConfig, LoraConfig, VeraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=1,
                         num_attention_heads=2)  # fmt: skip
    target = ["q_proj", "v_proj"]
    kinds = {
        "lora": LoraConfig(target_modules=target), "dora": LoraConfig(target_modules=target, use_dora=True),
        "embedding": LoraConfig(target_modules=["embed_tokens"]), "loha": LoHaConfig(target_modules=target),
        "vera": VeraConfig(target_modules=target), "adalora": AdaLoraConfig(target_modules=target, total_step=10),
        "ia3": IA3Config(target_modules=target, feedforward_modules=[]),
    }  # fmt: skip
    ids = torch.arange(20)[None]
    for name, kind in kinds.items():
        model = get_peft_model(LlamaForCausalLM(config), kind)
        model.save_pretrained(tmp_path / name / "fresh")
        optimizer = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), lr=1e-2)
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        model.save_pretrained(tmp_path / name / "trained")
        assert weights_report(tmp_path / name / "fresh")[0]["WGT004"] == ["never_trained"], name
        assert weights_report(tmp_path / name / "trained")[0]["WGT004"] == ["ok"], name


# --- rows of tokens ---

MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|reserved_0|>", "<|reserved_1|>"]
WORDS = [f"w{n}" for n in range(83)]
START, END, RESERVED = 91, 92, 93


def write_tokenizer(folder: Path, template: str | None = TEMPLATE, eos: str = "<|im_end|>") -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {w: n for n, w in enumerate(["<unk>", "user", "assistant", "Is", "it?", "Yes,", "is.", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(MARKS)
    assert tokenizer.token_to_id("<|im_start|>") == START and tokenizer.token_to_id("<|im_end|>") == END
    tokenizer.save(str(folder / "tokenizer.json"))
    settings: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": eos, "unk_token": "<unk>"}
    if template is not None:
        settings["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def rows_outcome(folder: Path, tensors: Tensors, *, template: str | None = TEMPLATE, eos: str = "<|im_end|>",
                 data: list[dict[str, str]] | None = None, stop: int = END) -> list[str]:  # fmt: skip
    write_checkpoint(folder / "m", tensors, eos_token_id=stop)
    write_tokenizer(folder / "m", template, eos)
    given: dict[str, Any] = {}
    if data is not None:
        (folder / "rows.json").write_text(json.dumps(data))
        given["data_paths"] = (str(folder / "rows.json"),)
    return weights_report(folder / "m", **given)[0]["WGT005"]


def with_rows(rows: Mapping[int, Any], *, tied: bool = True, where: str = "embed_tokens") -> Tensors:
    tensors: Tensors = tiny_llama(vocabulary=104, tied=tied)
    for name in tensors:
        if where in name:
            for row, value in rows.items():
                tensors[name][row] = value
    return tensors


def test_reserved_and_padding_rows_may_stay_untrained(tmp_path: Path) -> None:
    zero = {RESERVED: 0.0, RESERVED + 1: 0.0} | dict.fromkeys(range(95, 104), 0.0)
    assert rows_outcome(tmp_path, with_rows(zero)) == ["ok"]


@pytest.mark.parametrize(
    "rows",
    [{END: 0.0}, {END: 1e-9}, {END: 0.02, RESERVED: 0.02}, {END: 0.02, 103: 0.02}],
    ids=["zero", "almost zero", "twin of a reserved token", "twin of padding"],
)
@pytest.mark.parametrize("tied", [True, False])
def test_end_token_without_training(rows: dict[int, float], tied: bool, tmp_path: Path) -> None:
    tensors = with_rows(rows, tied=tied, where="embed_tokens" if tied else "lm_head")
    assert rows_outcome(tmp_path, tensors) == ["terminator_untrained"]
    # in a base model that stops on another token nobody has used the template yet
    assert rows_outcome(tmp_path, tensors, eos="<|endoftext|>", stop=90) == ["unused_terminator_untrained"]
    assert rows_outcome(tmp_path, tensors, eos="<|endoftext|>", stop=90, template=None) == ["ok"]


def test_tokens_put_at_the_mean_by_resizing(tmp_path: Path) -> None:
    tensors = tiny_llama(vocabulary=4096, tied=True)
    table = tensors["model.embed_tokens.weight"]
    table += 0.02
    random = np.random.default_rng(0)
    for row in (START, END):
        table[row] = table.mean(axis=0) + random.standard_normal(32) * 3e-5 * 0.05
    assert rows_outcome(tmp_path, tensors) == ["terminator_untrained"]
    table[END] = table[7] + 0.01
    assert rows_outcome(tmp_path, tensors) == ["template_tokens_untrained"]


def test_input_row_of_the_end_token_alone_is_no_fault(tmp_path: Path) -> None:
    """nn.Embedding never trains the row of its padding index, so with pad = eos it stays zero beside a sound head."""
    assert rows_outcome(tmp_path, with_rows({END: 0.0}, tied=False)) == ["ok"]


def test_rows_of_an_adapter_lie_in_its_base(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", with_rows({END: 0.0}), eos_token_id=END)
    write_tokenizer(base)
    adapter = tmp_path / "adapter"
    write_safetensors(adapter / "adapter_model.safetensors", lora())
    settings = {"peft_type": "LORA", "base_model_name_or_path": str(base)}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    assert weights_report(adapter)[0]["WGT005"] == ["terminator_untrained"]
    copy = {"base_model.model.model.embed_tokens.weight": tiny_llama(vocabulary=104)["model.embed_tokens.weight"]}
    write_safetensors(adapter / "adapter_model.safetensors", lora(**copy))
    assert weights_report(adapter)[0]["WGT005"] == ["ok"]


@pytest.mark.parametrize(("times", "outcome"), [(1, "data_tokens_untrained"), (0, "ok")])
def test_words_of_the_data(times: int, outcome: str, tmp_path: Path) -> None:
    data = [{"instruction": "w1 w2", "output": "w3 " * 5 + "w50 " * times}] * 4
    tensors = with_rows({57: 0.0, 60: 0.0})  # w50 and w53
    assert rows_outcome(tmp_path, tensors, data=data) == [outcome]
