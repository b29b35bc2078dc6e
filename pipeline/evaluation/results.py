"""What an evaluation found, and its JSON form: rewards of a set, a comparison, a replay, abilities.

A result holds figures and a bounded number of cases; all rows lie beside it in a file of their own, one object a line.
What is not measured is None.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pipeline.refusal import Refused
from pipeline.whole_file import written_whole

Verdict = Literal["better", "worse", "no_difference"]
Kind = Literal["scores", "comparison", "replay", "abilities"]
SCHEMA = 1
MOST_BYTES = 64 * 2**20
CASES = 200
"""Cases of one kind that a result holds; all of them are in the file of rows."""


@dataclass(frozen=True)
class Share:
    """A share of n, between 0 and 1, with its confidence interval."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (n - 1 in the denominator) of n numbers."""

    mean: float
    std: float
    n: int


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences (after minus before, chosen minus rejected) with its confidence interval."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class ModelNamed:
    """name: short, unique within a result. source: path, address or file. role: before | after | base | adapter |
    reward | judge."""

    name: str
    source: str
    role: str = ""
    fingerprint: str = ""


# --- rewards of a set --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Accuracy:
    """Pairs whose chosen answer scores higher. share counts a tie as half; wins + ties + losses = share.n."""

    share: Share
    wins: int
    ties: int
    losses: int


@dataclass(frozen=True)
class CalibrationBin:
    """predicted: mean of sigmoid(margin) of the pairs in it, every pair in the order that makes it 0.5 or more.
    observed: the share of them in which that order is right."""

    low: float
    high: float
    predicted: float
    observed: Share


@dataclass(frozen=True)
class LengthBin:
    """Pairs by log(len(chosen) / len(rejected)), in characters, between low and high."""

    low: float
    high: float
    accuracy: Share


@dataclass(frozen=True)
class LengthBias:
    """How the reward goes with the length of an answer in characters.

    pearson, spearman: of reward and log length over all answers; within: of their differences within pairs. slope:
    reward per doubling of length, from differences within pairs with the preference held fixed. corrected: accuracy
    after slope * log2(length) is taken off every reward; chosen, rejected: the corrected rewards. right_for_longer,
    right_for_shorter: of the pairs in which the model prefers the longer, the shorter answer, the share in which the
    label does too; favour: the difference of both at equal margins, below 0 where length is paid for more than the
    labels have it.
    """

    pearson: float | None
    spearman: float | None
    within: float | None
    slope: float | None
    chosen_longer: float | None
    accuracy_chosen_longer: Share | None
    accuracy_rejected_longer: Share | None
    accuracy_alike: Share | None
    bins: tuple[LengthBin, ...] = ()
    corrected: Accuracy | None = None
    corrected_chosen: Spread | None = None
    corrected_rejected: Spread | None = None
    right_for_longer: Share | None = None
    right_for_shorter: Share | None = None
    favour: Difference | None = None


@dataclass(frozen=True)
class Suspect:
    """A pair whose label the model contradicts with confidence. margin: reward of chosen minus rejected, negative.
    probability: of the label, by the model and its calibration."""

    row: int
    line: int
    margin: float
    probability: float
    prompt: str
    chosen: str
    rejected: str


@dataclass(frozen=True, kw_only=True)
class RewardFigures:
    """What the rewards of a set say: of pairs, or only answers and length of answers that are no pairs. by_category:
    accuracy by a column of the data, empty where it has none. suspect_count: labels that the model contradicts;
    suspects_expected: how many a model with these margins contradicts where every label is right. label_noise: share of
    labels turned round that explains the margins best. prompts: distinct ones of the pairs; intervals know which pairs
    share one."""

    accuracy: Accuracy | None = None
    chosen: Spread | None = None
    rejected: Spread | None = None
    answers: Spread | None = None
    margin: Difference | None = None
    margin_std: float | None = None
    log_loss: float | None = None
    calibration: tuple[CalibrationBin, ...] = ()
    calibration_error: float | None = None
    length: LengthBias | None = None
    by_category: Mapping[str, Accuracy] = field(default_factory=dict)
    suspect_count: int = 0
    suspects_expected: float | None = None
    label_noise: Share | None = None
    prompts: int | None = None


@dataclass(frozen=True, kw_only=True)
class ScoredSet(RewardFigures):
    """Rewards of one data set. role: data | train | held_out. holds: pairs | answers (then the fields of pairs are
    None and `answers` is set). unscored: answers, unscored_rows: the rows of these, left_out: rows, by reason; lines:
    where the first of all stand, and under `shared_prompt` those of held-out rows whose prompt is in the training set.
    category_column: of by_category.
    suspects: the worst CASES of suspect_count. rows_file: name of its file of rows beside the result."""

    name: str
    role: str
    path: str
    holds: str
    rows: int
    scored: int
    unscored: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    unscored_rows: Mapping[str, int] = field(default_factory=dict)
    suspects: tuple[Suspect, ...] = ()
    rows_file: str = ""
    lines: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    category_column: str = ""


