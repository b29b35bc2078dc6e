"""Memory and time of real training steps on this CPU beside the estimates. Run: python -m benchmarks.memory_needed

Each case runs in a process of its own: model made at random, three steps, highest resident memory over what the process
had before the model. Prints a line a case: measured and estimated memory, their ratio, seconds a step and the range
expected. `--process` prints what a process with torch, transformers, TRL and datasets has before any model.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

from pipeline.config_files import load_config
from pipeline.training.memory_needed import TrainingSettings, memory_needed
from pipeline.training.model_shape import ModelShape, shape_of_config
from pipeline.training.time_needed import time_needed

QWEN3 = {"model_type": "qwen3", "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8,
         "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64, "vocab_size": 50_000,
         "tie_word_embeddings": True, "max_position_embeddings": 2048}  # fmt: skip
T5 = {"model_type": "t5", "d_model": 384, "d_ff": 1024, "num_layers": 6, "num_decoder_layers": 6, "num_heads": 6,
      "d_kv": 64, "vocab_size": 32_000, "dropout_rate": 0.0, "decoder_start_token_id": 0,
      "pad_token_id": 0}  # fmt: skip
GPT2 = {"model_type": "gpt2", "n_embd": 384, "n_layer": 6, "n_head": 6, "vocab_size": 30_000, "n_positions": 1024,
        "attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}  # fmt: skip
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "full, long rows": (QWEN3, {"per_device_train_batch_size": 4, "max_length": 256, "gradient_checkpointing": False}),
    "full, checkpointing": (QWEN3, {"per_device_train_batch_size": 4, "max_length": 256}),
    "full, small batch": (QWEN3, {"per_device_train_batch_size": 1, "max_length": 64, "gradient_checkpointing": False}),
    "full, vocabulary of 150,000": (
        {**QWEN3, "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4, "vocab_size": 150_000},
        {"per_device_train_batch_size": 4, "max_length": 256, "gradient_checkpointing": False},
    ),
    "LoRA": (QWEN3, {"per_device_train_batch_size": 4, "max_length": 256, "finetuning": "lora",
                     "gradient_checkpointing": False}),
    "LoRA, checkpointing": (QWEN3, {"per_device_train_batch_size": 8, "max_length": 256, "finetuning": "lora"}),
    "full, eager attention": (QWEN3, {"per_device_train_batch_size": 2, "max_length": 512,
                                      "attn_implementation": "eager", "gradient_checkpointing": False}),
    "full, bf16 autocast": (QWEN3, {"per_device_train_batch_size": 2, "max_length": 256, "mixed": "bf16",
                                    "gradient_checkpointing": False}),
    "full, bf16 weights": (QWEN3, {"per_device_train_batch_size": 4, "max_length": 256, "dtype": "bfloat16",
                                   "gradient_checkpointing": False}),
    "GPT-2, full": (GPT2, {"per_device_train_batch_size": 4, "max_length": 512, "gradient_checkpointing": False}),
    "T5, full": (T5, {"per_device_train_batch_size": 8, "max_length": 192, "completion_length": 96,
                      "gradient_checkpointing": False}),
    "adafactor": (QWEN3, {"per_device_train_batch_size": 2, "max_length": 256, "optim": "adafactor"}),
}  # fmt: skip


def settings_of_case(name: str) -> tuple[ModelShape, TrainingSettings]:
    config, fields = CASES[name]
    told = {"device": "cpu", "mixed": "no", "head": "full", "lora_target_modules": "all-linear", **fields}
    return shape_of_config(config), TrainingSettings(**told)


def run_case(name: str) -> dict[str, float]:
    """In this process: bytes above what it had before the model, seconds of the last step."""
    import torch
    from transformers import CONFIG_MAPPING, Adafactor, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    torch.set_num_threads(1)
    config, _ = CASES[name]
    shape, s = settings_of_case(name)
    made = CONFIG_MAPPING[config["model_type"]](**{k: v for k, v in config.items() if k != "model_type"})
    kind = AutoModelForSeq2SeqLM if shape.encoder_decoder else AutoModelForCausalLM
    if s.finetuning == "lora":
        import peft
    before = _resident()
    model = kind.from_config(made, attn_implementation=s.attn_implementation or "sdpa", dtype=getattr(torch, s.dtype))
    if s.finetuning == "lora":
        model = peft.get_peft_model(model, peft.LoraConfig(r=s.lora_r, target_modules="all-linear"))
    model.train()
    if s.gradient_checkpointing:
        model.gradient_checkpointing_enable()
        if s.finetuning == "lora":
            model.enable_input_require_grads()
    trained = [p for p in model.parameters() if p.requires_grad]
    if s.optim == "adafactor":
        optimizer = Adafactor(trained, lr=1e-4, scale_parameter=False, relative_step=False)
    else:
        optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    ids = torch.randint(3, shape.vocabulary, (s.sequences, s.max_length or 1))
    labels = torch.randint(3, shape.vocabulary, (s.sequences, s.completion_length)) if s.completion_length else ids
    seconds = 0.0
    for _ in range(3):
        started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=s.mixed != "no"):
            loss = model(input_ids=ids, labels=labels, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds = time.perf_counter() - started
    return {"bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before, "seconds": seconds}


def _resident() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


def process_bytes() -> int:
    """Resident memory after the imports of a training process."""
    import datasets
    import transformers
    import trl
    from trl import DPOConfig, DPOTrainer

    assert datasets and transformers and trl and DPOConfig and DPOTrainer
    return _resident()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=CASES, help="one case, in this process, as JSON")
    parser.add_argument("--process", action="store_true", help="memory of a training process before any model")
    given = parser.parse_args()
    if given.process:
        print(f"{process_bytes() / 1e9:.2f} GB")
        return
    if given.case:
        print(json.dumps(run_case(given.case)))
        return
    for name in CASES:
        shape, settings = settings_of_case(name)
        done = subprocess.run([sys.executable, "-m", "benchmarks.memory_needed", "--case", name],
                              capture_output=True, text=True, check=True)  # fmt: skip
        measured = json.loads(done.stdout.splitlines()[-1])
        needed = memory_needed(shape, settings)
        gaps = float(load_config("training_memory.yaml")["overhead"]["fragmentation"])
        estimate = (needed.device - needed.part("overhead")) * (1 + gaps)  # without what the process had before
        expected = time_needed(shape, settings, rows=settings.per_device_train_batch_size)
        least, most = expected.seconds_per_step
        print(
            f"{name:28} {shape.parameters / 1e6:5.1f}M  measured {measured['bytes'] / 1e9:5.2f} GB  estimated "
            f"{estimate / 1e9:5.2f} GB  ratio {estimate / measured['bytes']:.2f}   step {measured['seconds']:.2f} s, "
            f"expected {least:.2f} to {most:.2f} s", flush=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()
