"""CKP011: weights stored as a pickle that asks for more than tensors."""

from __future__ import annotations

import re
from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.files.size_in_words import named
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, info, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.checkpoint import NOT_MODEL_WEIGHTS
from pipeline.file_store import LocalFolder
from pipeline.weight_file import PICKLE_SUFFIXES, WeightFile, read_weight_file

# Modules whose functions act when a pickle calls them. Like the blocklist of
# https://github.com/mmaitre314/picklescan; torch.load(weights_only=True) refuses them and everything else unknown.
_ACTING = frozenset(
    ("os", "posix", "nt", "sys", "subprocess", "builtins", "__builtin__", "runpy", "importlib", "imp",
     "pty", "shutil", "socket", "ssl", "urllib", "requests", "httplib", "http", "aiohttp", "webbrowser", "ctypes",
     "code", "codeop", "commands", "pickle", "_pickle", "dill", "cloudpickle", "marshal", "types", "operator",
     "functools", "asyncio", "multiprocessing", "signal", "pdb", "bdb", "timeit", "cProfile", "profile", "pip",
     "platform", "pydoc", "doctest", "tempfile", "pathlib", "io", "_io", "venv", "ensurepip", "idlelib", "site",
     "trace")
)  # fmt: skip
_ACTING_PARTS = ("torch.hub.", "torch.load", "torch.jit.", "torch.utils.cpp_extension.", "numpy.testing.",
                 "numpy.f2py.", "numpy.load")  # fmt: skip
# Of those modules: classes that only hold values.
_HARMLESS = re.compile(
    r"(__builtin__|builtins)\.(set|frozenset|list|dict|tuple|int|long|float|complex|bool|str|unicode|bytes|bytearray"
    r"|slice|x?range|object)|types\.SimpleNamespace|pathlib\.\w*Path|_?io\.(BytesIO|StringIO)|functools\.partial"
    r"|signal\.Signals"
)
_MODULE = re.compile(r"torch\.nn\.modules\.|transformers\.models\.|peft\.(peft_model|tuners)\.")


def pickle_runs_code(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """Weights stored as a pickle that asks for more than tensors.

    What it checks:
        Every name that the pickles in the folder would look up, without looking any of them up.
    Why it matters:
        A pickle is a program: torch.load without weights_only runs it with your rights. With weights_only it refuses
        the file, so nothing loads.
    How it is measured:
        The pickle is split into opcodes; names are compared with those torch.load(weights_only=True) allows.
    Known false alarms:
        Training scripts put numpy numbers, argparse namespaces or their own classes beside the weights, or save the
        whole model object instead of its state dict. That is no attack, but the file does not load safely either;
        functions that act and classes that only hold values are told apart by name.
    Fix:
        For a file of your own: load it once on a machine without secrets, take the state dict out, and save it with
        safetensors.torch.save_file. Don't open a stranger's.
    References:
        https://docs.pytorch.org/docs/stable/generated/torch.load.html
        https://huggingface.co/docs/hub/security-pickle
    """
    checkpoint = subject.checkpoint
    files = checkpoint.weight_files
    if not files:
        raise NotMeasured("no_weights")
    unsafe = [f for f in files if f.problem == "unsafe_pickle"]
    for file in unsafe:
        acting = _acting(file)
        asked = file.detail.split(", ")
        outcome = "runs_code" if acting else "whole_model" if any(map(_MODULE.match, asked)) else "foreign_objects"
        shown = acting or [name for name in asked if not _HARMLESS.fullmatch(name)] or asked
        yield error(outcome, (file.name, asked), file=file.name, names=named(shown))
    for file in _beside(subject):
        acting = _acting(file)
        yield warning("runs_code_beside", (file.name, file.detail.split(", ")), file=file.name, names=named(acting))
    plain = [f.name for f in files if f.format.startswith("torch_") and f.problem is None]
    if plain:
        yield info("plain_pickle", (plain[0], "torch.save"), files=named(plain), found=len(plain))
    elif not unsafe:
        yield ok(found=len(files))


def _acting(file: WeightFile) -> list[str]:
    """The names in it that act when they are called, not classes that only hold values."""
    return [
        name for name in file.detail.split(", ")
        if (name.partition(".")[0] in _ACTING or name.startswith(_ACTING_PARTS)) and not _HARMLESS.fullmatch(name)
    ]  # fmt: skip


def _beside(subject: CheckpointSubject) -> Iterator[WeightFile]:
    """Pickles in the folder that from_pretrained would not open, if they would run code."""
    checkpoint = subject.checkpoint
    if not isinstance(checkpoint.store, LocalFolder):
        return
    names = [n for n in checkpoint.store.names() if n.endswith(PICKLE_SUFFIXES) and n not in checkpoint.weight_names]
    for name in [n for n in names if not NOT_MODEL_WEIGHTS.match(n)][:20]:
        file = read_weight_file(checkpoint.store, name)
        if file.problem == "unsafe_pickle" and _acting(file):
            yield file