@dataclass(frozen=True)
class ScoresResult:
    """form: how the reward model reads a row, see RewardScorer. gap: accuracy in training minus held out, None without
    both sets. shared_prompts: distinct prompts of the held-out set that stand in the training set too, of
    held_out_prompts; None without both. rows_file: name of the file of rows beside the result."""

    reward_model: ModelNamed
    form: str
    sets: tuple[ScoredSet, ...]
    gap: Difference | None = None
    shared_prompts: int | None = None
    held_out_prompts: int | None = None
    rows_file: str = ""
    interrupted: bool = False
    seconds: Mapping[str, float] = field(default_factory=dict)
    created: str = ""
    kind: Literal["scores"] = "scores"


# --- before and after --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contest:
    """Before against after, judged prompt by prompt. by: task | people | judge | reward | length_free_reward | ...

    win_rate: of after, a tie is half a win; length_controlled: at equal lengths. difference: of means of the scores.
    needed: more prompts after which a difference as large as this one would be shown four times in five, None where
    the verdict is there or nothing differs. shown_from: win rate that this many prompts would show, above one half.
    by_category: the same within categories, which have no by_category themselves. unjudged: prompts without a verdict,
    by reason.
    """

    before: str
    after: str
    by: str
    verdict: Verdict
    n: int
    wins: int
    ties: int
    losses: int
    win_rate: Share | None
    length_controlled: Share | None = None
    difference: Difference | None = None
    before_mean: Spread | None = None
    after_mean: Spread | None = None
    needed: int | None = None
    shown_from: float | None = None
    unjudged: Mapping[str, int] = field(default_factory=dict)
    by_category: Mapping[str, Contest] = field(default_factory=dict)


@dataclass(frozen=True)
class MeasureChange:
    """A measure that needs no reference: before, after, their paired difference. wanted: lower | higher | same | none.
    verdict: better | worse by `wanted`, changed where the interval excludes 0 and nothing is wanted, no_difference."""

    name: str
    before_name: str
    after_name: str
    before: Spread
    after: Spread
    difference: Difference
    wanted: str
    verdict: str


@dataclass(frozen=True)
class ComparisonCase:
    """One prompt. answers: text by model name. scores: by what judged, then by model name. outcome: win | tie | loss of
    the after model named in `after`, by what judged. measures: by model name."""

    row: int
    prompt: str
    after: str
    category: str = ""
    reference: str | None = None
    answers: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    outcome: Mapping[str, str] = field(default_factory=dict)
    measures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class ComparisonResult:
    """models: the first is `before`. prompts: matched, only_before, only_after, twice, matched_by (prompt | id |
    position), numbered_from (see matched_answers.Matching).

    verdict: of the first contest in the order task, people, judge, reward that judged enough; None where nothing did.
    decided_by: which. disagreeing: other contests with the opposite verdict. cases: the clearest losses and wins.
    judge: see judge_endpoint.judging_fields, by after model.
    """

    models: tuple[ModelNamed, ...]
    verdict: Verdict | None
    decided_by: str | None
    contests: tuple[Contest, ...]
    measures: tuple[MeasureChange, ...] = ()
    prompts: Mapping[str, Any] = field(default_factory=dict)
    decoding: Mapping[str, Any] = field(default_factory=dict)
    reward_model: ModelNamed | None = None
    disagreeing: tuple[str, ...] = ()
    cases: tuple[ComparisonCase, ...] = ()
    rows_file: str = ""
    interrupted: bool = False
    seconds: Mapping[str, float] = field(default_factory=dict)
    created: str = ""
    judge: Mapping[str, Any] = field(default_factory=dict)
    kind: Literal["comparison"] = "comparison"


def prompts_of(told: Any, after: str) -> Mapping[str, Any]:
    """How the prompts of one after model were matched, by the `prompts` of a comparison, which may hold anything."""
    told = told if isinstance(told, Mapping) else {}
    apart = told.get("by_after")
    own = apart.get(after) if isinstance(apart, Mapping) else None
    return own if isinstance(own, Mapping) else told


def prompts_matched(told: Any, after: str) -> int:
    """Different prompts that before and this after model both answered, by the same; 0 where it isn't told."""
    own = prompts_of(told, after)
    counts = (own.get(name) for name in ("prompts", "matched"))
    known = (n for n in counts if isinstance(n, (int, float)) and not isinstance(n, bool) and math.isfinite(n))
    return next((int(n) for n in known if n), 0)


# --- bad cases replayed ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Replayed:
    """One case answered by one model. status: right | wrong | repeats | unended | empty | failed | unchecked (it can't
    be told whether it is right and nothing is visibly broken). good: whether the case is no bad case here. change:
    against the base: fixed | broken | still_bad | still_good, None for the base itself. rep: share of repeated n-grams
    of token ids by n. checked_by: exact | number | sql | pattern | similarity | repetition."""

    case: int
    model: str
    text: str
    standard_answer: str | None
    answer: str
    status: str
    good: bool | None
    change: str | None = None
    checked_by: str = ""
    right: bool | None = None
    repeats: bool = False
    stopped: bool | None = None
    tokens: int | None = None
    exact: bool | None = None
    similarity: float | None = None
    chrf: float | None = None
    sql: Mapping[str, Any] | None = None
    rep: Mapping[str, float] = field(default_factory=dict)
    loop: str = ""
    category: str = ""
    problem: str = ""


