"""CKP015: training rows and logs that were given and can't be used."""

from __future__ import annotations

import os
from collections.abc import Iterator

from diagnostics.checkpoint_subject import CheckpointSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, info, ok, warning
from diagnostics.thresholds import Thresholds

MAX_LOG_BYTES = 32 * 2**20  # a longer log is read by the checks that need it, not by this cheap one


def given_files_unusable(subject: CheckpointSubject, limits: Thresholds) -> Iterator[Observation]:
    """Training rows and logs that were given and can't be used.

    What it checks:
        Whether each file given with --data holds prompts with answers, and each file given with --log a training loss.
    Why it matters:
        Without the rows and the log the checks that need them do not run: a report on a wrong file would look as good
        as one on the right file.
    How it is measured:
        Data is read as the other checks read it (the first 20,000 rows: UTF-8, UTF-16 and GB18030; JSON, JSON lines,
        CSV, TSV, Parquet). A log of up to 32 MB is searched for losses.
    Known false alarms:
        Columns of one's own naming are not recognised. The log of a preference training has losses with another zero;
        that is only mentioned.
    Fix:
        Give the file the model was trained on, with columns such as instruction and output, prompt and response, or
        messages; as the log the trainer's console output or trainer_state.json.
    References:
        https://github.com/hiyouga/LLaMA-Factory/tree/main/data
    """
    if not subject.data_paths and not subject.log_paths:
        raise NotMeasured("nothing_given")
    for path, rows in zip(subject.data_paths, subject.data_read, strict=True):
        if rows.problem == "no_known_columns" and rows.detail == "text":
            yield info("data_text_only", (path, rows.detail), file=path, found=rows.left_out)
        elif rows.problem is not None:
            evidence = (path, rows.detail or rows.problem)
            yield warning(f"data_{rows.problem}", evidence, file=path, detail=rows.detail, found=rows.left_out)
        elif rows.left_out:
            yield info("data_in_part", (path, rows.left_out), file=path, found=len(rows.rows), out=rows.left_out)
        else:
            yield ok("data_read", file=path, found=len(rows.rows))
    for place, path in enumerate(subject.log_paths):
        try:
            if os.path.getsize(path) > MAX_LOG_BYTES:
                continue
        except OSError:
            pass  # the reader says so
        curve = subject.log_curves[place]
        losses = len(curve.train) + len(curve.evaluation)
        if curve.problem == "preference_log":
            yield info("log_of_preferences", (path, curve.problem), file=path)
        elif curve.problem is not None:
            yield warning(f"log_{curve.problem}", (path, curve.problem), file=path)
        else:
            yield ok("log_read", file=path, found=losses)
