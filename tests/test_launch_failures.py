"""Why runs fail: wordings of the programs, mixed output of several processes, and failures that really happen."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from diagnostics.diagnose_log import diagnose_log
from pipeline import processes
from pipeline.logs.log_messages import MessageCounter, causes_of_messages
from pipeline.training.failures import advice, classify, steps
from pipeline.training.job_folder import Failure
from pipeline.training.recipe import read_recipe

ROOT = Path(__file__).resolve().parent.parent
OOM = "out_of_memory"
MISSING, VERSION, CONFIG, DEVICE = "missing_dependency", "version_conflict", "bad_config", "device_mismatch"

# (cause, message, line as the program prints it)
WORDINGS = [
    # memory
    (OOM, OOM, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB"),
    (OOM, OOM, "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB (GPU 0; 23.69 GiB total capacity)"),
    (OOM, OOM, "RuntimeError: CUDA error: out of memory"),
    (OOM, OOM, "  what():  CUDA error: out of memory"),
    (OOM, OOM, "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 1.00 GiB"),
    (OOM, OOM, "RuntimeError: MPS backend out of memory (MPS allocated: 17.5 GB, other allocations: 300 MB, max allowed: 18.1 GB)."),
    (OOM, OOM, "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    (OOM, OOM, "RuntimeError: cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    (OOM, OOM, "torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:2006, unhandled cuda error: Cuda failure 'out of memory'"),
    (OOM, OOM, "RuntimeError: No executable batch size found, reached zero."),
    (OOM, OOM, "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when initializing the engine."),
    (OOM, OOM, "RuntimeError: [enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 400000 bytes."),
    (OOM, OOM, "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 29.8 GiB for an array with shape (4000000000,)"),
    (OOM, OOM, "MemoryError"),
    (OOM, "bad_alloc", "OSError: [Errno 12] Cannot allocate memory"),
    (OOM, "bad_alloc", "terminate called after throwing an instance of 'std::bad_alloc'"),
    (OOM, "bad_alloc", "RuntimeError: unable to mmap 4976698592 bytes from file </m/model.safetensors>: Cannot allocate memory (12)"),
    (OOM, "shared_memory", "RuntimeError: DataLoader worker (pid 77) is killed by signal: Bus error. It is possible that dataloader's workers are out of shared memory. Please try to raise your shared memory limit."),
    (OOM, "shared_memory", "ERROR: Unexpected bus error encountered in worker. This might be caused by insufficient shared memory (shm)."),
    (OOM, "shared_memory", "RuntimeError: unable to write to file </torch_71_2_0>: No space left on device (28)"),
    (OOM, "shared_memory", "Bus error (core dumped)"),
    (OOM, "oom_kill", "slurmstepd: error: Detected 1 oom_kill event in StepId=7.0. Some of the step tasks have been OOM Killed."),
    (OOM, "oom_kill", "[12345.6] Out of memory: Killed process 4242 (python) total-vm:100kB"),
    (OOM, "killed_by_signal", "E1127 01:00:00.000000 99 torch/distributed/elastic/multiprocessing/api.py:1003] failed (exitcode: -9) local_rank: 1 (pid: 7) of binary: /usr/bin/python"),
    (OOM, "killed_by_signal", "[2026-01-01 10:00:00,000] [ERROR] [launch.py:325:sigkill_handler] ['python', 'x.py'] exits with return code = -9"),
    (OOM, "killed_by_signal", "subprocess.CalledProcessError: Command '['python', 'x.py']' died with <Signals.SIGKILL: 9>."),
    # port
    ("port_in_use", "port_in_use", "torch.distributed.DistNetworkError: The server socket has failed to listen on any local network address. port: 29500, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use"),
    ("port_in_use", "port_in_use", "RuntimeError: The server socket has failed to listen on any local network address. The server socket has failed to bind to [::]:29500 (errno: 98 - Address already in use)."),
    ("port_in_use", "port_in_use", "ConnectionError: Tried to launch distributed communication on port `29500`, but another process is utilizing it. Please specify a different port"),
    ("port_in_use", "port_in_use", "OSError: [Errno 48] Address already in use"),
    ("port_in_use", "port_in_use", "OSError: [WinError 10048] Only one usage of each socket address (protocol/network address/port) is normally permitted"),
    # disk
    ("disk_full", "disk_full", "OSError: [Errno 28] No space left on device: '/data/out/checkpoint-100/optimizer.pt'"),
    ("disk_full", "disk_full", "OSError: [Errno 122] Disk quota exceeded"),
    ("disk_full", "disk_full", 'safetensors_rust.SafetensorError: Error while serializing: IoError(Os { code: 28, kind: StorageFull, message: "No space left on device" })'),
    ("disk_full", "file_too_large", 'safetensors_rust.SafetensorError: Error while serializing: I/O error: File too large (os error 27)'),
    ("disk_full", "file_too_large", "OSError: [Errno 27] File too large"),
    ("disk_full", "half_written", "RuntimeError: [enforce fail at inline_container.cc:626] . unexpected pos 832 vs 726"),
    ("disk_full", "half_written", "RuntimeError: PytorchStreamWriter failed writing file data/0: file write failed"),
    (CONFIG, "not_writable", "PermissionError: [Errno 13] Permission denied: '/out/checkpoint-10'"),
    # packages
    (MISSING, MISSING, "ModuleNotFoundError: No module named 'trl'"),
    (MISSING, "package_needed", "ImportError: This modeling file requires the following packages that were not found in your environment: einops. Run `pip install einops`"),
    (MISSING, "package_needed", "ImportError: Using `bitsandbytes` 4-bit quantization requires bitsandbytes: `pip install -U bitsandbytes>=0.46.1`"),
    (MISSING, "package_needed", "ImportError: FlashAttention2 has been toggled on, but it cannot be used due to the following error: the package flash_attn seems to be not installed."),
    (MISSING, "package_needed", "ImportError: FlashAttention2 has been toggled on, but it cannot be used due to the following error: the package for FlashAttention2 doesn't seem to be installed."),
    (MISSING, "package_needed", "RuntimeError: WandbCallback requires wandb to be installed. Run `pip install wandb`."),
    (MISSING, "package_needed", "ImportError: DeepSpeed is not installed => run `pip install deepspeed` or build it from source."),
    (MISSING, "compiler_missing", "deepspeed.ops.op_builder.builder.MissingCUDAException: CUDA_HOME does not exist, unable to compile CUDA op(s)"),
    (MISSING, "compiler_missing", "RuntimeError: Unable to JIT load the cpu_adam op due to ninja not being installed."),
    (MISSING, "compiler_missing", "RuntimeError: Failed to find C compiler. Please specify via CC environment variable."),
    (MISSING, "library_missing", "ImportError: libcudart.so.12: cannot open shared object file: No such file or directory"),
    (VERSION, "cannot_import", "ImportError: cannot import name 'DPOTrainer2' from 'trl' (/x/trl/__init__.py)"),
    (VERSION, "unexpected_argument", "TypeError: DPOTrainer.__init__() got an unexpected keyword argument 'tokenizer'"),
    (VERSION, "attribute_gone", "AttributeError: 'LlamaTokenizerFast' object has no attribute 'build_inputs'"),
    (VERSION, "binary_mismatch", "ImportError: /x/flash_attn_2_cuda.cpython-311-x86_64-linux-gnu.so: undefined symbol: _ZN3c104impl"),
    (VERSION, "binary_mismatch", "ValueError: numpy.dtype size changed, may indicate binary incompatibility. Expected 96 from C header, got 88 from PyObject"),
    (VERSION, "binary_mismatch", "ImportError: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.32' not found (required by x.so)"),
    (VERSION, "version_demanded", "ImportError: tokenizers>=0.22.0,<=0.23.0 is required for a normal functioning of this module, but found tokenizers==0.15.0."),
    (VERSION, "version_demanded", "ValueError: Due to a serious vulnerability issue in `torch.load`, even with `weights_only=True`, we now require users to upgrade torch to at least v2.6"),
    (VERSION, "architecture_unknown", "ValueError: The checkpoint you are trying to load has model type `qwen9` but Transformers does not recognize this architecture."),
    (VERSION, "architecture_unknown", "Exception: data did not match any variant of untagged enum ModelWrapper at line 268080 column 3"),
    (VERSION, "driver_too_old", "RuntimeError: The NVIDIA driver on your system is too old (found version 11040)."),
    (VERSION, "driver_too_old", "RuntimeError: CUDA error: no kernel image is available for execution on the device"),
    # devices, number formats
    (DEVICE, DEVICE, "RuntimeError: Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"),
    (DEVICE, "no_gpu", "RuntimeError: No CUDA GPUs are available"),
    (DEVICE, "no_gpu", "AssertionError: Torch not compiled with CUDA enabled"),
    (DEVICE, "no_gpu", "RuntimeError: No backend type associated with device type cpu"),
    (DEVICE, "no_gpu", "ValueError: ProcessGroupNCCL is only supported with GPUs, no GPUs found!"),
    (DEVICE, "device_number", "RuntimeError: CUDA error: invalid device ordinal"),
    (DEVICE, "device_number", "torch.distributed.DistBackendError: NCCL error: Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 1000"),
    (DEVICE, "quantized_on_other_device", "ValueError: You can't train a model that has been loaded in 8-bit or 4-bit precision on a different device than the one you're training on."),
    (CONFIG, "dtype_unsupported", "ValueError: Your setup doesn't support bf16/gpu. You need to assign use_cpu if you want to train the model on CPU."),
    (CONFIG, "dtype_unsupported", "ValueError: Attempting to unscale FP16 gradients."),
    (CONFIG, "dtype_mismatch", "RuntimeError: expected scalar type Half but found Float"),
    (CONFIG, "dtype_mismatch", "RuntimeError: mat1 and mat2 must have the same dtype, but got Float and BFloat16"),
    (CONFIG, "dtype_mismatch", 'RuntimeError: "addmm_impl_cpu_" not implemented for \'Half\''),
    (CONFIG, "dtype_unsupported", "ValueError: At most one of fp16 and bf16 can be True, but not both"),
    # settings
    (CONFIG, "arguments_refused", "ValueError: Some specified arguments are not used by the HfArgumentParser: ['--bogus', '1']"),
    (CONFIG, "arguments_refused", "train.py: error: unrecognized arguments: --bogus"),
    (CONFIG, "arguments_refused", "ValueError: 'stepps' is not a valid IntervalStrategy, please select one of ['no', 'steps', 'epoch']"),
    (CONFIG, "best_model_needs_evaluation", "ValueError: --load_best_model_at_end requires the save and eval strategy to match, but found"),
    (CONFIG, "yaml_broken", "yaml.scanner.ScannerError: mapping values are not allowed here"),
    (CONFIG, "accelerate_config", "ValueError: The config file at a.yaml had unknown keys (['x']), please try upgrading your `accelerate` version"),
    (CONFIG, "batch_sizes", "AssertionError: Check batch related parameters. train_batch_size is not equal to micro_batch_per_gpu * gradient_acc_step * world_size 16 != 2 * 1 * 1"),
    (CONFIG, "batch_sizes", "ValueError: generation_batch_size (6) must be divisible by num_generations (4)."),
    (CONFIG, "deepspeed_config", "ValueError: Please correct the following DeepSpeed config values that mismatch TrainingArguments values:"),
    (CONFIG, "data_columns", "KeyError: 'prompt'"),
    (CONFIG, "lora_targets", "ValueError: Target modules {'q_proj', 'v_proj'} not found in the base model. Please check the target modules and try again."),
    (CONFIG, "special_token", "ValueError: Asking to pad but the tokenizer does not have a padding token."),
    (CONFIG, "chat_template_missing", "ValueError: Cannot use chat template functions because tokenizer.chat_template is not set and no template argument was passed!"),
    (CONFIG, "hub_refused", "OSError: You are trying to access a gated repo."),
    (CONFIG, "model_not_found", "OSError: x/y is not a local folder and is not a valid model identifier listed on 'https://huggingface.co/models'"),
    (CONFIG, "hub_unreachable", "OSError: We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find them in the cached files."),
    (CONFIG, "file_missing", "FileNotFoundError: [Errno 2] No such file or directory: 'train.jsonl'"),
    (CONFIG, "settings_clash", "ValueError: You cannot use `sync_ref_model=True` together with `precompute_ref_log_probs=True`."),
    (CONFIG, "no_gradient_path", "RuntimeError: element 0 of tensors does not require grad and does not have a grad_fn"),
    ("unreadable_data", "data_unreadable", "datasets.exceptions.DatasetGenerationError: An error occurred while generating the dataset"),
    ("weights_not_loaded", "weights_do_not_fit", "RuntimeError: Error(s) in loading state_dict for LlamaForCausalLM:"),
    ("incomplete_checkpoint", "weights_cut", "safetensors_rust.SafetensorError: Error while deserializing header: header too large: HeaderTooLarge"),
    ("incomplete_checkpoint", "no_weights_found", "OSError: Error no file named model.safetensors, or pytorch_model.bin, found in directory out."),
    ("vocab_mismatch", "ids_out_of_range", "IndexError: index out of range in self"),
    ("vocab_mismatch", "ids_out_of_range", "torch.AcceleratorError: CUDA error: device-side assert triggered"),
    ("numeric_overflow", "sampling_not_finite", "RuntimeError: probability tensor contains either `inf`, `nan` or element < 0"),
    # ended from outside, waiting for others
    ("collective_timeout", "collective_timeout", "[rank0]:[E1127 01:00:00.1 ProcessGroupNCCL.cpp:632] [Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=3, OpType=ALLREDUCE)"),
    ("run_crashed", "time_limit", "slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-01-01T10:00:00 DUE TO TIME LIMIT ***"),
    ("run_crashed", "terminated", "slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-01-01T10:00:00 DUE TO PREEMPTION ***"),
    ("run_crashed", "sigterm", "subprocess.CalledProcessError: Command '['python', 'x.py']' died with <Signals.SIGTERM: 15>."),
    ("run_crashed", "segmentation_fault", "E1127 01:00:00.000000 99 torch/distributed/elastic/multiprocessing/api.py:1003] failed (exitcode: -11) local_rank: 0 (pid: 7) of binary: python"),
]  # fmt: skip

# The launch cases of the collection of failures, by the line that showed each
CASES = {
    "Z01": (VERSION, "weights_partitioned", "RuntimeError: 'weight' must be 2-D"),
    "Z03": (CONFIG, "reference_and_adapter", "ValueError: You passed both a ref_model and a peft_config. For training PEFT adapters with DPO there is no need to pass a reference model."),
    "Z04": (VERSION, "encoder_decoder_in_trl", "AttributeError: 'tuple' object has no attribute 'logits'"),
    "Z05": (VERSION, "encoder_decoder_in_trl", "ValueError: You must specify exactly one of input_ids or inputs_embeds"),
    "Z06": (VERSION, "collator_removed", "ImportError: cannot import name 'DataCollatorForCompletionOnlyLM' from 'trl' (/x/trl/__init__.py)"),
    "A06": ("incomplete_checkpoint", "weights_empty", "\tsize mismatch for model.embed_tokens.weight: copying a param with shape torch.Size([0]) from checkpoint, the shape in current model is torch.Size([32000, 4096])."),
    "A06 LoRA": ("adapter_empty", "adapter_weights_empty", "\tsize mismatch for base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight: copying a param with shape torch.Size([0]) from checkpoint"),
    "W08": (CONFIG, "no_gradient_path", "RuntimeError: element 0 of tensors does not require grad and does not have a grad_fn"),
}  # fmt: skip


def crash(line: str, rank: str = "") -> str:
    frames = ["Traceback (most recent call last):", '  File "train.py", line 7, in <module>', "    trainer.train()", line]
    return "".join(f"{rank}{one}\n" for one in frames)


@pytest.mark.parametrize(("cause", "message", "line"), [*WORDINGS, *CASES.values()])
def test_wordings(cause: str, message: str, line: str) -> None:
    found = classify("Loading weights\n" + crash(line), 1)
    assert found is not None and (found.cause, found.message) == (cause, message), found
    assert (found.text, found.line) == (line.strip()[:300], 5)
    for lang in ("en", "zh"):
        assert len(advice(found, lang)) > 10


@pytest.mark.parametrize(("cause", "message", "line"), [*WORDINGS, *CASES.values()])
def test_the_report_on_the_log_says_the_same(cause: str, message: str, line: str, tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_text("".join(f"{{'loss': {2 - k / 10:.2f}, 'epoch': {k / 100}}}\n" for k in range(9)) + crash(line))
    report = diagnose_log([log])
    assert f"RUN001/{message}" in {f.signal for f in report.findings if f.severity == "error"}
    assert cause in {c.id for c in report.causes[:2]}, report.causes


def test_each_message_that_ends_a_run_speaks_for_its_cause() -> None:
    table = yaml.safe_load((ROOT / "configs" / "causes.yaml").read_text(encoding="utf-8"))
    for message, cause in causes_of_messages().items():
        assert f"RUN001/{message}" in table[cause]["for"], message


# --- which of several messages ended it ---


def test_the_first_error_of_a_rank_counts_and_not_what_follows_from_it() -> None:
    log = (
        "".join(f"[rank{k}]: torch.distributed.DistBackendError: NCCL error: remote process exited or there was a network error\n" for k in (0, 2))
        + crash("KeyError: 'chosen'", "[rank1]: ")
        + crash("RuntimeError: [1] is setting up NCCL communicator and retrieving ncclUniqueId: Connection reset by peer", "[rank3]: ")
        + "W1127 01:00:00.000000 99 torch/distributed/elastic/multiprocessing/api.py:900] Sending process 8 closing signal SIGTERM\n"
        + "E1127 01:00:00.000000 99 torch/distributed/elastic/multiprocessing/api.py:1003] failed (exitcode: 1) local_rank: 1 (pid: 9) of binary: python\n"
        + crash("torch.distributed.elastic.multiprocessing.errors.ChildFailedError: ")
        + "train.py FAILED\nRoot Cause (first observed failure):\n  rank      : 1 (local_rank: 1)\n  exitcode  : 1 (pid: 9)\n"
    )  # fmt: skip
    found = classify(log, 1)
    assert found is not None and (found.cause, found.message, found.line) == (CONFIG, "data_columns", 6)


@pytest.mark.parametrize(("signal", "message"), [("9 (SIGKILL)", "killed_by_signal"), ("11 (SIGSEGV)", "segmentation_fault")])
def test_of_processes_ended_by_signals_the_first_counts(signal: str, message: str) -> None:
    number = signal.partition(" ")[0]
    log = (
        "W1127 02:16:45.000000 9 torch/distributed/elastic/multiprocessing/api.py:900] Sending process 10 closing signal SIGTERM\n"
        f"E1127 02:16:45.000000 9 torch/distributed/elastic/multiprocessing/api.py:1003] failed (exitcode: -{number}) local_rank: 1 (pid: 11) of binary: python\n"
        + crash("torch.distributed.elastic.multiprocessing.errors.ChildFailedError: ")
        + "Failures:\n[1]:\n  rank      : 0 (local_rank: 0)\n  exitcode  : -15 (pid: 10)\n  traceback : Signal 15 (SIGTERM) received by PID 10\n"
        + f"Root Cause (first observed failure):\n[0]:\n  exitcode  : -{number} (pid: 11)\n  traceback : Signal {signal} received by PID 11\n"
    )
    found = classify(log, 1)
    assert found is not None and found.message in (message, "killed")


def test_an_unknown_exception_is_shown_itself_and_not_its_launcher() -> None:
    log = crash("ZeroDivisionError: division by zero") + crash("subprocess.CalledProcessError: Command '['python']' returned non-zero exit status 1.")
    found = classify(log, 1)
    assert found is not None and (found.message, found.text) == ("traceback", "ZeroDivisionError: division by zero")


def test_an_error_that_was_survived_is_not_the_reason() -> None:
    steps_logged = "".join(f"{{'loss': {k}, 'epoch': 0.1}}\n" for k in range(5))
    early = crash("ModuleNotFoundError: No module named 'flash_attn'") + "going on without it\n"
    assert classify(early + steps_logged + crash("KeyError: 'chosen'"), 1).message == "data_columns"
    assert classify(early + steps_logged, -9).message == "killed_from_outside"
    assert classify(early + "a line\n" * 60, -9).message == "killed_from_outside"
    assert classify(early + "a line\n" * 100 + crash("ValueError: odd"), 1).message == "traceback"


def test_only_the_last_attempt_counts() -> None:
    log = "── attempt 1, 2026-01-01 10:00:00 ──\n" + crash("torch.OutOfMemoryError: CUDA out of memory. Tried to") + "── attempt 2, 2026-01-01 11:00:00 ──\n$ accelerate\n"
    assert classify(log, -15).message == "terminated"
    assert classify(log + crash("KeyError: 'chosen'"), 1).message == "data_columns"


@pytest.mark.parametrize(
    ("status", "message", "cause"),
    [
        (-9, "killed_from_outside", OOM), (137, "killed_from_outside", OOM), (-11, "segmentation_fault", "run_crashed"),
        (139, "segmentation_fault", "run_crashed"), (-7, "shared_memory", OOM), (-15, "terminated", "run_crashed"),
        (-25, "file_too_large", "disk_full"), (-24, "processor_time", "run_crashed"), (127, MISSING, MISSING),
        (1, "ended_without_word", "run_crashed"),
    ],
)  # fmt: skip
def test_without_a_word_the_exit_status_says_it(status: int, message: str, cause: str) -> None:
    found = classify("Loading weights: 100%\n", status)
    assert found == Failure(cause, message, 1, "Loading weights: 100%")
    assert "memory" in advice(found, "en") or message != "killed_from_outside"
    assert advice(found, "zh") != advice(found, "en")


def test_what_did_not_fail_has_no_reason(tmp_path: Path) -> None:
    assert classify(crash("KeyError: 'chosen'"), 0) is None
    assert classify(tmp_path / "absent.log", 0) is None
    assert classify(tmp_path / "absent.log", 1) == Failure("run_crashed", "ended_without_word")
    assert classify("", None) is None


def test_own_refusals_say_themselves_what_to_do() -> None:
    found = classify("importing\nerror: rows: no such file. Give another one\n" + crash("subprocess.CalledProcessError: Command '['x']' returned non-zero exit status 2."), 1)
    assert found == Failure(CONFIG, "refused", 2, "rows: no such file. Give another one")
    assert advice(found, "en") == advice(found, "zh") == ""


@pytest.mark.parametrize("shift", range(4))
def test_of_a_huge_log_the_ends_are_read_and_lines_counted(shift: int, tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    noise = "x" * shift + "ab\r\n" * 40_000 + "a line of no interest at all, as thousands of them stand in logs\r\n" * 10_000
    log.write_bytes((noise + " 1%|x| 1/9\r 2%|x| 2/9\n" + crash("MemoryError")).encode())
    started = time.perf_counter()
    found = classify(log, 1)
    assert found is not None and (found.cause, found.line) == (OOM, 50_006)
    assert time.perf_counter() - started < 1.5


def test_hostile_logs(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    for content in (b"\0" * 10**6, b"\xff\xfe" + b"E\0" * 10**5, b"Error: " * 10**5, ("Error: ValueError: " * 200 + "\n").encode() * 300, os.urandom(400_000)):
        log.write_bytes(content)
        started = time.perf_counter()
        classify(log, 1)
        assert time.perf_counter() - started < 5


# --- no false alarm ---

HARMLESS = [
    "[W1127 01:00:00.100 socket.cpp:209] [c10d] The server socket has failed to bind to [::]:29500 (errno: 98 - Address already in use).",
    "UserWarning: Not enough free disk space to download the file. The expected file size is: 9.00 MB.",
    "# if it runs out of memory, halve the batch size",
    '{"prompt": "What does CUDA out of memory mean?", "chosen": "The GPU is full."}',
    "prompt: Why do I get KeyError: \'prompt\' in pandas?",
    "FutureWarning: `tokenizer` is deprecated: got an unexpected keyword argument in a later version",
    "WARNING: the package flash_attn is not installed, falling back to sdpa",
    "The model was not trained with a chat template. No module named flash_attn, continuing without",
    "Loading checkpoint with ignore_mismatched_sizes=True",
    "user: RuntimeError: CUDA out of memory. What can I do?",
    "error: 0.123",
    "Using bf16 half precision backend; expected scalar type is BFloat16",
]  # fmt: skip


@pytest.mark.parametrize("line", HARMLESS)
def test_what_only_looks_like_an_error_is_none(line: str, tmp_path: Path) -> None:
    counter = MessageCounter()
    counter.look(line.encode(), 1, 0)
    assert not [m for m in counter.messages() if m.id in causes_of_messages()]
    log = tmp_path / "train.log"
    log.write_text("".join(f"{line}\n{{'loss': {2 - k / 20:.2f}, 'epoch': {k / 100}}}\n" for k in range(20)) + line + "\n")
    assert "RUN001/ok" in {f.signal for f in diagnose_log([log]).findings}


# --- real failures of real processes ---

@pytest.fixture(scope="module")
def taken_port() -> Iterator[int]:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        yield held.getsockname()[1]


REAL = {
    "memory of torch": (OOM, OOM, "import torch\nresource.setrlimit(resource.RLIMIT_AS, (6 * 2**30, 6 * 2**30))\ntorch.ones(2**33)"),
    "memory of Python": (OOM, OOM, "resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))\nb'x' * 2**31"),
    "port": ("port_in_use", "port_in_use", "import torch.distributed as d\nd.TCPStore('127.0.0.1', {port}, 1, True)"),
    "file size, safetensors": ("disk_full", "file_too_large", "import torch; from safetensors.torch import save_file\nresource.setrlimit(resource.RLIMIT_FSIZE, (10**5, 10**5))\nsave_file({{'a': torch.ones(10**5)}}, '{folder}/a.safetensors')"),
    "file size, torch.save": ("disk_full", None, "import torch\nresource.setrlimit(resource.RLIMIT_FSIZE, (10**5, 10**5))\ntorch.save(torch.ones(10**5), '{folder}/a.pt')"),
    "full device": ("disk_full", "disk_full", "with open('/dev/full', 'w') as f: f.write('x' * 10**5)"),
    "package": (MISSING, MISSING, "import flash_attn_of_another_planet"),
    "version": (VERSION, "collator_removed", "import types; sys.modules['trl'] = types.ModuleType('trl')\nfrom trl import DataCollatorForCompletionOnlyLM"),
    "dtype": (CONFIG, "dtype_mismatch", "import torch\ntorch.ones(2, 2) @ torch.ones(2, 2, dtype=torch.bfloat16)"),
    "ids": ("vocab_mismatch", "ids_out_of_range", "import torch\ntorch.nn.Embedding(4, 2)(torch.tensor([7]))"),
    "no GPU": (DEVICE, "no_gpu", "import torch\nos.environ['CUDA_VISIBLE_DEVICES'] = ''\ntorch.ones(2, device='cuda')"),
    "no gradient": (CONFIG, "no_gradient_path", "import torch\ntorch.ones(2).sum().backward()"),
    "YAML": (CONFIG, "yaml_broken", "import yaml\nyaml.safe_load('a: b: c')"),
    "file": (CONFIG, "file_missing", "open('{folder}/nothing.jsonl')"),
    "cut weights": ("incomplete_checkpoint", "weights_cut", "from safetensors import safe_open\nopen('{folder}/w.safetensors', 'wb').write(b'version https://git-lfs.github.com/spec/v1')\nsafe_open('{folder}/w.safetensors', 'pt')"),
    "killed": (OOM, "killed_from_outside", "os.kill(os.getpid(), 9)"),
    "crashed": ("run_crashed", "segmentation_fault", "import ctypes; ctypes.string_at(0)"),
    "argument": (CONFIG, "arguments_refused", "import argparse; argparse.ArgumentParser('train.py').parse_args(['--bogus'])"),
}  # fmt: skip


# Importing torch takes seconds, so one process does it and each case is a child of it, with its own output and end.
DRIVER = """
import json, os, resource, sys, traceback
import torch, safetensors.torch
cases, folder = json.load(sys.stdin), sys.argv[1]
for number, code in enumerate(cases):
    child = os.fork()
    if child == 0:
        out = os.open(f"{folder}/{number}.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(out, 1); os.dup2(out, 2)
        try:
            exec(compile(code, "train.py", "exec"), {"os": os, "sys": sys, "resource": resource})
        except SystemExit as left:
            os._exit(int(left.code or 0))
        except BaseException:
            traceback.print_exc(); sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with open(f"{folder}/{number}.status", "w") as file:
        file.write(str(status))
"""


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, taken_port: int) -> dict[str, tuple[Path, int]]:
    """Output and exit status of each of REAL."""
    folder = tmp_path_factory.mktemp("failures")
    cases = folder / "cases.json"
    cases.write_text(json.dumps([code.format(port=taken_port, folder=folder) for _, _, code in REAL.values()]))
    with cases.open("rb") as given:
        driver = processes.start([sys.executable, "-c", DRIVER, str(folder)], stdin=given, env={"OMP_NUM_THREADS": "1"})
        assert driver.wait(120) == 0
    return {name: (folder / f"{k}.log", int((folder / f"{k}.status").read_text())) for k, name in enumerate(REAL)}


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
@pytest.mark.parametrize("name", REAL)
def test_real_failures(name: str, ended: dict[str, tuple[Path, int]]) -> None:
    cause, message, _ = REAL[name]
    log, status = ended[name]
    found = classify(log, status)
    assert found is not None and found.cause == cause and message in (None, found.message), (found, log.read_text()[-800:])


def test_a_killed_process_whose_launcher_lives(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    code = "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import os; os.kill(os.getpid(), 9)'], check=True)"
    with log.open("ab") as out:
        status = processes.start([sys.executable, "-c", code], stdout=out, stderr=processes.STDOUT).wait(60)
    found = classify(log, status)
    assert found is not None and (found.cause, found.message) == (OOM, "killed_by_signal")


# --- what to change in a recipe ---


def test_advice_against_want_of_memory_fits_the_recipe() -> None:
    recipe = read_recipe("dpo_lora").changed({"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "gradient_checkpointing": False})
    offered = steps("out_of_memory", recipe)
    assert offered[0].fields == {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    named = [step.entry for step in offered]
    assert named.index("checkpointing") < named.index("length") < named.index("qlora")
    assert "lora" not in named and "precompute" not in named  # it is LoRA already, which has no second model
    assert "per_device_train_batch_size: 4 → 2" in offered[0].said("en")
    full = [s.entry for s in steps("out_of_memory", recipe.changed({"use_peft": False}))]
    assert {"precompute", "lora", "zero3_offload"} <= set(full)


@pytest.mark.parametrize("name", sorted(p.stem for p in (ROOT / "configs" / "recipes").glob("*.yaml")))
@pytest.mark.parametrize("complaint", ["out_of_memory", "slow", "not_converging"])
def test_advice_can_be_followed(name: str, complaint: str) -> None:
    recipe = read_recipe(name)
    offered = steps(complaint, recipe)
    assert len(offered) >= 2
    for step in offered:
        assert dict(recipe.changed(step.fields).fields).items() >= step.fields.items()
        assert step.said("en") != step.said("zh")
