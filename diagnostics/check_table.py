"""The one table of checks: code, name, function, depth. Within a depth the cheapest come first.

A code is never reused. Names of findings, sentences and documentation all hang on the code.
"""

from __future__ import annotations

from diagnostics.files.adapter_base_unknown import adapter_base_unknown
from diagnostics.files.adapter_unfit_for_base import adapter_unfit_for_base
from diagnostics.files.adapter_without_tensors import adapter_without_tensors
from diagnostics.files.dtype_unfit import dtype_unfit
from diagnostics.files.head_missing import head_missing
from diagnostics.files.index_disagrees_with_shards import index_disagrees_with_shards
from diagnostics.files.names_wrapped import names_wrapped
from diagnostics.files.new_tokens_without_embeddings import new_tokens_without_embeddings
from diagnostics.files.not_a_checkpoint import not_a_checkpoint
from diagnostics.files.pickle_runs_code import pickle_runs_code
from diagnostics.files.result_lies_elsewhere import result_lies_elsewhere
from diagnostics.files.sft_adapter_left_out import sft_adapter_left_out
from diagnostics.files.size_implausible import size_implausible
from diagnostics.files.small_files_damaged import small_files_damaged
from diagnostics.files.tensors_unlike_config import tensors_unlike_config
from diagnostics.files.tied_pair_saved_twice import tied_pair_saved_twice
from diagnostics.files.tokenizer_absent import tokenizer_absent
from diagnostics.files.training_state import training_state
from diagnostics.files.weight_files_damaged import weight_files_damaged
from diagnostics.files.weights_absent import weights_absent
from diagnostics.forward.adapter_changes_nothing import adapter_changes_nothing
from diagnostics.forward.level_too_high import level_too_high
from diagnostics.forward.logits_not_finite import logits_not_finite
from diagnostics.forward.loss_far_above_log import loss_far_above_log
from diagnostics.forward.no_better_than_base import no_better_than_base
from diagnostics.forward.prompt_ignored import prompt_ignored
from diagnostics.forward.rows_known_by_heart import rows_known_by_heart
from diagnostics.forward.stop_never_learned import stop_never_learned
from diagnostics.forward.trained_on_another_format import trained_on_another_format
from diagnostics.forward.weights_stay_random import weights_stay_random
from diagnostics.generation.answers_empty import answers_empty
from diagnostics.generation.answers_garbled import answers_garbled
from diagnostics.generation.answers_ignore_prompts import answers_ignore_prompts
from diagnostics.generation.answers_in_other_script import answers_in_other_script
from diagnostics.generation.answers_never_end import answers_never_end
from diagnostics.generation.answers_repeat import answers_repeat
from diagnostics.generation.batch_changes_answers import batch_changes_answers
from diagnostics.generation.end_marker_as_text import end_marker_as_text
from diagnostics.generation.generation_defaults import generation_defaults
from diagnostics.generation.length_limit_too_low import length_limit_too_low
from diagnostics.generation.own_settings_spoil_answers import own_settings_spoil_answers
from diagnostics.generation.pretraining_sentinels import pretraining_sentinels
from diagnostics.generation.roles_inside_answers import roles_inside_answers
from diagnostics.generation.scores_not_finite import scores_not_finite
from diagnostics.run_checks import Check
from diagnostics.template.answer_changes_prompt import answer_changes_prompt
from diagnostics.template.generation_prompt_ignored import generation_prompt_ignored
from diagnostics.template.markers_are_plain_text import markers_are_plain_text
from diagnostics.template.template_does_not_render import template_does_not_render
from diagnostics.template.template_missing import template_missing
from diagnostics.tokenizer.double_bos import double_bos
from diagnostics.tokenizer.end_marker_is_plain_text import end_marker_is_plain_text
from diagnostics.tokenizer.ids_beyond_embedding import ids_beyond_embedding
from diagnostics.tokenizer.marker_splits_in_text import marker_splits_in_text
from diagnostics.tokenizer.pad_token_unsuited import pad_token_unsuited
from diagnostics.tokenizer.padding_on_the_right import padding_on_the_right
from diagnostics.tokenizer.reserved_tokens_in_data import reserved_tokens_in_data
from diagnostics.tokenizer.stop_ids_disagree import stop_ids_disagree
from diagnostics.tokenizer.text_does_not_survive import text_does_not_survive
from diagnostics.tokenizer.tokenizer_does_not_load import tokenizer_does_not_load
from diagnostics.tokenizer.tokenizer_files_disagree import tokenizer_files_disagree
from diagnostics.tokenizer.tokenizer_of_another_model import tokenizer_of_another_model
from diagnostics.weights.adapter_never_trained import adapter_never_trained
from diagnostics.weights.far_from_base import far_from_base
from diagnostics.weights.head_unrelated_to_base import head_unrelated_to_base
from diagnostics.weights.identical_to_base import identical_to_base
from diagnostics.weights.non_finite_weights import non_finite_weights
from diagnostics.weights.overflow_for_dtype import overflow_for_dtype
from diagnostics.weights.tied_pair_differs import tied_pair_differs
from diagnostics.weights.untrained_token_rows import untrained_token_rows
from diagnostics.weights.zero_or_constant_tensors import zero_or_constant_tensors

