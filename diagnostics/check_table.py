"""The one table of checks: code, name, module, depth. Within a depth the cheapest come first.

A check is the function of its module's own name, imported when it runs: a look at the files alone starts in half the
time when nothing of the deeper checks is loaded. A code is never reused. Names of findings, sentences and
documentation all hang on the code.
"""

from __future__ import annotations

from collections.abc import Mapping

from diagnostics.run_checks import Check

CHECKPOINT_CHECKS: tuple[Check, ...] = (
    # files: layout and weight headers
    Check("CKP001", "path-is-a-checkpoint", "files.not_a_checkpoint", "files"),
    Check("CKP002", "weights-present", "files.weights_absent", "files"),
    Check("CKP003", "weight-files-whole", "files.weight_files_damaged", "files"),
    Check("CKP004", "small-files-whole", "files.small_files_damaged", "files"),
    Check("CKP005", "index-matches-shards", "files.index_disagrees_with_shards", "files"),
    Check("CKP006", "tensors-match-architecture", "files.tensors_unlike_config", "files"),
    Check("CKP007", "size-is-plausible", "files.size_implausible", "files"),
    Check("CKP008", "key-prefix", "files.names_wrapped", "files"),
    Check("CKP009", "head-is-there", "files.head_missing", "files"),
    Check("CKP010", "dtype-fits", "files.dtype_unfit", "files"),
    Check("CKP011", "pickle-is-safe", "files.pickle_runs_code", "files"),
    Check("CKP012", "result-lies-elsewhere", "files.result_lies_elsewhere", "files"),
    Check("CKP013", "tokenizer-present", "files.tokenizer_absent", "files"),
    Check("CKP014", "training-state-beside", "files.training_state", "files"),
    Check("CKP015", "given-files-usable", "files.given_files_unusable", "files"),
    # files: adapters
    Check("ADP001", "adapter-has-tensors", "files.adapter_without_tensors", "files"),
    Check("ADP002", "adapter-base-found", "files.adapter_base_unknown", "files"),
    Check("ADP003", "adapter-fits-base", "files.adapter_unfit_for_base", "files"),
    Check("ADP004", "new-tokens-without-embeddings", "files.new_tokens_without_embeddings", "files"),
    Check("ADP005", "tied-pair-saved-twice", "files.tied_pair_saved_twice", "files"),
    Check("ADP006", "sft-adapter-left-out", "files.sft_adapter_left_out", "files"),
    # files: tokenizer and template
    Check("TOK001", "tokenizer-loads", "tokenizer.tokenizer_does_not_load", "files"),
    Check("TOK002", "ids-within-embedding", "tokenizer.ids_beyond_embedding", "files"),
    Check("TOK003", "special-token-is-one-token", "tokenizer.marker_splits_in_text", "files"),
    Check("TOK004", "stop-ids-disagree", "tokenizer.stop_ids_disagree", "files"),
    Check("TOK005", "pad-token", "tokenizer.pad_token_unsuited", "files"),
    Check("TOK006", "end-marker-is-plain-text", "tokenizer.end_marker_is_plain_text", "files"),
    Check("TOK007", "double-bos", "tokenizer.double_bos", "files"),
    Check("TOK008", "padding-side", "tokenizer.padding_on_the_right", "files"),
    Check("TOK009", "tokenizer-files-agree", "tokenizer.tokenizer_files_disagree", "files"),
    Check("TOK010", "text-survives", "tokenizer.text_does_not_survive", "files"),
    Check("TOK011", "reserved-tokens-in-data", "tokenizer.reserved_tokens_in_data", "files"),
    Check("TOK012", "tokenizer-is-the-models", "tokenizer.tokenizer_of_another_model", "files"),
    Check("TPL001", "template-renders", "template.template_does_not_render", "files"),
    Check("TPL002", "template-prefix-stable", "template.answer_changes_prompt", "files"),
    Check("TPL003", "template-present", "template.template_missing", "files"),
    Check("TPL004", "template-markers-are-tokens", "template.markers_are_plain_text", "files"),
    Check("TPL005", "generation-prompt", "template.generation_prompt_ignored", "files"),
    # files: generation settings
    Check("GEN001", "generation-defaults", "generation.generation_defaults", "files"),
    # weights
    Check("WGT001", "non-finite-weights", "weights.non_finite_weights", "weights"),
    Check("WGT002", "overflow-for-dtype", "weights.overflow_for_dtype", "weights"),
    Check("WGT003", "zero-or-constant-tensors", "weights.zero_or_constant_tensors", "weights"),
    Check("WGT004", "lora-b-zero", "weights.adapter_never_trained", "weights"),
    Check("WGT005", "untrained-embedding-rows", "weights.untrained_token_rows", "weights"),
    Check("WGT006", "identical-to-base", "weights.identical_to_base", "weights"),
    Check("WGT007", "distance-to-base", "weights.far_from_base", "weights"),
    Check("WGT008", "head-unrelated-to-base", "weights.head_unrelated_to_base", "weights"),
    Check("WGT009", "tied-pair-differs", "weights.tied_pair_differs", "weights"),
    # forward
    Check("FWD001", "weights-land-in-model", "forward.weights_stay_random", "forward"),
    Check("FWD008", "finite-logits", "forward.logits_not_finite", "forward"),
    Check("FWD009", "adapter-changes-output", "forward.adapter_changes_nothing", "forward"),
    Check("FWD004", "format-autopsy", "forward.trained_on_another_format", "forward"),
    Check("FWD002", "level-of-loss", "forward.level_too_high", "forward"),
    Check("FWD003", "stop-probability", "forward.stop_never_learned", "forward"),
    Check("FWD005", "prompt-dependence", "forward.prompt_ignored", "forward"),
    Check("FWD010", "memorised", "forward.rows_known_by_heart", "forward"),
    Check("FWD007", "level-against-log", "forward.loss_far_above_log", "forward"),
    Check("FWD006", "level-against-base", "forward.no_better_than_base", "forward"),
    # samples
    Check("GEN002", "end-marker-written-as-text", "generation.end_marker_as_text", "samples"),
    Check("GEN003", "stop-rate", "generation.answers_never_end", "samples"),
    Check("GEN004", "repetition", "generation.answers_repeat", "samples"),
    Check("GEN005", "empty-answers", "generation.answers_empty", "samples"),
    Check("GEN006", "batch-changes-answers", "generation.batch_changes_answers", "samples"),
    Check("GEN007", "role-markers-inside", "generation.roles_inside_answers", "samples"),
    Check("GEN008", "same-answer-to-all", "generation.answers_ignore_prompts", "samples"),
    Check("GEN009", "language-of-answers", "generation.answers_in_other_script", "samples"),
    Check("GEN010", "garbled-text", "generation.answers_garbled", "samples"),
    Check("GEN011", "pretraining-sentinels", "generation.pretraining_sentinels", "samples"),
    Check("GEN012", "non-finite-while-generating", "generation.scores_not_finite", "samples"),
    Check("GEN013", "length-cap", "generation.length_limit_too_low", "samples"),
    Check("GEN015", "pieces-of-this-vocabulary", "generation.pieces_of_another_vocabulary", "samples"),
    Check("GEN014", "only-bad-under-own-settings", "generation.own_settings_spoil_answers", "samples"),
)

