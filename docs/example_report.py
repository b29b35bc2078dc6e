"""Makes configs/examples/founding_case.json: the finished report that the app shows before anything is asked.

`python docs/example_report.py` diagnoses the founding case of the demo and writes what the tool says.
"""

from __future__ import annotations

import os
import sys
from contextlib import chdir
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from diagnostics.diagnose_checkpoint import diagnose_checkpoint  # noqa: E402
from diagnostics.report import Report  # noqa: E402
from pipeline.demo.build import DemoFolder, build_demo  # noqa: E402

EXAMPLE = ROOT / "configs" / "examples" / "founding_case.json"
FOUNDING_CASE = "literal_eos_t5"


def make_example(demo: DemoFolder) -> Report:
    """The report of the founding case, with paths relative to the demo so that no machine's folders stand in it."""
    case = demo.cases[FOUNDING_CASE]

    def inside(path: Path | None) -> str | None:
        return os.path.relpath(path, demo.root) if path is not None else None

    with chdir(demo.root):
        return diagnose_checkpoint(
            str(inside(case.checkpoint)), tokenizer=inside(case.tokenizer), model_config=inside(case.model_config),
            base=inside(case.base), data=[str(inside(case.data_file))],
            log=[str(inside(case.log_file))] if case.log_file else [], depth="samples",
        )  # fmt: skip


def main() -> None:
    demo = build_demo(progress=lambda line: print(line, file=sys.stderr), only=[FOUNDING_CASE])
    EXAMPLE.parent.mkdir(parents=True, exist_ok=True)
    EXAMPLE.write_text(make_example(demo).dumps() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