CHECKPOINT_CHECKS: tuple[Check, ...] = (
    # files: layout and weight headers
    Check("CKP001", "path-is-a-checkpoint", not_a_checkpoint, "files"),
    Check("CKP002", "weights-present", weights_absent, "files"),
    Check("CKP003", "weight-files-whole", weight_files_damaged, "files"),
    Check("CKP004", "small-files-whole", small_files_damaged, "files"),
    Check("CKP005", "index-matches-shards", index_disagrees_with_shards, "files"),
    Check("CKP006", "tensors-match-architecture", tensors_unlike_config, "files"),
    Check("CKP007", "size-is-plausible", size_implausible, "files"),
    Check("CKP008", "key-prefix", names_wrapped, "files"),
    Check("CKP009", "head-is-there", head_missing, "files"),
    Check("CKP010", "dtype-fits", dtype_unfit, "files"),
    Check("CKP011", "pickle-is-safe", pickle_runs_code, "files"),
    Check("CKP012", "result-lies-elsewhere", result_lies_elsewhere, "files"),
    Check("CKP013", "tokenizer-present", tokenizer_absent, "files"),
    Check("CKP014", "training-state-beside", training_state, "files"),
    # files: adapters
    Check("ADP001", "adapter-has-tensors", adapter_without_tensors, "files"),
    Check("ADP002", "adapter-base-found", adapter_base_unknown, "files"),
    Check("ADP003", "adapter-fits-base", adapter_unfit_for_base, "files"),
    Check("ADP004", "new-tokens-without-embeddings", new_tokens_without_embeddings, "files"),
    Check("ADP005", "tied-pair-saved-twice", tied_pair_saved_twice, "files"),
    Check("ADP006", "sft-adapter-left-out", sft_adapter_left_out, "files"),
    # files: tokenizer and template
    Check("TOK001", "tokenizer-loads", tokenizer_does_not_load, "files"),
    Check("TOK002", "ids-within-embedding", ids_beyond_embedding, "files"),
    Check("TOK003", "special-token-is-one-token", marker_splits_in_text, "files"),
    Check("TOK004", "stop-ids-disagree", stop_ids_disagree, "files"),
    Check("TOK005", "pad-token", pad_token_unsuited, "files"),
    Check("TOK006", "end-marker-is-plain-text", end_marker_is_plain_text, "files"),
    Check("TOK007", "double-bos", double_bos, "files"),
    Check("TOK008", "padding-side", padding_on_the_right, "files"),
    Check("TOK009", "tokenizer-files-agree", tokenizer_files_disagree, "files"),
    Check("TOK010", "text-survives", text_does_not_survive, "files"),
    Check("TOK011", "reserved-tokens-in-data", reserved_tokens_in_data, "files"),
    Check("TOK012", "tokenizer-is-the-models", tokenizer_of_another_model, "files"),
    Check("TPL001", "template-renders", template_does_not_render, "files"),
    Check("TPL002", "template-prefix-stable", answer_changes_prompt, "files"),
    Check("TPL003", "template-present", template_missing, "files"),
    Check("TPL004", "template-markers-are-tokens", markers_are_plain_text, "files"),
    Check("TPL005", "generation-prompt", generation_prompt_ignored, "files"),
    # files: generation settings
    Check("GEN001", "generation-defaults", generation_defaults, "files"),
    # weights
    Check("WGT001", "non-finite-weights", non_finite_weights, "weights"),
    Check("WGT002", "overflow-for-dtype", overflow_for_dtype, "weights"),
    Check("WGT003", "zero-or-constant-tensors", zero_or_constant_tensors, "weights"),
    Check("WGT004", "lora-b-zero", adapter_never_trained, "weights"),
    Check("WGT005", "untrained-embedding-rows", untrained_token_rows, "weights"),
    Check("WGT006", "identical-to-base", identical_to_base, "weights"),
    Check("WGT007", "distance-to-base", far_from_base, "weights"),
    Check("WGT008", "head-unrelated-to-base", head_unrelated_to_base, "weights"),
    Check("WGT009", "tied-pair-differs", tied_pair_differs, "weights"),
    # forward
    Check("FWD001", "weights-land-in-model", weights_stay_random, "forward"),
    Check("FWD008", "finite-logits", logits_not_finite, "forward"),
    Check("FWD009", "adapter-changes-output", adapter_changes_nothing, "forward"),
    Check("FWD004", "format-autopsy", trained_on_another_format, "forward"),
    Check("FWD002", "level-of-loss", level_too_high, "forward"),
    Check("FWD003", "stop-probability", stop_never_learned, "forward"),
    Check("FWD005", "prompt-dependence", prompt_ignored, "forward"),
    Check("FWD010", "memorised", rows_known_by_heart, "forward"),
    Check("FWD007", "level-against-log", loss_far_above_log, "forward"),
    Check("FWD006", "level-against-base", no_better_than_base, "forward"),
    # samples
    Check("GEN002", "end-marker-written-as-text", end_marker_as_text, "samples"),
    Check("GEN003", "stop-rate", answers_never_end, "samples"),
    Check("GEN004", "repetition", answers_repeat, "samples"),
    Check("GEN005", "empty-answers", answers_empty, "samples"),
    Check("GEN006", "batch-changes-answers", batch_changes_answers, "samples"),
    Check("GEN007", "role-markers-inside", roles_inside_answers, "samples"),
    Check("GEN008", "same-answer-to-all", answers_ignore_prompts, "samples"),
    Check("GEN009", "language-of-answers", answers_in_other_script, "samples"),
    Check("GEN010", "garbled-text", answers_garbled, "samples"),
    Check("GEN011", "pretraining-sentinels", pretraining_sentinels, "samples"),
    Check("GEN012", "non-finite-while-generating", scores_not_finite, "samples"),
    Check("GEN013", "length-cap", length_limit_too_low, "samples"),
    Check("GEN014", "only-bad-under-own-settings", own_settings_spoil_answers, "samples"),
)