LOG_CHECKS: tuple[Check, ...] = (
    Check("LOG001", "log-is-readable", "log.log_unreadable", "files"),
    Check("RUN001", "run-ended-well", "launch.run_ended_by_error", "files"),
    Check("LOG015", "messages", "log.messages_in_log", "files"),
    Check("LOG014", "steps-skipped", "log.steps_skipped", "files"),
    Check("LOG002", "loss-is-finite", "log.loss_not_finite", "files"),
    Check("LOG010", "labels-supervised", "log.labels_masked", "files"),
    Check("LOG013", "gradient-norm", "log.gradient_norm", "files"),
    Check("LOG009", "learning-rate", "log.learning_rate_unsuited", "files"),
    Check("LOG011", "loss-scale", "log.loss_scaled", "files"),
    Check("LOG003", "loss-stays-down", "log.loss_rose", "files"),
    Check("LOG004", "loss-spikes", "log.loss_spikes", "files"),
    Check("LOG005", "loss-falls", "log.loss_not_falling", "files"),
    Check("LOG012", "restarts", "log.restart_lost_state", "files"),
    Check("LOG006", "trained-long-enough", "log.stopped_too_early", "files"),
    Check("LOG007", "evaluation-falls", "log.evaluation_rises", "files"),
    Check("LOG008", "rows-by-heart", "log.rows_by_heart", "files"),
    # preference training
    Check("DPO001", "loss-leaves-its-start", "preference_log.stuck_at_ln2", "files"),
    Check("DPO002", "starts-as-its-reference", "preference_log.reference_differs_at_start", "files"),
    Check("DPO003", "chosen-stays-likely", "preference_log.chosen_logps_falling", "files"),
    Check("DPO004", "pairs-take-learning", "preference_log.separated_at_once", "files"),
    Check("DPO005", "preference-holds", "preference_log.preference_collapsed", "files"),
    Check("DPO006", "beta-and-rate-usual", "preference_log.beta_or_learning_rate_unusual", "files"),
    Check("DPO007", "held-out-pairs", "preference_log.preference_evaluation_worse", "files"),
    # reward models and online training
    Check("RWD001", "reward-model-generalises", "reward_log.reward_overfit", "files"),
    Check("RWD002", "reward-model-above-chance", "reward_log.accuracy_at_chance", "files"),
    Check("RWD003", "rewards-differ-in-group", "reward_log.no_group_variance", "files"),
    Check("RWD004", "completions-end", "reward_log.completions_clipped", "files"),
    Check("RWD005", "reward-is-not-length", "reward_log.reward_by_length", "files"),
    Check("RWD006", "policy-holds", "reward_log.policy_collapsed", "files"),
    Check("RWD007", "reward-rises", "reward_log.reward_does_not_rise", "files"),
)

