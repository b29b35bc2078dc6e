"""RUN022: the port on which the processes of a run find each other."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostics.launch.recipe_unusable import PORT
from diagnostics.recipe_subject import RecipeSubject
from diagnostics.report import Observation
from diagnostics.run_checks import NotMeasured, error, ok, warning
from diagnostics.thresholds import Thresholds
from pipeline.training.accelerate_files import port_free

USUAL = 29500  # of torch.distributed, where nobody names one


def port_taken(subject: RecipeSubject, limits: Thresholds) -> Iterator[Observation]:
    """What it checks:
        Whether main_process_port of the accelerate file is free, where several processes are started.
    Why it matters:
        A run whose port belongs to another one waits, or ends with `address already in use`.
    How it is measured:
        By listening on it for a moment.
    Known false alarms:
        The port of a run that will have ended by the time this one starts.
    Fix:
        main_process_port: 0 takes a free one.
    References:
        https://huggingface.co/docs/accelerate/package_reference/cli
    """
    refused = subject.spread_problem
    if refused is not None and refused.sentence.entry == PORT:
        port = refused.sentence.params.get("port")
        yield error("taken", ("main_process_port", port), port=port, free=refused.sentence.params.get("free"))
        return
    spread = subject.spread
    if spread is None:
        raise NotMeasured("no_accelerate_file")
    if spread.machine_rank or (spread.processes == 1 and spread.engine != "deepspeed"):
        raise NotMeasured("one_process")
    if spread.port is None and not port_free(USUAL):
        yield warning("usual_taken", ("main_process_port", None), port=USUAL)
    else:
        yield ok(port=spread.port if spread.port is not None else USUAL)
