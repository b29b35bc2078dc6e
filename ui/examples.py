"""The example cases: tiny real models of the demo, trained on this machine when first asked for."""

from __future__ import annotations

from pathlib import Path

from ui.running_diagnosis import Case, CaseNotMade, Run, Stopped

NAMES = ("off_topic_t5", "undertrained_decoder", "never_stops_decoder", "healthy_decoder")  # three sick, one healthy


def make_case(name: str, run: Run) -> Case:
    """The case of one example with all that belongs to it; trains what is not there yet. Raises CaseNotMade."""
    from pipeline.demo.build import DemoNotBuilt, build_demo

    def progress(line: str) -> None:
        if run.cancel.is_set():
            raise Stopped  # finished stages stay, the next build goes on from there
        run.note = line
        run.changed()

    try:
        made = build_demo(progress=progress, only=[name]).cases[name]
    except DemoNotBuilt as error:
        raise CaseNotMade(str(error)) from error
    run.note = ""
    return Case(
        str(made.checkpoint), str(made.tokenizer or ""), str(made.model_config or ""), str(made.base or ""),
        (str(made.data_file),), (str(made.log_file),) if made.log_file else (), "samples",
    )  # fmt: skip


def demo_roots() -> tuple[Path, ...]:
    """Folders of the demo: open to every visitor, also in public."""
    from pipeline.demo.build import default_root

    return (default_root(),)