PAIR_CHECKS: tuple[Check, ...] = (
    Check("PRF001", "data-is-readable", "pairs.data_unreadable", "files"),
    Check("PRF003", "sides-are-filled", "pairs.sides_empty", "files"),
    Check("PRF002", "sides-differ", "pairs.sides_identical", "files"),
    Check("PRF004", "pairs-stand-once", "pairs.pairs_repeated", "files"),
    Check("PRF005", "no-near-duplicates", "pairs.pairs_nearly_repeated", "files"),
    Check("PRF006", "one-order-only", "pairs.pairs_contradict", "files"),
    Check("PRF007", "prompt-not-in-answers", "pairs.prompt_in_answers", "files"),
    Check("PRF018", "prompt-split-at-last-turn", "pairs.prompt_left_in_sides", "files"),
    Check("PRF008", "no-template-in-text", "pairs.template_in_text", "files"),
    Check("PRF009", "answers-end", "pairs.end_markers", "files"),
    Check("PRF010", "sides-in-order", "pairs.sides_swapped", "files"),
    Check("PRF011", "length-does-not-decide", "pairs.length_bias", "files"),
    Check("PRF012", "no-feature-decides", "pairs.single_feature", "files"),
    Check("PRF013", "rejected-on-topic", "pairs.rejected_off_topic", "files"),
    Check("PRF014", "rejected-varied", "pairs.rejected_from_templates", "files"),
    Check("PRF015", "answers-do-not-loop", "pairs.answers_loop", "files"),
    Check("PRF016", "text-undamaged", "pairs.text_damaged", "files"),
    Check("PRF017", "personal-data", "pairs.personal_data", "files"),
    # with a tokenizer
    Check("PRF019", "nothing-lost-by-truncation", "pairs.truncation", "files"),
    Check("PRF020", "one-end-token", "pairs.end_tokens", "files"),
    Check("PRF021", "prompt-boundary", "pairs.prompt_boundary", "files"),
    # with a model
    Check("PRF022", "chosen-is-probable", "pairs.off_policy", "forward"),
    Check("PRF023", "displacement-ranked", "pairs.displacement", "forward"),
    Check("PRF024", "rejected-gain-by-prompt", "pairs.off_topic_by_model", "forward"),
)

SUPERVISED_CHECKS: tuple[Check, ...] = (
    Check("SFT001", "data-is-readable", "pairs.data_unreadable", "files"),
    Check("SFT002", "answers-are-filled", "pairs.sides_empty", "files"),
    Check("SFT003", "rows-stand-once", "pairs.pairs_repeated", "files"),
    Check("SFT004", "no-near-duplicates", "pairs.pairs_nearly_repeated", "files"),
    Check("SFT005", "prompt-not-in-answers", "pairs.prompt_in_answers", "files"),
    Check("SFT006", "no-template-in-text", "pairs.template_in_text", "files"),
    Check("SFT007", "answers-end", "pairs.end_markers", "files"),
    Check("SFT008", "answers-do-not-loop", "pairs.answers_loop", "files"),
    Check("SFT009", "text-undamaged", "pairs.text_damaged", "files"),
    Check("SFT010", "personal-data", "pairs.personal_data", "files"),
    Check("SFT011", "nothing-lost-by-truncation", "pairs.truncation", "files"),
    Check("SFT012", "one-end-token", "pairs.end_tokens", "files"),
)

# A recipe before its run starts; diagnostics.diagnose_recipe runs some of the checks above on its rows and model too.
RECIPE_CHECKS: tuple[Check, ...] = (
    Check("RUN010", "recipe-is-usable", "launch.recipe_unusable", "files"),
    Check("RUN014", "model-fits-method", "launch.model_unfit_for_method", "files"),
    Check("RUN011", "beta-usual", "launch.beta_unusual", "files"),
    Check("RUN012", "learning-rate-usual", "launch.learning_rate_unusual", "files"),
    Check("RUN013", "precision-fits", "launch.precision_unfit", "files"),
    Check("RUN015", "reference-is-the-start", "launch.reference_unfit", "files"),
    Check("RUN016", "adapter-fits-model", "launch.adapter_settings_unfit", "files"),
    Check("RUN018", "batches-whole", "launch.batches_unsound", "files"),
    Check("RUN019", "spread-fits", "launch.spreading_unfit", "files"),
    Check("RUN020", "packages-there", "launch.packages_absent", "files"),
    Check("RUN021", "versions-sound", "launch.versions_known_bad", "files"),
    Check("RUN022", "port-free", "launch.port_taken", "files"),
    Check("RUN023", "output-writable", "launch.output_folder_unfit", "files"),
    Check("RUN026", "rows-fit-method", "launch.rows_unfit", "files"),
    Check("RUN027", "stop-token-trained", "launch.stop_token_untaught", "files"),
    Check("RUN028", "padding-sound", "launch.padding_unsound", "files"),
    Check("RUN017", "schedule-sound", "launch.schedule_unsound", "files"),
    Check("RUN025", "memory-suffices", "launch.memory_too_small", "files"),
    Check("RUN024", "disk-suffices", "launch.disk_too_small", "files"),
    Check("RUN029", "ready-for-preference-training", "launch.ready_for_preference", "files"),
)

