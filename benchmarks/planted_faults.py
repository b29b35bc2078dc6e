"""How often the first cause is right: faults planted in sound checkpoints, each diagnosed as a user would.

    python benchmarks/planted_faults.py                    # all of them, some minutes on two cores
    python benchmarks/planted_faults.py --only one_nan     # cases whose name contains this
    python benchmarks/planted_faults.py --depth samples    # every case as deep as it goes, not only as deep as needed

Prints a table, the share of right first causes, false alarms on sound checkpoints, and whether the confidences mean
what they say. Exit status 1 when first causes are right in fewer than 85 of 100 faults, a sound checkpoint raises
an alarm, or a planted pickle ran its command. Checkpoints made here are kept in the user's cache folder.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_NUM_THREADS", "1")  # as many cases at once as there are cores

from benchmarks import planted_files as files  # noqa: E402
from benchmarks import planted_trainings as trainings  # noqa: E402
from benchmarks import sound_models  # noqa: E402
from pipeline.demo.build import default_root  # noqa: E402

BAR = 0.85
# Reasons that say nothing of a fault: the check is for another kind of checkpoint, or the user gave no such file.
NOT_ASKED = ("not_an_adapter", "is_an_adapter", "no_bos", "no_template", "no_base", "no_log", "no_data")
BINS = (0.0, 0.3, 0.5, 0.7, 0.9, 1.01)


@dataclass(frozen=True)
class Case:
    """One planted fault. expected: the causes that count as right, none for a sound checkpoint."""

    make: Callable[[Path, sound_models.Sound], dict[str, Any]]
    expected: tuple[str, ...]
    depth: str = "files"

    @property
    def name(self) -> str:
        return self.make.__name__


def _case(make: Callable[[Path, sound_models.Sound], dict[str, Any]], expected: str, depth: str = "files") -> Case:
    return Case(make, tuple(expected.split()), depth)


FAULTS = (
    _case(files.an_image_with_a_weights_name, "not_a_checkpoint"),
    _case(files.a_folder_of_data, "not_a_checkpoint"),
    _case(files.an_empty_folder, "not_a_checkpoint"),
    _case(files.weights_are_an_lfs_pointer, "incomplete_checkpoint"),
    _case(files.tokenizer_is_an_lfs_pointer, "incomplete_checkpoint"),
    _case(files.second_shard_is_cut, "incomplete_checkpoint"),
    _case(files.zip_is_cut, "incomplete_checkpoint"),
    _case(files.a_shard_is_missing, "incomplete_checkpoint"),
    _case(files.the_index_names_what_is_not_there, "incomplete_checkpoint"),
    _case(files.weights_have_no_bytes, "incomplete_checkpoint"),
    _case(files.weights_left_out, "incomplete_checkpoint"),
    _case(files.only_partitions_of_zero, "incomplete_checkpoint"),
    _case(files.shapes_of_zero, "incomplete_checkpoint corrupt_weights"),
    # the bytes that belong there are absent, and what is there can't be decoded: both are said of it
    _case(files.weights_are_a_web_page, "incomplete_checkpoint corrupt_weights"),
    _case(files.a_pickle_that_runs_a_command, "unsafe_weights", "samples"),
    _case(files.a_zip_that_runs_a_command, "unsafe_weights", "samples"),
    _case(files.one_nan, "corrupt_weights", "weights"),
    _case(files.infinities, "corrupt_weights", "weights"),
    _case(files.a_layer_of_zeros, "corrupt_weights", "weights"),
    _case(files.noise_in_a_shard, "corrupt_weights", "weights"),
    _case(files.weights_too_large_for_half, "numeric_overflow", "weights"),
    _case(files.activations_too_large_for_half, "numeric_overflow", "samples"),
    _case(files.prefix_of_torch_compile, "weights_not_loaded"),
    _case(files.prefix_of_data_parallel, "weights_not_loaded"),
    _case(files.keys_of_another_program, "weights_not_loaded"),
    _case(files.head_is_missing, "weights_not_loaded"),
    _case(files.configuration_of_another_size, "weights_not_loaded"),
    _case(files.configuration_with_more_layers, "weights_not_loaded"),
    _case(files.adapter_without_tensors, "adapter_empty"),
    _case(files.adapter_with_shapes_of_zero, "adapter_empty"),
    _case(files.adapter_never_moved, "adapter_empty", "weights"),
    _case(files.adapter_for_a_wider_base, "adapter_wrong_base"),
    _case(files.adapter_for_a_deeper_base, "adapter_wrong_base"),
    _case(trainings.adapter_on_another_base, "adapter_wrong_base", "samples"),
    _case(trainings.second_adapter_on_the_first_base, "adapter_wrong_base", "samples"),
    _case(files.tokenizer_beyond_the_embedding, "vocab_mismatch"),
    _case(files.pieces_permuted, "vocab_mismatch", "samples"),
    _case(files.ids_shifted, "vocab_mismatch", "samples"),
    _case(trainings.new_tokens_never_trained, "untrained_tokens", "samples"),
    _case(trainings.new_tokens_with_the_mean_row, "untrained_tokens", "samples"),
    # its ids lie beyond the embedding of its base, because its own rows were not saved: both are said of it
    _case(trainings.adapter_without_its_new_rows, "untrained_tokens vocab_mismatch", "samples"),
    _case(files.generate_waits_for_another_token, "stop_token_mismatch"),
    _case(files.no_stop_token_anywhere, "stop_token_mismatch", "samples"),
    _case(files.stops_on_the_wrong_id, "stop_token_mismatch", "samples"),
    _case(trainings.decoder_from_the_demo_never_stops, "stop_token_never_learned", "samples"),
    _case(trainings.t5_end_left_out_of_the_loss, "stop_token_never_learned", "samples"),
    _case(trainings.decoder_trained_without_an_end, "stop_token_never_learned", "samples"),
    _case(trainings.literal_eos_from_the_demo, "eos_is_plain_text", "samples"),
    _case(trainings.literal_eos_without_its_data, "eos_is_plain_text", "samples"),
    _case(trainings.decoder_with_a_literal_end, "eos_is_plain_text", "samples"),
    _case(trainings.template_writes_two_start_tokens, "double_bos", "samples"),
    _case(trainings.rows_begin_with_the_start_token, "double_bos", "samples"),
    _case(files.template_of_another_model, "template_mismatch", "samples"),
    _case(files.template_with_other_words, "template_mismatch", "samples"),
    _case(trainings.trained_on_pages_declares_chat, "template_mismatch", "samples"),
    _case(trainings.trained_on_inst_declares_chat, "template_mismatch", "samples"),
    _case(files.pads_on_the_right, "padding_side", "samples"),
    _case(trainings.t5_at_a_twentieth, "undertrained", "samples"),
    _case(trainings.t5_at_an_eighth_without_a_log, "undertrained", "samples"),
    _case(trainings.decoder_from_the_demo_undertrained, "undertrained", "samples"),
    _case(trainings.adapter_after_a_few_steps, "undertrained", "samples"),
    _case(trainings.decoder_knows_sixteen_rows, "overtrained", "samples"),
    _case(trainings.t5_knows_thirty_rows, "overtrained", "samples"),
    _case(trainings.blown_up_by_the_rate, "diverged", "samples"),
    _case(files.base_instead_of_the_result, "wrong_weights", "samples"),
    _case(files.decoder_base_instead_of_the_result, "wrong_weights", "samples"),
    _case(trainings.an_older_step_with_the_final_log, "wrong_weights", "samples"),
    _case(trainings.the_result_of_another_run, "wrong_weights", "samples"),
    _case(trainings.pretrained_with_sentinels, "wrong_weights", "samples"),
    _case(files.penalty_of_five, "decoding_settings", "samples"),
    _case(files.cap_of_three_tokens, "decoding_settings", "samples"),
    _case(files.temperature_of_five, "decoding_settings", "samples"),
    _case(files.beams_that_prefer_short, "decoding_settings", "samples"),
    _case(files.no_token_twice, "decoding_settings", "samples"),
    _case(trainings.decoder_says_everything_again_and_again, "repetition", "samples"),
    _case(trainings.t5_says_everything_again_and_again, "repetition", "samples"),
)
SOUND = (
    _case(files.encoder_decoder_as_trained, "", "samples"),
    _case(files.decoder_as_trained, "", "samples"),
    _case(files.adapter_as_trained, "", "samples"),
    _case(files.with_its_log, "", "samples"),
    _case(files.bare_state_dict, "", "samples"),
    _case(files.training_checkpoint, "", "samples"),
    _case(files.in_shards, "", "samples"),
    _case(files.as_pickle, "", "samples"),
    _case(files.in_bfloat16, "", "samples"),
    _case(files.in_float16, "", "samples"),
    _case(files.embedding_padded, "", "samples"),
    _case(files.tokens_added_but_not_used, "", "samples"),
    _case(files.usual_sampling, "", "samples"),
    _case(files.a_run_with_checkpoints, "", "samples"),
    _case(files.the_base_itself, "", "weights"),
    _case(trainings.state_dict_from_the_demo, "", "samples"),
    _case(trainings.state_dict_of_another_dtype, "", "samples"),
    _case(trainings.trained_a_little_less, "", "samples"),
    _case(trainings.merged_adapter, "", "samples"),
    _case(trainings.second_adapter_as_trained, "", "samples"),
    _case(trainings.start_token_from_both, "", "samples"),
)


@dataclass(frozen=True)
class Result:
    """What the diagnosis said of one case. causes: (id, confidence), most probable first."""

    name: str
    expected: tuple[str, ...]
    depth: str
    verdict: str
    causes: tuple[tuple[str, float], ...]
    alarms: tuple[str, ...]  # CODE/outcome of warnings and errors
    notes: tuple[str, ...]  # of what is only worth knowing
    skipped: tuple[str, ...]  # CODE/reason, without those of deeper depths
    seconds: float
    canary: bool = False  # a planted command ran
    crash: str = ""

    @property
    def top(self) -> str:
        return self.causes[0][0] if self.causes else "-"

    @property
    def ok(self) -> bool:
        if self.crash or self.canary:
            return False
        return self.top in self.expected if self.expected else self.verdict == "healthy" and not self.causes


def _folder(case: Case) -> Path:
    """Where a case is kept: anew for another demo or other code that makes it."""
    sources = (Path(sys.modules[case.make.__module__].__file__ or ""), Path(sound_models.__file__))
    digest = hashlib.sha256(default_root().name.encode())
    for source in sources:
        digest.update(source.read_bytes())
    return default_root().parent / "planted" / f"{sources[0].stem}-{digest.hexdigest()[:10]}" / case.name


def _made(case: Case) -> dict[str, Any]:
    """The arguments of the diagnosis; the checkpoint is made if it is not there."""
    folder = _folder(case)
    given = folder.parent / f"{case.name}.json"  # written last: it says that the folder is whole
    if given.exists():
        known: dict[str, Any] = json.loads(given.read_text())
        return known
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    options = case.make(folder, sound_models.sound_models(lambda line: None))
    given.write_text(json.dumps(options))
    return options


def judge(case: Case, depth: str) -> Result:
    """Make one case and diagnose it."""
    _quiet()
    from diagnostics.diagnose_checkpoint import diagnose_checkpoint

    options = _made(case)
    canary = _folder(case) / "CANARY"
    canary.unlink(missing_ok=True)
    started = time.perf_counter()
    try:
        report = diagnose_checkpoint(options.pop("path"), depth=depth, **options)
    except Exception as crash:  # the benchmark goes on; the table shows it
        what = f"{type(crash).__name__}: {crash}".splitlines()[0][:200]
        return Result(case.name, case.expected, depth, "crash", (), (), (), (), 0.0, canary.exists(), what)
    return Result(
        case.name, case.expected, depth, report.verdict,
        tuple((c.id, c.confidence) for c in report.causes),
        tuple(f.signal for f in report.findings if f.severity in ("warning", "error")),
        tuple(f.signal for f in report.findings if f.severity == "info"),
        tuple(f"{s.code}/{s.reason_id}" for s in report.skipped if s.reason_id != "depth_not_asked"),
        round(time.perf_counter() - started, 2), canary.exists(),
    )  # fmt: skip


def _quiet() -> None:
    """In every process: one thread, no bars, no network."""
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")
    import warnings

    import torch
    from transformers.utils import logging

    warnings.simplefilter("ignore")
    logging.disable_progress_bar()
    torch.set_num_threads(1)


def _judge_by_name(name: str, depth: str) -> Result:
    case = next(c for c in (*FAULTS, *SOUND) if c.name == name)
    return judge(case, depth or case.depth)


def run(cases: Sequence[Case], depth: str, jobs: int) -> list[Result]:
    """All results, in the order of the cases; progress on standard error."""
    found: dict[str, Result] = {}
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(_judge_by_name, case.name, depth) for case in cases]
        for done in as_completed(waiting):
            result = done.result()
            found[result.name] = result
            mark = "ok" if result.ok else "WRONG"
            print(f"[{len(found)}/{len(cases)}] {result.name}: {result.top} {mark}", file=sys.stderr, flush=True)
    return [found[case.name] for case in cases]


def table(results: Sequence[Result]) -> str:
    """One line per case."""
    lines = [f"{'case':42} {'expected':26} {'first cause':26} {'conf':>4}  {'ok':3} {'second':32} {'s':>5}"]
    for r in results:
        confidence = f"{r.causes[0][1]:.2f}" if r.causes else "   -"
        second = f"{r.causes[1][0]} {r.causes[1][1]:.2f}" if len(r.causes) > 1 else ""
        expected = r.expected[0] if r.expected else "(sound)"
        top = r.crash or ("CANARY " if r.canary else "") + r.top
        ok = "yes" if r.ok else "NO"
        lines.append(f"{r.name:42} {expected:26} {top[:26]:26} {confidence:>4}  {ok:3} {second:32} {r.seconds:5.1f}")
        if not r.ok:
            lines.append(f"    said: {', '.join(r.alarms) or 'no warning, no error'}")
            if unmeasured := [s for s in r.skipped if s.split("/")[1] not in NOT_ASKED]:
                lines.append(f"    not measured: {', '.join(unmeasured)}")
    return "\n".join(lines)


def calibration(results: Sequence[Result]) -> str:
    """Of the causes reported at some confidence, how many are right: all reported ones, and the first ones alone."""
    lines = ["confidence    all reported: right / said   mean said     first ones: right / said"]
    for low, high in zip(BINS, BINS[1:], strict=False):
        said = [(c in r.expected, p, i == 0) for r in results for i, (c, p) in enumerate(r.causes) if low <= p < high]
        if not said:
            continue
        right, firsts = sum(ok for ok, _, _ in said), [ok for ok, _, is_first in said if is_first]
        mean = sum(p for _, p, _ in said) / len(said)
        lines.append(
            f"{low:.1f} - {min(high, 1.0):.1f}     {right:4} / {len(said):<4} = {right / len(said):.2f}"
            f"          {mean:.2f}          {sum(firsts):4} / {len(firsts)}"
        )
    return "\n".join(lines)


def _sweep(cases: Sequence[Case]) -> None:
    """Remove what other versions of this benchmark left in the cache."""
    kept = {_folder(case).parent.name for case in cases}
    place = default_root().parent / "planted"
    for folder in place.iterdir() if place.is_dir() else ():
        if folder.name not in kept:
            shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", metavar="NAME", help="cases whose name contains this")
    parser.add_argument("--depth", choices=("files", "weights", "forward", "samples"), default="",
                        help="judge every case at this depth; default: the depth it needs")  # fmt: skip
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="cases at once")
    parser.add_argument("--json", metavar="FILE", help="write every result there")
    options = parser.parse_args()
    wanted = [c for c in (*FAULTS, *SOUND) if options.only is None or options.only in c.name]
    if not wanted:
        print(f"no case has {options.only!r} in its name", file=sys.stderr)
        return 2
    _sweep((*FAULTS, *SOUND))
    sound_models.sound_models(lambda line: print(line, file=sys.stderr))  # once, before the processes start
    results = run(wanted, options.depth, max(1, options.jobs))
    faults, sound = [r for r in results if r.expected], [r for r in results if not r.expected]
    right = sum(r.ok for r in faults)
    quiet = sum(r.ok for r in sound)
    print(table(results))
    print()
    if faults:
        print(f"first cause right: {right} of {len(faults)} faults ({right / len(faults):.0%}, bar {BAR:.0%})")
    if sound:
        print(f"false alarms: {len(sound) - quiet} of {len(sound)} sound checkpoints (bar 0)")
    print(calibration(results))
    if options.json:
        Path(options.json).write_text(json.dumps([asdict(r) | {"ok": r.ok} for r in results], indent=1))
    ran = any(r.canary for r in results)
    return 1 if ran or quiet < len(sound) or (faults and right / len(faults) < BAR) else 0


if __name__ == "__main__":
    sys.exit(main())
