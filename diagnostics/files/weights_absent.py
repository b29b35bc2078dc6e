"""CKP002: weights that should be there and are not."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.files.size_in_words import bytes_, named
from diagnostics.report import Observation
from diagnostics.run_checks import error, info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.checkpoint import ADAPTER_WEIGHTS, SHARD, Checkpoint, run_remains

_STANDARD = ("model.safetensors", "pytorch_model.bin")
_OTHER_FORMATS = (".gguf", ".h5", ".msgpack", ".onnx", ".ot", ".mlmodel", ".npz")


def weights_absent(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """Weights that should be there and are not.

    What it checks:
        That the folder holds weights in a form from_pretrained reads; in a folder of checkpoints, which one is taken.
    Why it matters:
        Without weights some loaders start the base model, or a random one, and only its answers tell.
    How it is measured:
        By file names, in the order in which from_pretrained looks for them.
    Known false alarms:
        A folder of small files only (a tokenizer, configurations) is reported here though nothing more may be meant.
    Fix:
        Copy the weight files too. After DeepSpeed ZeRO-3 run the zero_to_fp32.py that lies in the folder; after FSDP
        run `accelerate merge-weights`.
    References:
        https://github.com/modelscope/ms-swift/issues/249
        https://www.deepspeed.ai/tutorials/zero/#extracting-weights
    """
    checkpoint = subject.checkpoint
    if checkpoint.chosen_folder is not None:
        others = checkpoint.other_folders
        yield info(
            "folder_of_checkpoints" if others else "one_folder_inside",
            (checkpoint.given, [checkpoint.chosen_folder, *others[:20]]),
            given=checkpoint.given, chosen=checkpoint.chosen_folder, others=named(others) or "-",
            found=len(others) + 1,
        )  # fmt: skip
    if checkpoint.weight_names:
        yield from _present(checkpoint)
    else:
        yield from _absent(checkpoint)


def _present(checkpoint: Checkpoint) -> Iterator[Observation]:
    names = checkpoint.weight_names
    size = sum(file.size for file in checkpoint.weight_files)
    if checkpoint.kind == "state_dict" and SHARD.match(names[0]):
        yield warning("one_shard_given", (checkpoint.given, names[0]), file=names[0])
    elif checkpoint.kind == "folder" and not any(n in _STANDARD or SHARD.match(n) for n in names):
        yield info("other_names", (checkpoint.store.label, list(names[:20])), files=named(names), found=len(names))
    else:
        yield ok(files=named(names, 2), found=len(names), size=bytes_(size))
    if checkpoint.kind == "adapter":
        whole = [n for n in checkpoint.store.names() if n in _STANDARD or SHARD.match(n)]
        if whole:  # transformers looks for adapter_config.json first
            yield info("full_weights_unread", (checkpoint.store.label, whole[:20]), files=named(whole))


def _absent(checkpoint: Checkpoint) -> Iterator[Observation]:
    store = checkpoint.store
    names = store.names()
    where = (store.label, names[:20])
    if checkpoint.broken_links:
        yield error("links_to_nothing", (store.label, list(checkpoint.broken_links[:20])),
                    files=named(checkpoint.broken_links), found=len(checkpoint.broken_links))  # fmt: skip
    elif "zero_to_fp32.py" in names or any(f.startswith("global_step") for f in store.folders()):
        yield error("deepspeed_state_only", (store.label, [*store.folders()[:10], *names[:10]]), folder=store.label)
    elif run_remains(store):
        yield error("fsdp_state_only", (store.label, store.folders()[:20]), folder=store.label)
    elif checkpoint.kind == "adapter":
        yield error("adapter_weights_absent", where, expected=ADAPTER_WEIGHTS[0])
    elif others := [n for n in names if n.endswith(_OTHER_FORMATS) or n.startswith("consolidated.")]:
        yield error("other_format", (store.label, others[:20]), files=named(others))
    else:
        yield error("absent", where, folder=store.label, files=named(names) or "-")