@dataclass(frozen=True)
class ReplaySummary:
    """Counts over all cases of one model."""

    model: str
    cases: int
    right: int
    wrong: int
    repeats: int
    unended: int
    empty: int
    failed: int
    unchecked: int
    good: int
    bad: int
    fixed: int
    broken: int
    still_bad: int
    still_good: int
    similarity: float | None = None
    chrf: float | None = None
    rep: Mapping[str, float] = field(default_factory=dict)
    rep_pooled: Mapping[str, float] = field(default_factory=dict)
    good_share: Share | None = None
    change: Contest | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class ReplayResult:
    """models: the first is the base. summary: of those that answered. rows: by case, then by model, what got worse
    first; at most what MOST_BYTES allow, all are in rows_file. unmeasured: by model, why it answered no case or not all
    of them, by language."""

    models: tuple[ModelNamed, ...]
    summary: tuple[ReplaySummary, ...]
    rows: tuple[Replayed, ...]
    decoding: Mapping[str, Any] = field(default_factory=dict)
    cases: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)
    bundle: str = ""
    rows_file: str = ""
    interrupted: bool = False
    unmeasured: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    created: str = ""
    kind: Literal["replay"] = "replay"

    @property
    def answered(self) -> dict[str, int]:
        """Cases that each model answered."""
        return {one.model: one.cases for one in self.summary}


# --- abilities kept ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AbilityChange:
    """One ability after against before. verdict: kept | lost | gained | no_difference | cannot_tell (before was at
    chance, so there is nothing to lose). `kept` means that a loss above the configured one is ruled out; `lost` and
    `gained` are corrected for the number of abilities, which the interval isn't. shown_loss: smallest share of the
    items that would be called lost, none gained."""

    after: str
    difference: Difference | None
    verdict: str
    shown_loss: float | None = None


@dataclass(frozen=True)
class Ability:
    """n items of one kind in one language. chance: share right by guessing. source: built_in | a file | lm_eval.
    lost_items: what was right before and is wrong after: item, model, answer."""

    name: str
    lang: str
    source: str
    n: int
    chance: float
    scores: Mapping[str, Share] = field(default_factory=dict)
    changes: tuple[AbilityChange, ...] = ()
    lost_items: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class AbilitiesResult:
    """models: the first is `before`. overall: all items together, by after model. formats: of the prompts, by model.
    left_out: items that a model couldn't be asked, and rows of a file that are no item, by reason."""

    models: tuple[ModelNamed, ...]
    abilities: tuple[Ability, ...]
    overall: Mapping[str, AbilityChange] = field(default_factory=dict)
    rows_file: str = ""
    interrupted: bool = False
    seconds: Mapping[str, float] = field(default_factory=dict)
    created: str = ""
    formats: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    kind: Literal["abilities"] = "abilities"


Result = ScoresResult | ComparisonResult | ReplayResult | AbilitiesResult


# --- JSON --------------------------------------------------------------------------------------------------------


def now() -> str:
    """This moment, as results and reports write it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def to_json(result: Any) -> Any:
    """Plain values; numbers that JSON can't hold are None."""
    if is_dataclass(result) and not isinstance(result, type):
        value = _plain(asdict(result))
        return {"schema": SCHEMA, **value} if isinstance(result, Result) else value
    return _plain(result)


def _plain(value: Any) -> Any:
    if isinstance(value, bool) or value is None or isinstance(value, (int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, Sequence):
        return [_plain(v) for v in value]
    if hasattr(value, "item"):  # a number of numpy
        return _plain(value.item())
    return str(value)


def write_result_file(result: Result, path: Path) -> None:
    """The JSON file of a result, whole or not at all. Raises OSError."""
    text = json.dumps(to_json(result), ensure_ascii=False, indent=1, allow_nan=False)
    with written_whole(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", errors="replace"))


def read_result_file(path: Path) -> dict[str, Any]:
    """The JSON of a result. Raises Refused (`result_unreadable`) for anything else, OSError."""
    with open(path, "rb") as file:
        raw = file.read(MOST_BYTES + 1)
    try:
        if len(raw) > MOST_BYTES:
            raise ValueError(f"> {MOST_BYTES >> 20} MiB")
        value = json.loads(raw)
        if not isinstance(value, dict) or value.get("schema") != SCHEMA or value.get("kind") not in KINDS:
            raise ValueError("no evaluation result")
    except (ValueError, RecursionError) as failed:
        raise Refused("result_unreadable", path=path, why=str(failed)[:200]) from None
    return value


KINDS: tuple[Kind, ...] = ("scores", "comparison", "replay", "abilities")
