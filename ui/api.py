"""The analyses as typed API endpoints and MCP tools, the same as the tabs' buttons."""

from __future__ import annotations

from typing import Any, Literal

import gradio as gr

from diagnostics.report import finite
from diagnostics.words import say
from pipeline.refusal import Refused
from ui import examples
from ui.allowed_paths import is_public
from ui.interface_words import known, words
from ui.log_case import checked_log
from ui.pair_case import checked_file, checked_source, checked_tokenizer
from ui.running_diagnosis import ONE_AT_A_TIME, Run, diagnose_now, one_line
from ui.visitor_case import BadCase, checked_case


def diagnose_checkpoint(
    path: str,
    tokenizer: str = "",
    base: str = "",
    depth: Literal["auto", "files", "weights", "forward", "samples"] = "auto",
    lang: Literal["en", "zh"] = "en",
) -> dict[str, Any]:
    """Say why a checkpoint misbehaves: ranked root causes with evidence, as the JSON report (schema 1).

    Args:
        path: Checkpoint folder, folder of checkpoints, LoRA adapter, weight file, or Hub id (owner/name[@revision]).
        tokenizer: Folder or Hub id of the tokenizer, when it does not lie beside the weights.
        base: Folder or Hub id of the model the training started from.
        depth: files (headers only, seconds), weights (all values), forward (runs it), samples (generates), or auto.
        lang: Language of the sentences, en or zh.

    Returns:
        The report: verdict, causes, findings with evidence, skipped checks, metrics, samples, curves.
    """
    said = words(lang)
    try:
        case = checked_case(path, tokenizer=tokenizer, base=base, depth=depth, roots=examples.demo_roots())
    except BadCase as bad:
        raise gr.Error(said[bad.entry].format(**bad.params), print_exception=False) from None
    run = Run("", case, "")
    with ONE_AT_A_TIME:
        try:
            report = diagnose_now(run)
        except Refused as error:
            raise gr.Error(error.said(known(lang)), print_exception=False) from None
        except Exception as error:
            raise gr.Error(said["failed_text"].format(error=one_line(error)), print_exception=False) from None
    return no_files(finite(say(report, known(lang)).to_json()))


def diagnose_log(path: str = "", text: str = "", lang: Literal["en", "zh"] = "en") -> dict[str, Any]:
    """Say what is wrong with a training run by its log, and at which steps, as the JSON report (schema 1).

    Args:
        path: Log file, folder of a run, or pattern on the machine of this app; several lines are parts of one run.
        text: The log itself, instead of a path: JSON, JSON lines, CSV, or what the terminal printed.
        lang: Language of the sentences, en or zh.

    Returns:
        The report: verdict, causes, findings with the steps, skipped checks, metrics, curves.
    """
    from diagnostics import diagnose_log as logs

    said = words(lang)
    try:
        case = checked_log(path, text)
        report = logs.diagnose_log(
            case.paths, max_bytes=case.max_bytes, remembered=() if is_public() else None, lang=known(lang)
        )
    except BadCase as bad:
        raise gr.Error(said[bad.entry].format(**bad.params), print_exception=False) from None
    except Refused as error:
        raise gr.Error(error.said(known(lang)), print_exception=False) from None
    except Exception as error:
        raise gr.Error(said["log_failed_text"].format(error=one_line(error)), print_exception=False) from None
    return no_files(finite(report.to_json()))


def diagnose_pairs(
    file: dict[str, Any] | None = None,
    path: str = "",
    tokenizer: str = "",
    max_length: int = 0,
    axis: Literal["", "better_response_id", "safer_response_id"] = "",
    lang: Literal["en", "zh"] = "en",
) -> dict[str, Any]:
    """Say what is wrong with a file of preference pairs, and with which rows, as the JSON report (schema 1).

    Args:
        file: The file, uploaded: what `handle_file` of the client gives.
        path: Instead of it a file on the machine of this app.
        tokenizer: Folder or Hub id of the tokenizer, to see what a trainer would cut off.
        max_length: Longest sequence of the training in tokens; 0 for none.
        axis: Of PKU-SafeRLHF's two judgements the one that decides.
        lang: Language of the sentences, en or zh.

    Returns:
        The report: verdict, causes, findings with their rows, skipped checks, metrics.
    """
    from diagnostics import diagnose_pairs as pairs

    said = words(lang)
    try:
        source = checked_file(file) if file else checked_source(path)
        tokenizer = checked_tokenizer(tokenizer)
        if len(source.paths) != 1:
            raise BadCase("pairs_one_file")
        report = pairs.diagnose_pairs(
            source.paths[0], axis=axis or None, tokenizer=tokenizer or None, max_length=max_length or None,
            name=source.name, lang=known(lang),
        ).report  # fmt: skip
    except BadCase as bad:
        raise gr.Error(said[bad.entry].format(**bad.params), print_exception=False) from None
    except Refused as error:
        raise gr.Error(error.said(known(lang)), print_exception=False) from None
    except Exception as error:
        raise gr.Error(said["pairs_failed_text"].format(error=one_line(error)), print_exception=False) from None
    return no_files(finite(report.to_json()))


def no_files(value: Any) -> Any:
    """`value` with every key `path` called `path_`.

    Gradio takes any mapping with a `path` in an answer for a file: its client downloads it, and its server would copy
    what a hostile config.json names. Only `params` and pieces of evidence can hold one.
    """
    if isinstance(value, dict):
        return {"path_" if key == "path" else key: no_files(inner) for key, inner in value.items()}
    return [no_files(inner) for inner in value] if isinstance(value, list) else value
