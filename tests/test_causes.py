"""The table of causes: readable, complete, and ranking as it says."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
import yaml

from diagnostics.causes import rank_causes
from diagnostics.check_table import ALL_CHECKS
from diagnostics.report import Finding
from diagnostics.thresholds import load_thresholds

ROOT = Path(__file__).resolve().parent.parent
TABLE = yaml.safe_load((ROOT / "configs" / "causes.yaml").read_text(encoding="utf-8"))
CAUSES = {
    "not_a_checkpoint", "incomplete_checkpoint", "unsafe_weights", "corrupt_weights", "weights_not_loaded",
    "wrong_weights", "adapter_empty", "adapter_wrong_base", "vocab_mismatch", "untrained_tokens",
    "stop_token_mismatch", "stop_token_never_learned", "eos_is_plain_text", "double_bos", "template_mismatch",
    "padding_side", "undertrained", "overtrained", "decoding_settings", "repetition", "numeric_overflow",
}  # fmt: skip


def finding(code: str, outcome: str, severity: str = "error") -> Finding:
    return Finding(code, "a-check", severity, outcome)


def test_every_cause_of_the_contract_is_there() -> None:
    assert set(TABLE) >= CAUSES


@pytest.mark.parametrize("cause", sorted(TABLE))
def test_rows_name_only_what_exists(cause: str) -> None:
    codes = {c.code for c in ALL_CHECKS}
    words = {
        code: entry
        for family in {c[:3] for c in codes}
        for code, entry in yaml.safe_load((ROOT / "configs/words/en" / f"{family}.yaml").read_text("utf-8")).items()
    }
    for side in ("for", "against"):
        for signal, weight in (TABLE[cause].get(side) or {}).items():
            code, _, outcome = signal.partition("@")[0].partition("/")
            assert code in codes, signal
            assert not outcome or outcome in words[code], f"{signal}: no such outcome"
            assert 0 < float(weight) <= 10
    for other in TABLE[cause].get("explained_by") or {}:
        assert other in TABLE
    assert TABLE[cause].get("for"), "a cause nothing can support"


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_every_cause_has_words(lang: str) -> None:
    words = yaml.safe_load((ROOT / f"configs/words/{lang}/causes.yaml").read_text("utf-8"))
    for cause, row in TABLE.items():
        assert words[cause]["title"] and words[cause]["explanation"] and words[cause]["fix"]
        assert set(row.get("next_tests") or {}) <= set(words["next_tests"])


def test_nothing_wrong_gives_no_cause() -> None:
    fine = [finding(c.code, "ok", "ok") for c in ALL_CHECKS] + [finding("TOK005", "pad_is_eos", "info")]
    assert rank_causes(fine, [], load_thresholds()) == ()


def test_evidence_against_lowers_confidence() -> None:
    limits = load_thresholds()
    bad = finding("TOK004", "terminator_not_stopped_on")
    alone = rank_causes([bad], [], limits)[0]
    assert alone.id == "stop_token_mismatch" and alone.confidence > 0.7
    opposed = rank_causes([bad, finding("GEN003", "ok", "ok")], [], limits)[0]
    assert opposed.confidence < alone.confidence and "GEN003" in opposed.opposing


# Outcomes that are not written out where they are yielded, and are errors.
NAMED_BY_READERS = {
    "CKP001": ("image_or_other", "not_weights", "empty_folder", "no_checkpoint_files", "unreadable", "symlink_loop",
               "special_file"),
    "CKP003": ("lfs_pointer", "empty", "truncated", "truncated_somewhere", "header_too_large", "header_not_json",
               "bad_header", "trailing_bytes", "not_weights", "not_weights_but", "unreadable", "no_tensors",
               "meta_tensors", "unplain_tensors", "other_suffix"),
    "CKP004": ("unreadable", "link_to_nothing", "is_folder", "special_file", "empty", "lfs_pointer", "too_large",
               "not_text", "not_json", "wrong_type", "not_utf8", "byte_order_mark", "wrong_field", "wrong_token_field",
               "wrong_generation_field", "unknown_dtype", "unknown_activation"),
    "CKP006": ("other_architecture", "few_tensors_land", "config_has_more_layers", "layers_missing"),
    "CKP007": ("too_small", "too_small_zero3", "empty_tensors", "empty_tensors_zero3", "smaller_than_embedding",
               "smaller_than_embedding_zero3"),
    "CKP008": ("nested_state",),
    "CKP011": ("runs_code", "whole_model", "foreign_objects"),
}  # fmt: skip


def _errors(code: str, module: object) -> set[str]:
    found = set(NAMED_BY_READERS.get(code, ()))
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "error" and node.args:
            found |= {c.value for c in [node.args[0]] if isinstance(c, ast.Constant)}
    return found


@pytest.mark.parametrize("check", [c for c in ALL_CHECKS if c.code[:3] in ("CKP", "ADP")], ids=lambda c: c.code)
def test_every_error_of_the_files_has_a_cause(check) -> None:
    """An error is enough for a cause to be named, alone and where every other file check found nothing wrong."""
    fine = [finding(c.code, "ok", "ok") for c in ALL_CHECKS if c.code.startswith("CKP") and c.code != check.code]
    for outcome in _errors(check.code, inspect.getmodule(check.function)):
        for others in ([],) if check.code in ("CKP002", "CKP007") else ([], fine):  # no other check is fine beside those
            said = rank_causes([finding(check.code, outcome), *others], [], load_thresholds())
            assert said, f"{check.code}/{outcome} beside {len(others)} fine ones"
def test_one_part_says_nothing_about_another() -> None:
    """Sound weights are no sign against a missing vocabulary, and that none for missing tensors."""
    limits = load_thresholds()
    half = finding("CKP013", "vocabulary_missing")
    fine = [finding(code, "ok", "ok") for code in ("CKP003", "CKP005", "CKP006", "CKP007")]
    alone = rank_causes([half], [], limits)[0]
    assert alone.id == "incomplete_checkpoint" and rank_causes([half, *fine], [], limits)[0] == alone
    names = finding("CKP006", "config_has_more_layers")
    both = {c.id: c.confidence for c in rank_causes([half, names], [], limits)}
    assert both["weights_not_loaded"] == {c.id: c.confidence for c in rank_causes([names], [], limits)}["weights_not_loaded"]
    assert both["incomplete_checkpoint"] == alone.confidence


@pytest.mark.parametrize(
    "outcome", ["broken", "empty", "lfs_pointer", "not_utf8", "byte_order_mark", "encode_crashed", "encode_timeout"]
)
def test_a_broken_tokenizer_has_a_cause(outcome: str) -> None:
    assert rank_causes([finding("TOK001", outcome)], [], load_thresholds())[0].id == "incomplete_checkpoint"


# Alarms that speak for no cause: what was given beside a checkpoint, a field that only batches need; and what an
# evaluation shows without showing why.
NO_CAUSE = {
    "TOK005/encoder_decoder_without_pad", "TOK008/unknown_side", "RWD016/none_scored", "RWD018/mostly_ties",
    "RWD019/fails", "CMP001/worse", "CMP001/slightly_worse", "CMP002/better_by_the_surer", "CMP003/worse_within",
    "CMP006/ends_less", "CMP006/ends_far_less", "CMP007/switches_more", "CMP007/switched", "CMP008/more_empty",
    "CMP008/far_more_empty", "CMP008/refuses_more", "CMP010/none_matched", "CMP010/many_unmatched",
    "CMP011/by_position", "CMP011/often_silent", "CMP020/some_broken", "CMP020/more_broken", "CMP023/some_failed",
    "CMP023/all_failed", "CMP040/unreadable", "CMP040/unmeasured",
}  # fmt: skip


@pytest.mark.parametrize("check", ALL_CHECKS, ids=lambda c: c.code)
def test_every_alarm_speaks_for_a_cause(check) -> None:
    """An outcome that the table doesn't know would be found, told, and counted for nothing."""
    known = {signal for row in TABLE.values() for signal in row["for"]}
    for node in ast.walk(ast.parse(inspect.getsource(inspect.getmodule(check.function)))):
        if not (isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("error", "warning") and node.args):
            continue
        outcome = node.args[0]
        choices = [outcome.body, outcome.orelse] if isinstance(outcome, ast.IfExp) else [outcome]
        for choice in choices:
            if isinstance(choice, ast.Constant):
                signal = f"{check.code}/{choice.value}"
                assert {signal, check.code} & known or signal in NO_CAUSE, f"{signal} speaks for nothing"