# What an evaluation's result file says. RWD: rewards of a set; CMP: before and after, a replay, abilities.
SCORE_CHECKS: tuple[Check, ...] = (
    Check("RWD010", "held-out-follows-training", "evaluation.reward_overfitted", "files"),
    Check("RWD011", "reward-above-chance", "evaluation.reward_at_chance", "files"),
    Check("RWD012", "accuracy-usual", "evaluation.reward_accuracy_usual", "files"),
    Check("RWD013", "length-does-not-decide-reward", "evaluation.reward_pays_length", "files"),
    Check("RWD014", "margins-mean-what-they-say", "evaluation.reward_calibration", "files"),
    Check("RWD015", "labels-agree-with-rewards", "evaluation.label_noise", "files"),
    Check("RWD016", "rewards-complete", "evaluation.rewards_missing", "files"),
    Check("RWD017", "sets-share-no-prompts", "evaluation.sets_share_prompts", "files"),
    Check("RWD018", "rewards-spread", "evaluation.reward_scale", "files"),
    Check("RWD019", "categories-ordered", "evaluation.reward_by_category", "files"),
)
COMPARISON_CHECKS: tuple[Check, ...] = (
    Check("CMP001", "after-against-before", "evaluation.after_against_before", "files"),
    Check("CMP002", "judges-agree", "evaluation.judges_disagree", "files"),
    Check("CMP003", "no-category-worse", "evaluation.category_worse", "files"),
    Check("CMP004", "gain-is-not-length", "evaluation.gain_is_length", "files"),
    Check("CMP005", "repeats-no-more", "evaluation.repeats_more", "files"),
    Check("CMP006", "answers-still-end", "evaluation.ends_less", "files"),
    Check("CMP007", "language-kept", "evaluation.language_switched", "files"),
    Check("CMP008", "still-answers", "evaluation.answers_less", "files"),
    Check("CMP009", "near-its-reference", "evaluation.far_from_reference", "files"),
    Check("CMP010", "prompts-match", "evaluation.prompts_unmatched", "files"),
    Check("CMP011", "judge-sees-no-position", "evaluation.judge_by_position", "files"),
    Check("CMP012", "no-template-in-answers", "evaluation.template_written", "files"),
)
REPLAY_CHECKS: tuple[Check, ...] = (
    Check("CMP020", "bad-cases-fixed", "evaluation.cases_broken", "files"),
    Check("CMP021", "no-case-still-bad", "evaluation.cases_still_bad", "files"),
    Check("CMP022", "loops-are-gone", "evaluation.loops_remain", "files"),
    Check("CMP023", "cases-could-be-judged", "evaluation.cases_failed", "files"),
)
ABILITY_CHECKS: tuple[Check, ...] = (
    Check("CMP030", "abilities-kept", "evaluation.abilities_lost", "files"),
    Check("CMP031", "abilities-can-be-told", "evaluation.abilities_untold", "files"),
)
WHOLE_CHECKS: tuple[Check, ...] = (Check("CMP040", "result-is-whole", "evaluation.result_unreadable", "files"),)
EVALUATION_CHECKS: Mapping[str, tuple[Check, ...]] = {
    "scores": WHOLE_CHECKS + SCORE_CHECKS,
    "comparison": WHOLE_CHECKS + COMPARISON_CHECKS,
    "replay": WHOLE_CHECKS + REPLAY_CHECKS,
    "abilities": WHOLE_CHECKS + ABILITY_CHECKS,
    "evaluation": WHOLE_CHECKS,
}

ALL_CHECKS = (
    CHECKPOINT_CHECKS + LOG_CHECKS + PAIR_CHECKS + SUPERVISED_CHECKS + RECIPE_CHECKS
    + SCORE_CHECKS + COMPARISON_CHECKS + REPLAY_CHECKS + ABILITY_CHECKS + WHOLE_CHECKS
)  # fmt: skip
