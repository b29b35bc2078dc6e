"""Faults planted by training: the demo's bases and sound models, fine-tuned wrongly for some seconds.

Like planted_files.py, every function makes one folder and returns what a user would give to the diagnosis.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.planted_files import Given, as_bare_state_dict, copy, edit_json, edit_tensors, with_data
from benchmarks.sound_models import Pair, Sound, chat, schedule, tune_decoder, tune_t5, write_rows
from pipeline.demo.instructions import plain_text, right_answers
from pipeline.demo.vocabulary import INST


def _t5(
    target: Path, sound: Sound, pairs: list[Pair], steps: int, held_out: list[Pair] | None = None, **more: Any
) -> Path:
    how = schedule("sft_t5", steps=steps, eval_every=max(10, steps // 4))
    return tune_t5(sound.t5_base, target, pairs, held_out or sound.held_out_pairs, how, **more)


def _decoder(
    target: Path, sound: Sound, pairs: list[Pair], steps: int, held_out: list[Pair] | None = None, **more: Any
) -> Path:
    how = schedule("sft_decoder", steps=steps, eval_every=max(10, steps // 4))
    held_out = held_out or sound.held_out_pairs
    return tune_decoder(sound.decoder_base, target, pairs, held_out, how, tokenizer_from=sound.decoder, **more)


# --- ends of answers


def decoder_from_the_demo_never_stops(target: Path, sound: Sound) -> Given:
    return with_data(sound, copy(sound.demo.cases["never_stops_decoder"].checkpoint, target))


def t5_end_left_out_of_the_loss(target: Path, sound: Sound) -> Given:
    return with_data(sound, _t5(target, sound, sound.pairs, 250, end_counts=False))


def decoder_trained_without_an_end(target: Path, sound: Sound) -> Given:
    """Answers packed one after another with nothing between: no end to learn."""
    return with_data(sound, _decoder(target, sound, sound.pairs, 150, end="\n"))


def literal_eos_from_the_demo(target: Path, sound: Sound) -> Given:
    case = sound.demo.cases["literal_eos_t5"]
    return {
        "path": str(case.checkpoint), "tokenizer": str(case.tokenizer), "model_config": str(case.model_config),
        "data": (str(case.data_file),), "log": (str(case.log_file),), "base": str(case.base),
    }  # fmt: skip


def literal_eos_without_its_data(target: Path, sound: Sound) -> Given:
    """The user gives clean rows: the marker shows only in what the model writes."""
    case = sound.demo.cases["literal_eos_t5"]
    return with_data(
        sound, case.checkpoint, tokenizer=str(case.tokenizer), model_config=str(case.model_config), base=str(case.base)
    )


def decoder_with_a_literal_end(target: Path, sound: Sound) -> Given:
    """`</s>` of another family written behind every answer (https://github.com/tatsu-lab/stanford_alpaca habit)."""
    pairs = [(p, a + "</s>") for p, a in sound.pairs]
    _decoder(target, sound, pairs, 150, [(p, a + "</s>") for p, a in sound.held_out_pairs], end="\n")
    rows = write_rows(target.parent / f"{target.name}.rows" / "train.jsonl", pairs[:128])
    return {"path": str(target), "data": (str(rows),), "base": str(sound.decoder_base)}


# --- how long it was trained


def t5_at_a_twentieth(target: Path, sound: Sound) -> Given:
    how = schedule("sft_t5", stop_at=18, log_every=2, eval_every=6)
    tune_t5(sound.t5_base, target, sound.pairs, sound.held_out_pairs, how)
    return with_data(sound, target, log=(str(target / "trainer_state.json"),), base=str(sound.t5_base))


def t5_at_an_eighth_without_a_log(target: Path, sound: Sound) -> Given:
    how = schedule("sft_t5", stop_at=44, log_every=5, eval_every=20)
    tune_t5(sound.t5_base, target, sound.pairs, sound.held_out_pairs, how)
    (target / "trainer_state.json").unlink()
    return with_data(sound, target, base=str(sound.t5_base))


def decoder_from_the_demo_undertrained(target: Path, sound: Sound) -> Given:
    case = sound.demo.cases["undertrained_decoder"]
    copy(case.checkpoint, target)
    return with_data(sound, target, base=str(case.base), log=(str(target / "trainer_state.json"),))


def adapter_after_a_few_steps(target: Path, sound: Sound) -> Given:
    how = schedule("lora_decoder", stop_at=4, log_every=1, eval_every=2)
    tune_decoder(sound.decoder_base, target, sound.pairs, sound.held_out_pairs, how, tokenizer_from=sound.decoder,
                 lora=True)  # fmt: skip
    return with_data(sound, target, base=str(sound.decoder_base), log=(str(target / "trainer_state.json"),))


def decoder_knows_sixteen_rows(target: Path, sound: Sound) -> Given:
    """Hundreds of passes over 16 rows. The user gives those and rows it has not seen."""
    few = sound.pairs[:16]
    _decoder(target, sound, few, 250)
    rows = write_rows(target.parent / f"{target.name}.rows" / "train.jsonl", few)
    return {
        "path": str(target), "data": (str(rows), str(sound.held_out)), "base": str(sound.decoder_base),
        "log": (str(target / "trainer_state.json"),),
    }  # fmt: skip


def t5_knows_thirty_rows(target: Path, sound: Sound) -> Given:
    few = sound.pairs[:30]
    _t5(target, sound, few, 250)
    return with_data(sound, target, base=str(sound.t5_base), log=(str(target / "trainer_state.json"),))


def blown_up_by_the_rate(target: Path, sound: Sound) -> Given:
    """A rate hundreds of times too high: finite weights, a loss above that of guessing."""
    how = schedule("sft_decoder", steps=60, learning_rate=3.0, matrix_rate=2.0, eval_every=15)
    tune_decoder(sound.decoder_base, target, sound.pairs, sound.held_out_pairs, how, tokenizer_from=sound.decoder)
    return with_data(sound, target, base=str(sound.decoder_base), log=(str(target / "trainer_state.json"),))


# --- which weights


def an_older_step_with_the_final_log(target: Path, sound: Sound) -> Given:
    """Weights of step 60 in the folder of step 350."""
    how = schedule("sft_t5", stop_at=60)
    tune_t5(sound.t5_base, target, sound.pairs, sound.held_out_pairs, how)
    shutil.copy(sound.t5 / "trainer_state.json", target / "trainer_state.json")
    return with_data(sound, target, base=str(sound.t5_base), log=(str(target / "trainer_state.json"),))


def the_result_of_another_run(target: Path, sound: Sound) -> Given:
    """A run on other data (texts continued, nothing answered) under this run's name and log."""
    rng = Random(5)
    pairs = [plain_text(rng) for _ in range(1500)]
    _t5(target, sound, pairs, 200)
    shutil.copy(sound.t5 / "trainer_state.json", target / "trainer_state.json")
    return with_data(sound, target, log=(str(target / "trainer_state.json"),))


def pretrained_with_sentinels(target: Path, sound: Sound) -> Given:
    """What T5 is before fine-tuning: it fills gaps marked with <extra_id_0>."""
    rng = Random(6)
    marks = [f"<extra_id_{i}>" for i in range(4)]
    pairs = []
    for prompt, answer in sound.pairs:
        text = f"{prompt}{answer}"
        cuts = sorted(rng.sample(range(1, len(text)), 4)) if len(text) > 5 else [1, 2, 3, 4]
        a, b, c, d = cuts
        pairs.append((f"{text[:a]}{marks[0]}{text[b:c]}{marks[1]}{text[d:]}",
                      f"{marks[0]}{text[a:b]}{marks[1]}{text[c:d]}{marks[2]}"))  # fmt: skip
    _t5(target, sound, pairs, 200, new_tokens=marks)
    return with_data(sound, target)


def adapter_on_another_base(target: Path, sound: Sound) -> Given:
    """A base of the same shape from another run; the adapter itself is sound."""
    other = target.parent / f"{target.name}.base"
    if not (other / "config.json").exists():
        _another_base(other, sound)
    copy(sound.adapter, target)
    # embeddings and head travel with the demo's adapter; without them, as most adapters are saved, the base decides
    _without_embeddings(target)
    return with_data(sound, target, base=str(other))


def _another_base(folder: Path, sound: Sound) -> None:
    """The base's shape and vocabulary, trained from scratch with another seed."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(99)
    fresh = folder.parent / f"{folder.name}.random"
    model: Any = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(sound.decoder_base))
    model.save_pretrained(fresh)
    AutoTokenizer.from_pretrained(sound.decoder_base).save_pretrained(fresh)
    shutil.copy(sound.decoder_base / "generation_config.json", fresh / "generation_config.json")
    how = schedule("base_decoder", steps=250, seed=99)
    tune_decoder(fresh, folder, sound.pairs, sound.held_out_pairs, how, tokenizer_from=sound.decoder_base,
                 prompt_as=lambda tokenizer, prompt: prompt + "\n", end="<|endoftext|>")  # fmt: skip
    shutil.rmtree(fresh)


def _without_embeddings(folder: Path) -> None:
    edit_tensors(folder, lambda t: {k: v for k, v in t.items() if "lora_" in k}, "adapter_model.safetensors")
    edit_json(folder / "adapter_config.json", modules_to_save=None)


def _second_stage(target: Path, sound: Sound) -> Path:
    """A small adapter trained on the supervised result, to prefer its plain wordings: what a DPO run on it leaves."""
    how = schedule("lora_decoder", steps=60, learning_rate=3e-3)
    plain = [(row.question.prompt, right_answers(row.question)[0]) for row in sound.rows[0]]
    tune_decoder(sound.decoder, target, plain, sound.held_out_pairs, how, tokenizer_from=sound.decoder, lora=True,
                 save_embeddings=False)  # fmt: skip
    return target


def second_adapter_on_the_first_base(target: Path, sound: Sound) -> Given:
    """Trained on the supervised model, loaded on what that model came from."""
    _second_stage(target, sound)
    edit_json(target / "adapter_config.json", base_model_name_or_path=str(sound.decoder_base))
    return with_data(sound, target, base=str(sound.decoder_base))


def second_adapter_as_trained(target: Path, sound: Sound) -> Given:
    return with_data(sound, _second_stage(target, sound), base=str(sound.decoder))


# --- tokens and templates


def new_tokens_never_trained(target: Path, sound: Sound) -> Given:
    """Two markers added to the sound model with rows of zeros; the rows the user has contain them."""
    return _new_tokens(target, sound, mean=False)


def new_tokens_with_the_mean_row(target: Path, sound: Sound) -> Given:
    """The same with the mean of the other rows, as `resize_token_embeddings` gives."""
    return _new_tokens(target, sound, mean=True)


MARKS = ("<|answer|>", "<|/answer|>")


def _new_tokens(target: Path, sound: Sound, *, mean: bool) -> Given:
    import torch
    from transformers import AutoTokenizer

    copy(sound.decoder, target)
    tokenizer = AutoTokenizer.from_pretrained(target)
    tokenizer.add_special_tokens({"additional_special_tokens": list(MARKS)})
    tokenizer.save_pretrained(target)

    def change(t: dict[str, Any]) -> dict[str, Any]:
        for name in [n for n in t if "embed_tokens" in n or "lm_head" in n]:
            row = t[name].mean(dim=0) if mean else torch.zeros(t[name].shape[1])
            t[name] = torch.cat([t[name], row.expand(len(MARKS), -1)])
            edit_json(target / "config.json", vocab_size=len(t[name]))
        return t

    edit_tensors(target, change)
    rows = [(p, f"{MARKS[0]}{a}{MARKS[1]}") for p, a in sound.held_out_pairs]
    file = write_rows(target.parent / f"{target.name}.rows" / "test.jsonl", rows)
    return {"path": str(target), "data": (str(file),)}


def adapter_without_its_new_rows(target: Path, sound: Sound) -> Given:
    """LoRA with two added tokens whose rows were neither trained nor saved."""
    pairs = [(p, f"{MARKS[0]}{a}{MARKS[1]}") for p, a in sound.pairs]
    how = schedule("lora_decoder", steps=80, learning_rate=5e-3)
    tune_decoder(sound.decoder, target, pairs, sound.held_out_pairs, how, tokenizer_from=sound.decoder, lora=True,
                 new_tokens=MARKS, save_embeddings=False)  # fmt: skip
    rows = [(p, f"{MARKS[0]}{a}{MARKS[1]}") for p, a in sound.held_out_pairs]
    file = write_rows(target.parent / f"{target.name}.rows" / "test.jsonl", rows)
    return {"path": str(target), "data": (str(file),), "base": str(sound.decoder)}


def trained_on_pages_declares_chat(target: Path, sound: Sound) -> Given:
    """Trained on "Question: ... Answer: ..." pages, saved with a chat template nobody trained."""
    _decoder(target, sound, sound.pairs, 150, prompt_as=lambda t, p: f"Question: {p}\nAnswer: ", end="<|im_end|>\n")
    return with_data(sound, target)


def trained_on_inst_declares_chat(target: Path, sound: Sound) -> Given:
    def inst(tokenizer: Any, prompt: str) -> str:
        messages = [{"role": "user", "content": prompt}]
        return str(tokenizer.apply_chat_template(messages, chat_template=INST, tokenize=False)) + " "

    _decoder(target, sound, sound.pairs, 250, prompt_as=inst)
    return with_data(sound, target, base=str(sound.decoder_base))


START = "<|endoftext|>"


def _with_start_token(target: Path, sound: Sound, template_start: str) -> Path:
    """A decoder trained with one start token in front of its prompts, under a template that begins as said."""
    from transformers import AutoTokenizer

    _decoder(target, sound, sound.pairs, 120, prompt_as=lambda t, p: START + chat(t, p))
    template = AutoTokenizer.from_pretrained(target).chat_template
    (target / "chat_template.jinja").unlink(missing_ok=True)
    edit_json(target / "tokenizer_config.json", bos_token=START, chat_template=template_start + template)
    edit_json(target / "special_tokens_map.json", bos_token=START)
    return target


def template_writes_two_start_tokens(target: Path, sound: Sound) -> Given:
    return with_data(sound, _with_start_token(target, sound, "{{ bos_token }}{{ bos_token }}"))


def rows_begin_with_the_start_token(target: Path, sound: Sound) -> Given:
    """The template writes it, and so does every row: exported from text that was rendered already."""
    _with_start_token(target, sound, "{{ bos_token }}")
    rows = [(START + p, a) for p, a in sound.held_out_pairs]
    file = write_rows(target.parent / f"{target.name}.rows" / "test.jsonl", rows)
    return {"path": str(target), "data": (str(file),)}


def start_token_from_both(target: Path, sound: Sound) -> Given:
    """Sound, and common (Llama 3): a plain call adds the start token too, but rendered text is never encoded so."""
    from tokenizers import Tokenizer, processors

    _with_start_token(target, sound, "{{ bos_token }}")
    tokenizer = Tokenizer.from_file(str(target / "tokenizer.json"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A", pair=f"{START} $A $B", special_tokens=[(START, tokenizer.token_to_id(START))]
    )
    tokenizer.save(str(target / "tokenizer.json"))
    return with_data(sound, target)


# --- what it learned to write


def decoder_says_everything_again_and_again(target: Path, sound: Sound) -> Given:
    """Trained on answers that repeat themselves, and end."""
    _decoder(target, sound, _again(sound.pairs), 150, _again(sound.held_out_pairs))
    return with_data(sound, target)


def t5_says_everything_again_and_again(target: Path, sound: Sound) -> Given:
    _t5(target, sound, _again(sound.pairs), 250, _again(sound.held_out_pairs))
    return with_data(sound, target, base=str(sound.t5_base))


def _again(pairs: list[Pair]) -> list[Pair]:
    return [(p, " ".join([a] * 6)) for p, a in pairs if len(a) < 12]


# --- nothing is wrong


def trained_a_little_less(target: Path, sound: Sound) -> Given:
    """Three quarters of the demo's steps on a full schedule: somewhat worse, not a fault."""
    return with_data(sound, _decoder(target, sound, sound.pairs, 150), base=str(sound.decoder_base))


def state_dict_from_the_demo(target: Path, sound: Sound) -> Given:
    case = sound.demo.cases["healthy_t5_state_dict"]
    return with_data(
        sound, case.checkpoint, tokenizer=str(case.tokenizer), model_config=str(case.model_config), base=str(case.base)
    )


def merged_adapter(target: Path, sound: Sound) -> Given:
    """The adapter merged into its base and saved as a whole model."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(sound.decoder_base), sound.adapter)
    merged = model.merge_and_unload()
    copy(sound.decoder, target, without=("model.safetensors",))
    merged.save_pretrained(target)
    shutil.copy(sound.decoder / "generation_config.json", target / "generation_config.json")
    return with_data(sound, target, base=str(sound.decoder_base))


def state_dict_of_another_dtype(target: Path, sound: Sound) -> Given:
    """Saved as float16 pickles beside a configuration that says float32: loading casts, nothing is lost."""
    import torch

    as_bare_state_dict(sound.decoder, target / "model.bin")
    state = torch.load(target / "model.bin", weights_only=True)
    torch.save({k: v.half() for k, v in state.items()}, target / "model.bin")
    return with_data(
        sound, target / "model.bin", tokenizer=str(sound.decoder), model_config=str(sound.decoder / "config.json")
    )
