"""The one loader: every layout that holds a model gives it, everything else gives one reason."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.forward.weights_stay_random import weights_stay_random
from diagnostics.thresholds import load_thresholds
from pipeline.checkpoint import open_checkpoint
from pipeline.load_model import ModelNotLoaded, load_model

ROWS = 100


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A T5 and a Llama, tied and untied, as `save_pretrained` leaves them."""
    from transformers import LlamaConfig, LlamaForCausalLM, T5Config, T5ForConditionalGeneration

    made = {}
    torch.manual_seed(1)
    for tied in (True, False):
        models: dict[str, Any] = {
            "t5": T5ForConditionalGeneration(T5Config(
                vocab_size=ROWS, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, tie_word_embeddings=tied)),
            "llama": LlamaForCausalLM(LlamaConfig(
                vocab_size=ROWS, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                tie_word_embeddings=tied)),
        }  # fmt: skip
        for name, model in models.items():
            key = f"{name}_{'tied' if tied else 'untied'}"
            made[key] = tmp_path_factory.mktemp(key)
            model.save_pretrained(made[key])
            torch.save(model.state_dict(), made[key].with_suffix(".bin"))
    return made


def load(path: Path, folder: Path) -> Any:
    return load_model(open_checkpoint(str(path), model_config=str(folder / "config.json")))


def outcomes(path: Path, folder: Path | None = None, **given: Any) -> set[tuple[str, str]]:
    apart = {"model_config": str(folder / "config.json")} if folder else {}
    subject = CheckpointSubject(open_checkpoint(str(path), **apart), **given)
    return {(seen.severity, seen.outcome) for seen in weights_stay_random(subject, load_thresholds())}


@pytest.mark.parametrize("key", ["t5_tied", "t5_untied", "llama_tied", "llama_untied"])
def test_layouts_give_the_same_model(folders: dict[str, Path], tmp_path: Path, key: str) -> None:
    folder = folders[key]
    state = torch.load(folder.with_suffix(".bin"), weights_only=True)
    torch.save({"model": state, "optimizer": {"step": 3}, "epoch": 2}, tmp_path / "nested.pt")
    torch.save(state, tmp_path / "legacy.bin", _use_new_zipfile_serialization=False)
    shutil.copytree(folder, tmp_path / "runs" / "checkpoint-20")
    ids = torch.arange(12)[None]
    given = {"input_ids": ids} | ({"decoder_input_ids": ids} if key.startswith("t5") else {})
    wanted = load(folder, folder).model(**given).logits
    for path in (folder.with_suffix(".bin"), tmp_path / "nested.pt", tmp_path / "legacy.bin", tmp_path / "runs"):
        loaded = load(path, folder)
        assert (loaded.missing_keys, loaded.unexpected_keys, loaded.mismatched_keys) == ((), (), ())
        assert loaded.is_encoder_decoder == key.startswith("t5") and loaded.vocabulary == ROWS
        assert not loaded.model.training and loaded.tokenizer is None and loaded.tokenizer_problem == "no_tokenizer"
        assert torch.equal(loaded.model(**given).logits, wanted)
    assert outcomes(folder) == {("ok", "ok")}


def test_what_does_not_land_is_reported(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = folders["llama_untied"]
    state = torch.load(folder.with_suffix(".bin"), weights_only=True)
    wrapped = tmp_path / "wrapped.bin"
    torch.save({f"module.{k}": v for k, v in state.items()}, wrapped)
    loaded = load(wrapped, folder)
    assert len(loaded.missing_keys) == len(loaded.unexpected_keys) == len(state)  # nothing is renamed silently
    again = load(wrapped, folder)
    assert torch.equal(loaded.model.lm_head.weight, again.model.lm_head.weight)  # random, but the same each time
    assert outcomes(wrapped, folder) == {("error", "names_wrapped")}
    headless = tmp_path / "headless.bin"
    torch.save({k: v for k, v in state.items() if k != "lm_head.weight"}, headless)
    assert load(headless, folder).missing_keys == ("lm_head.weight",)
    assert outcomes(headless, folder) == {("error", "head_missing")}
    assert outcomes(folders["llama_tied"].with_suffix(".bin"), folders["llama_tied"]) == {("ok", "ok")}


@pytest.mark.parametrize("key", ["llama_tied", "llama_untied", "t5_tied"])
def test_configuration_of_another_model(folders: dict[str, Path], tmp_path: Path, key: str) -> None:
    def with_config(name: str, **settings: Any) -> Path:
        made = tmp_path / name
        shutil.copytree(folders[key], made)
        config = json.loads((made / "config.json").read_text())
        (made / "config.json").write_text(json.dumps(config | settings))
        return made

    assert outcomes(with_config("vocabulary", vocab_size=120)) == {("error", "embedding_size")}
    layers = {"num_layers": 1, "num_decoder_layers": 1} if key == "t5_tied" else {"num_hidden_layers": 1}
    assert outcomes(with_config("shallow", **layers)) == {("error", "layers_left_out")}
    deep = {"num_layers": 3, "num_decoder_layers": 3} if key == "t5_tied" else {"num_hidden_layers": 3}
    assert outcomes(with_config("deep", **deep)) == {("error", "missing")}


def test_adapters(folders: dict[str, Path], tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import load_file, save_file
    from transformers import LlamaForCausalLM

    base = folders["llama_untied"]
    ids = torch.arange(12)[None]
    for name, rows, modules in (("plain", ROWS, None), ("grown", ROWS + 10, ["embed_tokens", "lm_head"])):
        model = LlamaForCausalLM.from_pretrained(base)
        model.resize_token_embeddings(rows)
        adapted = get_peft_model(
            model, LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=modules, task_type="CAUSAL_LM")
        )
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter)
        adapted.eval().save_pretrained(tmp_path / name)
        loaded = load_model(open_checkpoint(str(tmp_path / name)), base=open_checkpoint(str(base)))
        assert loaded.adapter and loaded.adapter_missing_keys == ()
        assert loaded.base_rows_before == (None if rows == ROWS else ROWS)
        assert torch.allclose(loaded.model(ids).logits, adapted(ids).logits, atol=1e-5)
        assert outcomes(tmp_path / name, base_path=str(base)) == {("ok", "ok")}
    renamed = tmp_path / "renamed"
    shutil.copytree(tmp_path / "plain", renamed)
    state = load_file(renamed / "adapter_model.safetensors")
    state = {k.replace("base_model.model", "base_model.model.module"): v for k, v in state.items()}
    save_file(state, renamed / "adapter_model.safetensors")
    assert outcomes(renamed, base_path=str(base)) == {("error", "adapter_not_filled")}
    headed = tmp_path / "headed"  # a trained head that the configuration doesn't name: nothing reads it
    shutil.copytree(tmp_path / "plain", headed)
    state = load_file(headed / "adapter_model.safetensors")
    save_file(state | {"base_model.model.lm_head.modules_to_save.weight": torch.zeros(ROWS, 64)},
              headed / "adapter_model.safetensors")  # fmt: skip
    assert outcomes(headed, base_path=str(base)) == {("warning", "adapter_left_over")}
    assert outcomes(tmp_path / "plain", base_path=str(folders["t5_tied"])) == {("error", "adapter_does_not_fit")}
    with pytest.raises(ModelNotLoaded, match="no_adapter_base"):
        load_model(open_checkpoint(str(tmp_path / "plain")))


