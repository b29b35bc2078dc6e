"""The end of a command whose result is judged: it is diagnosed, printed, and the exit status follows."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.commands.terminal import EXIT_INTERRUPTED, write_result
from pipeline.refusal import Refused

if TYPE_CHECKING:
    from pipeline.evaluation.results import AbilitiesResult, ComparisonResult, Kind


def holds_result(path: Path, kind: Kind) -> bool:
    """Whether a former result of this kind stands there, which may be replaced."""
    from pipeline.evaluation.results import read_result_file

    try:
        return read_result_file(path).get("kind") == kind
    except (Refused, OSError):
        return False


def say_judged(
    result: AbilitiesResult | ComparisonResult, place: Path, account: Callable[[], str], *, format: str, lang: str,
    cancel: threading.Event,
) -> int:  # fmt: skip
    """Prints a result that stands at `place` and what the diagnosis says of it; nothing is asked once cancel is set.
    account: the figures as text. Returns the exit status. Raises Refused, after printing, where no diagnosis came."""
    from pipeline.evaluation.ask_diagnosis import AskingCancelled, ask_diagnosis
    from pipeline.evaluation.results import to_json

    shown, report, status = b"", None, 0
    unasked: Refused | None = None
    if not cancel.is_set():
        try:
            asked = ask_diagnosis(place, lang=lang, format="text", cancel=cancel)
            shown, report, status = asked.shown, asked.report, asked.status
        except AskingCancelled:
            pass
        except Refused as reason:  # the result stands, and what it says is printed all the same
            unasked = reason
    if format == "json":
        document = {**to_json(result), "report": report}
        write_result(json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False) + "\n")
    else:
        write_result(account() + (f"\n{shown.decode('utf-8', 'replace')}" if shown else ""))
    if unasked is not None:
        raise unasked
    return EXIT_INTERRUPTED if result.interrupted else status
