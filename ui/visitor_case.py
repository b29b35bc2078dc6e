"""From what a visitor typed and dropped to a case that may be run here, or to the one line that says why not."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.run_checks import DEPTHS
from diagnostics.thresholds import load_thresholds
from pipeline.checkpoint import HUB_ID, TOKENIZER_FILES, PathNotFound, open_checkpoint
from ui.allowed_paths import is_allowed, is_public
from ui.running_diagnosis import Case
from ui.uploads import Upload

LONGEST_PATH = 4096


class BadCase(Exception):
    """A case that can't be run. entry, params: the sentence in interface.yaml."""

    def __init__(self, entry: str, **params: str) -> None:
        super().__init__(entry)
        self.entry = entry
        self.params = params


def checked_case(
    path: str, *, tokenizer: str = "", model_config: str = "", base: str = "", data: str = "", log: str = "",
    depth: str = "auto", max_rows: float = 64, device: str = "cpu", upload: Upload | None = None,
    roots: tuple[Path, ...] = (),
) -> Case:  # fmt: skip
    """A case from form fields (data and log: one path a line). Raises BadCase.

    upload: dropped files. Without a path its checkpoint files are the checkpoint; beside one they stand in for
    the tokenizer and the configuration. roots: folders a visitor of a public app may name beside the Hub.
    """
    path, tokenizer, model_config, base = (_clean(p) for p in (path, tokenizer, model_config, base))
    given = {"data": named_lines(data), "log": named_lines(log)}
    if upload is not None:
        roots = (*roots, upload.folder)
        given = {"data": given["data"] + upload.paths(upload.data), "log": given["log"] + upload.paths(upload.log)}
        if not path and upload.checkpoint:
            path = str(upload.folder)
        elif path:
            if not tokenizer and set(upload.checkpoint) & set(TOKENIZER_FILES):
                tokenizer = str(upload.folder)
            if not model_config and "config.json" in upload.checkpoint:
                model_config = str(upload.folder / "config.json")
    if not path:
        raise BadCase("no_path")
    for named in (path, tokenizer, model_config, base, *given["data"], *given["log"]):
        if named and not is_allowed(named, roots):
            raise BadCase("path_refused", path=named)
    for named in (path, tokenizer, model_config, base):
        if named and not _exists(named) and not HUB_ID.match(named):
            raise BadCase("not_found", path=named)
    for option, files in given.items():
        for named in files:
            if not os.path.isfile(named):
                raise BadCase("file_not_found", option=option, path=named)
    depth = depth if depth in DEPTHS else "auto"
    case = Case(
        path, tokenizer, model_config, base, given["data"], given["log"], depth,
        max(1, min(int(max_rows or 64), 100_000)), "cuda" if device == "cuda" else "cpu",
        str(upload.folder.parent) + os.sep if upload is not None else "",
    )  # fmt: skip
    if is_public():
        _refuse_in_public(case, roots)
    return case


def next_case(case: Case, test: str, roots: tuple[Path, ...] = ()) -> Case:
    """The same case as a cause's next test wants it: deeper, or with more rows. Raises BadCase."""
    if test in DEPTHS:
        case = replace(case, depth=test)
    elif test == "more_rows":
        case = replace(case, max_rows=max(256, 4 * case.max_rows))
    if is_public():
        _refuse_in_public(case, roots)
    return case


def _refuse_in_public(case: Case, roots: tuple[Path, ...]) -> None:
    """What only shows inside the checkpoint: a base that lies on this machine, a size that would block it."""
    try:
        checkpoint = open_checkpoint(case.path, model_config=case.model_config or None)
        declared = checkpoint.adapter_config.get("base_model_name_or_path")
        if isinstance(declared, str) and declared and not case.base:
            folder = checkpoint.local_folder()
            beside = str(folder / declared) if folder is not None else declared
            if not all(is_allowed(p, roots) or not _exists(p) for p in (declared, beside)):
                raise BadCase("base_refused", path=declared)
        subject = CheckpointSubject(checkpoint, base_path=case.base or None)
        models = [checkpoint] + ([subject.base] if subject.base is not None else [])
        parameters = sum(t.numel for model in models for t in model.tensors.values())
    except PathNotFound as error:
        raise BadCase("bad_setting", error=str(error)) from error
    if parameters > load_thresholds()["auto_depth_max_parameters"]:
        deepest = "files" if checkpoint.local_folder() is None else "weights"
        if case.depth != "auto" and DEPTHS.index(case.depth) > DEPTHS.index(deepest):
            raise BadCase("too_deep", depth=deepest)


def _clean(named: str) -> str:
    named = (named or "").strip().strip("\"'")[:LONGEST_PATH]
    return os.path.expanduser(named) if named.startswith("~") and not is_public() else named


def named_lines(named: str) -> tuple[str, ...]:
    """Paths from a text field, one a line."""
    return tuple(p for p in (_clean(line) for line in (named or "").splitlines()) if p)


def _exists(named: str) -> bool:
    try:
        return os.path.lexists(named)
    except ValueError:
        return False