def test_every_failure_is_one_reason(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = folders["llama_tied"]
    config = json.loads((folder / "config.json").read_text())

    def reason(name: str, **settings: Any) -> str:
        made = tmp_path / name
        shutil.copytree(folder, made)
        (made / "config.json").write_text(json.dumps(config | settings))
        with pytest.raises(ModelNotLoaded) as caught:
            load_model(open_checkpoint(str(made)))
        assert "\n" not in str(caught.value)
        return caught.value.reason_id

    code = {"AutoModelForCausalLM": "modeling_mine.MineForCausalLM"}
    assert reason("remote", model_type="mine", architectures=["MineForCausalLM"], auto_map=code) == "needs_remote_code"
    assert reason("unknown", model_type="mine", architectures=["MineForCausalLM"]) == "unknown_architecture"
    # The declared type decides, as in from_pretrained, whatever class stands beside it.
    assert reason("mixed", model_type="mine", architectures=["LlamaForCausalLM"], auto_map=code) == "needs_remote_code"
    assert reason("judge", architectures=["LlamaForSequenceClassification"]) == "no_generation_head"
    assert reason("senseless", hidden_size=-7) == "model_not_loaded"
    assert reason("odd", num_attention_heads="four") == "model_not_loaded"
    cut = tmp_path / "cut"
    shutil.copytree(folder, cut)
    with open(cut / "model.safetensors", "r+b") as file:
        file.truncate(5000)
    with pytest.raises(ModelNotLoaded, match="weights_unreadable"):
        load_model(open_checkpoint(str(cut)))
    bare = folder.with_suffix(".bin")
    lonely = tmp_path / "lonely.bin"
    shutil.copy(bare, lonely)
    with pytest.raises(ModelNotLoaded, match="no_config"):
        load_model(open_checkpoint(str(lonely)))


def test_code_in_a_checkpoint_is_never_run(folders: dict[str, Path], tmp_path: Path) -> None:
    witness = tmp_path / "ran"
    mine = tmp_path / "mine"
    shutil.copytree(folders["llama_tied"], mine)
    config = json.loads((mine / "config.json").read_text())
    code = {"AutoConfig": "modeling_mine.MineConfig", "AutoModelForCausalLM": "modeling_mine.Mine"}
    (mine / "config.json").write_text(json.dumps(config | {"auto_map": code}))
    (mine / "modeling_mine.py").write_text(f"open({str(witness)!r}, 'w')\n")
    assert load_model(open_checkpoint(str(mine))).missing_keys == ()  # the library's own class for this type
    assert not witness.exists()

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (open, (str(witness), "w"))

    torch.save({"model.norm.weight": Trap()}, tmp_path / "trap.bin")
    with pytest.raises(ModelNotLoaded):
        load(tmp_path / "trap.bin", folders["llama_tied"])
    assert not witness.exists()


def test_read_only_folder_stays_as_it_is(folders: dict[str, Path], tmp_path: Path) -> None:
    sealed = tmp_path / "sealed"
    shutil.copytree(folders["t5_tied"], sealed)
    before = {p.name: (p.stat().st_mtime_ns, p.stat().st_size) for p in sealed.iterdir()}
    for path in (*sealed.iterdir(), sealed):
        os.chmod(path, 0o500 if path.is_dir() else 0o400)
    try:
        assert load_model(open_checkpoint(str(sealed))).missing_keys == ()
        assert {p.name: (p.stat().st_mtime_ns, p.stat().st_size) for p in sealed.iterdir()} == before
    finally:
        os.chmod(sealed, 0o700)
