"""CKP005: an index of shards that does not say what the shards hold."""

from __future__ import annotations

import re
from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.files.size_in_words import named
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.checkpoint import SHARD, Checkpoint, listed_shards
from pipeline.json_file import JsonFile, read_json

# Parts that published checkpoints drop and loaders do without: extra prediction heads, image and sound towers.
_OPTIONAL = re.compile(r"(^|\.)(mtp|nextn|eh_proj|shared_head|visual|vision\w*|audio\w*)(\.|_|$)")
# The header of these can't be used, so what they hold is unknown; a cut file's header is whole.
_UNKNOWN_CONTENT = ("unreadable", "empty", "lfs_pointer", "not_weights", "header_too_large", "header_not_json",
                    "bad_header", "compressed")  # fmt: skip


def index_disagrees_with_shards(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """An index of shards that does not say what the shards hold.

    What it checks:
        That every file the index names is there, that every tensor it names is in one of them, and that no other set
        of weights lies beside it.
    Why it matters:
        A shard that failed to download is silently left out by some servers: its layers stay random, the server
        starts, the answers are garbage.
    How it is measured:
        The index's table of tensors against the headers of the shards.
    Known false alarms:
        Tensors a model does without (extra prediction heads, image towers) may be named and absent; they are only
        mentioned. A tensor in another shard than the index says loads all the same.
    Fix:
        Download the missing shards by name, or save the model again with save_pretrained so that shards and index are
        written together; delete shards and indexes of older saves.
    References:
        https://github.com/sgl-project/sglang/pull/32279
        https://github.com/Neph0s/CoSER/issues/3
        https://github.com/huggingface/huggingface_hub/pull/4728
    """
    checkpoint = subject.checkpoint
    if checkpoint.kind != "folder":
        raise NotMeasured("is_an_adapter" if checkpoint.kind == "adapter" else "no_index")
    yield from _unused_indexes(checkpoint)
    index = checkpoint.index
    if index is None:
        shards = [n for n in checkpoint.weight_names if SHARD.match(n)]
        if shards:
            yield error("index_absent", (checkpoint.store.label, shards[:20]), files=named(shards), found=len(shards))
        elif checkpoint.weight_names:
            yield ok("not_sharded", files=named(checkpoint.weight_names))
        else:
            raise NotMeasured("no_weights")
        return
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(f, str) for f in weight_map.values()):
        yield error("index_unusable", (index.where("weight_map"), index.problem or type(weight_map).__name__),
                    file=index.name)  # fmt: skip
        return
    if not isinstance(index.get("metadata"), dict):
        yield error("no_metadata", (index.where("metadata"), None), file=index.name)
    yield from _compare(subject, index, weight_map)


def lost_tensors(checkpoint: Checkpoint) -> frozenset[str]:
    """Tensors that the index places in files which are absent or can't be read. Other checks don't count them again."""
    weight_map = checkpoint.index.get("weight_map") if checkpoint.index is not None else None
    if not isinstance(weight_map, dict):
        return frozenset()
    readable = {f.name for f in checkpoint.weight_files if f.problem not in _UNKNOWN_CONTENT}
    return frozenset(tensor for tensor, file in weight_map.items() if file not in readable)


def content_unknown(checkpoint: Checkpoint) -> str:
    """Name of a file of which nobody knows what it should hold; empty when every file's content is known or indexed."""
    if isinstance(checkpoint.index.get("weight_map") if checkpoint.index is not None else None, dict):
        return ""
    return next((f.name for f in checkpoint.weight_files if f.problem in _UNKNOWN_CONTENT), "")


def _compare(subject: CheckpointSubject, index: JsonFile, weight_map: dict[str, str]) -> Iterator[Observation]:
    checkpoint = subject.checkpoint
    present = {*checkpoint.weight_names}
    listed = listed_shards(index)
    absent = sorted(listed - present)
    if absent:
        lost = sum(file not in present for file in weight_map.values())
        yield error("shard_missing", (index.name, absent[:20]), files=named(absent), found=len(absent), of=len(listed),
                    tensors=lost, all_tensors=len(weight_map))  # fmt: skip
    lost_names = lost_tensors(checkpoint)
    missing = [t for t in weight_map if t not in checkpoint.tensors and t not in lost_names]
    needed = [t for t in missing if _needed(subject, t)]
    if needed:
        yield error("tensor_missing", (index.name, needed[:20]), tensors=named(needed), found=len(needed),
                    file=weight_map[needed[0]])  # fmt: skip
    elif missing:
        yield info("optional_missing", (index.name, missing[:20]), tensors=named(missing), found=len(missing))
    own = SHARD.match(next(iter(listed), ""))
    suffix = own.group(2) if own else ""
    unlisted = [n for n in checkpoint.store.names()
                if (m := SHARD.match(n)) and m.group(2) == suffix and n not in listed]  # fmt: skip
    if unlisted:
        yield warning("unlisted_shards", (checkpoint.store.label, unlisted[:20]), files=named(unlisted),
                      found=len(unlisted), index=index.name)  # fmt: skip
    extra = [t for t in checkpoint.tensors if t not in weight_map]
    if extra:
        yield info("unlisted_tensors", (index.name, extra[:20]), tensors=named(extra), found=len(extra))
    if not absent and not needed:
        yield ok(file=index.name, tensors=len(weight_map), shards=len(listed))


def _needed(subject: CheckpointSubject, tensor: str) -> bool:
    """Whether the model has a place for this tensor; for an unknown architecture, whether its name says otherwise."""
    try:
        place = subject.architecture.land(tensor)
    except NotMeasured:
        return not _OPTIONAL.search(tensor)
    return place is not None and place in subject.landing.missing


def _unused_indexes(checkpoint: Checkpoint) -> Iterator[Observation]:
    for name in checkpoint.stale_index_names:
        index = read_json(checkpoint.store, name)
        listed = sorted(listed_shards(index))
        there = [file for file in listed if file in checkpoint.store.names()]
        single = next((n for n in checkpoint.weight_names if not SHARD.match(n)), None)
        if single is not None and there and there[0].endswith(single.rpartition(".")[2]):
            yield warning("single_file_wins", (checkpoint.store.label, [single, name]), file=single, index=name,
                          found=len(there))  # fmt: skip
        elif len(there) < len(listed):
            yield info("stale_index", (name, listed[:20]), file=name, found=len(listed) - len(there), of=len(listed))
