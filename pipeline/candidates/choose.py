"""Which candidates of a row become its rejected answers, and why the others don't.

A good reject is an answer to the question, worse than the chosen answer, not right itself, no copy, and given away by
nothing but its content. Only what was measured is judged: choosing again with another policy takes no model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.candidates.candidate import Candidate, SourceRow
from pipeline.candidates.duplicates import is_gold_sql, normal_form, same_text, sql_fact
from pipeline.candidates.policy import Policy, judging_limits
from pipeline.candidates.text_measures import length_ratio, same_script, similarity, width
from pipeline.config_files import load_config
from pipeline.pair_measures.written_signs import refuses
from pipeline.pairs.pair import Side, text_of

Why = dict[str, Any]
Measures = Mapping[str, Any]


@dataclass(frozen=True)
class ChosenPair:
    """A pair made of a row. candidate: number of the rejected one. chosen_candidate: number of the one that became
    chosen, None where the chosen answer came with the rejected one or is the data's. rejected: None where a chosen
    answer stands alone; candidate is then its number."""

    row: int
    chosen: Side
    rejected: str | None
    candidate: int
    chosen_candidate: int | None = None


@dataclass(frozen=True)
class _Better:
    """The answer a candidate has to be worse than, and what is known of it. number: of the candidate it is, None for
    the one that candidates are measured against."""

    side: Side
    text: str
    measures: Measures
    number: int | None = None


def judge_topic(measures: Measures, of_data: Measures | None = None) -> tuple[bool | None, Why | None]:
    """Whether an answer is to its question, None where that can't be told, and the evidence for it.

    of_data: the same measures of the data's chosen answer, for answers that the model itself didn't write: a model to
    which the right answer is no likelier here than elsewhere can't tell what is on topic. (Its own answers are off
    topic where they are no likelier here: it wrote them without regard to the prompt.)

    The model's word counts before the words in the answer; where the two contradict each other nothing is told. Words
    say nothing against short answers, refusals, and answers to rows without a chosen one.
    """
    knows = of_data is None or of_data.get("topic_gain") is None or _by_model(of_data)[0] is True
    verdict, evidence = _by_model(measures) if knows else (None, None)
    if verdict is True and measures.get("answer_of_row") is not None:
        # likelier here than at rows drawn at random, as near rows' answers are; it is another question's all the same
        verdict, evidence = None, None
    if verdict is True:
        return verdict, evidence
    limits = judging_limits()
    against = evidence
    for name, low, high in (
        ("overlap_gain", "overlap_gain_off", "overlap_gain_on"),
        ("embedding_similarity", "embedding_off", "embedding_on"),
    ):
        value = _number(measures.get(name))
        if value is None:
            continue
        if value >= limits[high]:
            if evidence is not None:
                return None, None
            return True, _why(f"why_on_topic_{name}", value=value, least=limits[high])
        if value < limits[low] and against is None and (name != "overlap_gain" or _words_tell(measures)):
            against = _why(f"why_off_topic_{name}", value=value, least=limits[low])
    return (None if against is None else False), against


def _by_model(measures: Measures) -> tuple[bool | None, Why | None]:
    """By how much likelier the answer is under its own prompt: than under others on average, and than under the one
    that suits it best. Short answers gain more a token, as every token is about the question."""
    limits = judging_limits()
    gain, least = (_number(measures.get(name)) for name in ("topic_gain", "topic_gain_least"))
    if gain is None:
        return None, None
    short = _is_short(measures)
    off = limits["topic_gain_off_short" if short else "topic_gain_off"]
    if gain < off:
        return False, _why("why_off_topic_topic_gain", value=gain, least=off)
    if short and least is not None and least < -limits["topic_least_off"]:
        return False, _why("why_off_topic_topic_gain_least", value=-least)
    enough = limits["topic_gain_on_short" if short else "topic_gain_on"]
    if gain >= enough and (least is None or least >= (limits["topic_least_on"] if short else 0)):
        return True, _why("why_on_topic_topic_gain", value=gain, least=enough)
    return None, None


def _is_short(measures: Measures) -> bool:
    """Whether an answer has so few tokens that each of them is about the question."""
    whole, each = (_number(measures.get(name)) for name in ("logp", "logp_per_token"))
    return bool(whole and each) and whole / each <= judging_limits()["topic_short"]  # type: ignore[operator]


def mark_topics(candidates: Iterable[Candidate], chosen_measures: Measures | None = None) -> None:
    """Write `on_topic` into the measures of every candidate with an answer, from what was measured."""
    for candidate in candidates:
        if candidate.problem is None:
            candidate.measures["on_topic"] = _topic(candidate, chosen_measures or {})[0]


def _topic(candidate: Candidate, of_data: Measures) -> tuple[bool | None, Why | None]:
    if candidate.strategy in load_config("choice_policies.yaml")["off_topic_by_design"]:
        return False, _why("why_off_topic_by_design")
    return judge_topic(candidate.measures, of_data if "altered" in candidate.parameters else None)


def _words_tell(measures: Measures) -> bool:
    enough = (measures.get("overlap_units") or 0) >= judging_limits()["overlap_least_units"]
    return enough and not measures.get("refusal") and measures.get("similarity") is not None


def choose(
    row: SourceRow, candidates: Sequence[Candidate], policy: Policy, *, chosen_measures: Measures | None = None
) -> list[ChosenPair]:
    """The pairs that a policy makes of a row, none where no candidate will do. Writes `choice` and `why` into every
    candidate, whatever stood there, and `on_topic` into its measures.

    chosen_measures: `reward` and `logp_per_token` of the data's chosen answer, as the candidates have them.
    """
    ordered = sorted(candidates, key=lambda one: one.number)
    for candidate in ordered:
        candidate.choice, candidate.why = None, []
    mark_topics(ordered, chosen_measures)
    best = _best(ordered, policy, row) if policy.chosen_from == "best_candidate" else None
    usable: list[tuple[Candidate, _Better]] = []
    for candidate in ordered:
        if best is candidate:
            continue
        better = _better(row, candidate, policy, best, chosen_measures or {})
        candidate.why = _reasons(row, candidate, better, policy, chosen_measures or {})
        if not candidate.why and better is not None:
            usable.append((candidate, better))
    taken = _taken(row, usable, ordered, policy)
    for candidate, _ in taken:
        candidate.choice = "rejected"
        candidate.why = [_why(f"why_taken_{policy.prefer}", **_shown(candidate))]
    for candidate, _ in usable:
        if candidate.choice is None:
            candidate.why = [_why("why_other_taken", number=", ".join(str(one.number) for one, _ in taken))]
    if best is not None:
        if taken:
            best.choice = "chosen"
        best.why = [_why("why_best" if taken else "why_best_alone", reward=_number(best.measures.get("reward")))]
    return [
        ChosenPair(row.index, better.side, candidate.text, candidate.number, better.number)
        for candidate, better in taken
    ]  # fmt: skip


def commonest_reason(candidates: Iterable[Candidate]) -> str | None:
    """The entry of the first reason that most candidates of a row were left out for: why it has no pair. Its short
    form is the same entry with `short_` for `why_`. None for a row that has one, or no candidates."""
    found: Counter[str] = Counter()
    for candidate in candidates:
        if candidate.choice == "rejected":
            return None
        if candidate.why:
            found[candidate.why[0]["entry"]] += 1
    return max(found, key=lambda entry: found[entry]) if found else None


def _best(ordered: Sequence[Candidate], policy: Policy, row: SourceRow) -> Candidate | None:
    """The candidate of the highest reward that can stand as an answer."""
    fit = [
        one for one in ordered
        if one.problem is None and one.text.strip() and _number(one.measures.get("reward")) is not None
        and _is_right(one.measures) is not False and one.ended is not False and one.measures["on_topic"] is not False
        and not one.measures.get("loop") and not one.measures.get("template_text")
    ]  # fmt: skip
    return max(fit, key=lambda one: (one.measures["reward"], -one.number), default=None)


def _better(
    row: SourceRow, candidate: Candidate, policy: Policy, best: Candidate | None, of_data: Measures
) -> _Better | None:
    if policy.chosen_from == "best_candidate" and best is not None:
        return _Better(best.text, best.text, best.measures, best.number)
    if candidate.chosen is not None:
        return _Better(candidate.chosen, text_of(candidate.chosen), {})
    if policy.chosen_from != "correction" and row.pair.chosen is not None:
        return _Better(row.pair.chosen, text_of(row.pair.chosen), of_data)
    return None


def _reasons(
    row: SourceRow, candidate: Candidate, better: _Better | None, policy: Policy, of_data: Measures
) -> list[Why]:  # fmt: skip
    """Why a candidate can't be a reject, the gravest first; empty where it can."""
    if candidate.problem is not None:
        return [_why("why_no_answer", problem=candidate.problem)]
    if not candidate.text.strip():
        return [_why("why_empty")]
    if better is None:
        return [_why("why_no_correction" if policy.chosen_from == "correction" else "why_no_chosen")]
    if same_text(candidate.text, better.text):
        return [_why("why_same_as_chosen")]
    measures = candidate.measures
    found: list[Why] = []
    copied = measures.get("duplicate_of")
    if copied == "chosen" and better.number is None:
        found.append(_why("why_same_as_chosen"))
    elif isinstance(copied, int) and not (candidate.chosen is not None and policy.chosen_from == "correction"):
        found.append(_why("why_duplicate", number=copied))
    if is_gold_sql(measures):
        found.append(_why("why_same_sql"))
    elif measures.get("correct") is True:
        found.append(_why("why_right"))
    elif policy.may_be_right == "refuse" and (maybe := _may_be_right(candidate, better)) is not None:
        found.append(maybe)
    found += _unwanted(row, candidate, better, policy, of_data)
    found += _too_near_or_far(candidate, better, policy)
    found += _not_worse(candidate, better, policy)
    return found


def _may_be_right(candidate: Candidate, better: _Better) -> Why | None:
    """Why a model's short answer may be as right as the chosen one: many short questions have more right answers than
    the data gives (three fruits, another wording), and only a check of the answer itself could tell."""
    limits = judging_limits()
    made_worse = "altered" in candidate.parameters  # the right answer, changed on purpose
    if made_worse or better.number is not None or candidate.chosen is not None:
        return None
    if _is_right(candidate.measures) is not None or width(better.text) > limits["short_answer"]:
        return None
    inner, outer = sorted((normal_form(candidate.text), normal_form(better.text)), key=len)
    if inner in outer:
        return _why("why_may_be_right_words")
    own, theirs = (_number(m.get("logp")) for m in (candidate.measures, better.measures))
    if own is None or theirs is None or theirs - own >= limits["sure_margin"]:
        return None
    return _why("why_may_be_right", value=theirs - own, least=limits["sure_margin"])


def _unwanted(
    row: SourceRow, candidate: Candidate, better: _Better, policy: Policy, of_data: Measures
) -> list[Why]:  # fmt: skip
    """What gives an answer away, or makes it an answer to something else."""
    measures, found = candidate.measures, []
    on_topic, evidence = _topic(candidate, of_data)
    if policy.on_topic == "required":
        if on_topic is False and evidence is not None:
            found.append(evidence)
        elif on_topic is None and measures.get("answer_of_row") is not None:
            found.append(_why("why_answer_of_row", row=measures["answer_of_row"] + 1))
        elif on_topic is None and "altered" not in candidate.parameters and _is_short(measures):
            gain = _number(measures.get("topic_gain"))
            if gain is not None:  # measured, and not enough: what a model writes may be about anything
                found.append(_why("why_hardly_on_topic", value=gain, least=judging_limits()["topic_gain_on_short"]))
    alike = measures.get("same_script")
    if better.number is not None:
        alike = same_script(candidate.text, better.text, row.question)
    if policy.same_script == "required" and alike is False:
        found.append(_why("why_other_script", script=measures.get("script")))
    if policy.refusals == "refuse" and measures.get("refusal") and not refuses(better.text):
        found.append(_why("why_refusal"))
    if policy.template_text == "refuse" and measures.get("template_text"):
        found.append(_why("why_template", marker=measures["template_text"]))
    if policy.ended == "required" and candidate.ended is False:
        found.append(_why("why_cut_off"))
    if policy.sql_parses == "required" and sql_fact(measures, "parses") is False:
        found.append(_why("why_no_sql"))
    loop, rep = measures.get("loop"), _number(measures.get("rep_4"))
    much = rep is not None and policy.max_rep_4 is not None and rep > policy.max_rep_4
    if policy.repetition == "refuse":
        if loop:
            found.append(_why("why_loop", text=str(loop["text"])[:40], repeats=loop["repeats"]))
        elif much:
            found.append(_why("why_repeats", value=rep, most=policy.max_rep_4))
    elif policy.repetition == "required" and not loop and not much:
        found.append(_why("why_repeats_little", value=rep))
    return found


def _too_near_or_far(candidate: Candidate, better: _Better, policy: Policy) -> list[Why]:
    found = []
    alike, ratio = _compared(candidate, better)
    near, far = policy.max_similarity, policy.min_similarity
    if near is not None and alike > near and _is_right(candidate.measures) is not False:
        found.append(_why("why_too_similar", value=alike, most=near))
    if far is not None and alike < far:
        found.append(_why("why_too_different", value=alike, least=far))
    if ratio is not None and abs(width(candidate.text) - width(better.text)) >= judging_limits()["length_worth"]:
        if policy.min_length_ratio is not None and ratio < policy.min_length_ratio:
            found.append(_why("why_too_short", value=ratio, least=policy.min_length_ratio))
        if policy.max_length_ratio is not None and ratio > policy.max_length_ratio:
            found.append(_why("why_too_long", value=ratio, most=policy.max_length_ratio))
    return found


def _compared(candidate: Candidate, better: _Better) -> tuple[float, float | None]:
    """Similarity and ratio of lengths to the chosen answer, from the measures where they were made against it."""
    alike = _number(candidate.measures.get("similarity")) if better.number is None else None
    ratio = _number(candidate.measures.get("length_ratio")) if better.number is None else None
    return (
        similarity(candidate.text, better.text) if alike is None else alike,
        length_ratio(candidate.text, better.text) if ratio is None else ratio,
    )


def _not_worse(candidate: Candidate, better: _Better, policy: Policy) -> list[Why]:
    """Not worse than the chosen answer by the margin, where that was measured."""
    own, theirs = (_number(m.get("reward")) for m in (candidate.measures, better.measures))
    if policy.needs_reward and own is None:
        return [_why("why_no_reward")]
    if policy.min_margin is None:
        return []
    by = policy.margin_by
    if by == "auto":
        by = "similarity" if own is None or theirs is None else "reward"
    if by == "logp":
        own, theirs = (_number(m.get("logp_per_token")) for m in (candidate.measures, better.measures))
    elif by == "similarity":
        own, theirs = _compared(candidate, better)[0], 1.0
    if own is None or theirs is None:
        return []
    margin = theirs - own
    if margin > 0 and margin >= policy.min_margin:
        return []
    return [_why(f"why_not_worse_{by}", value=margin, least=policy.min_margin)]


def _taken(
    row: SourceRow, usable: Sequence[tuple[Candidate, _Better]], every: Sequence[Candidate], policy: Policy
) -> list[tuple[Candidate, _Better]]:
    """The usable candidates in the policy's order, as many as a row yields."""
    ranked = _ranked([candidate for candidate, _ in usable], policy)
    if policy.varied_strategies or policy.prefer == "varied":
        strategies = list(dict.fromkeys(candidate.strategy for candidate in every))
        turn = {name: (i - row.index) % len(strategies) for i, name in enumerate(strategies)}
        round_of: Counter[str] = Counter()
        places = {}
        for candidate in ranked:
            places[candidate.number] = (round_of[candidate.strategy], turn[candidate.strategy])
            round_of[candidate.strategy] += 1
        ranked.sort(key=lambda one: (_left_behind(one, policy), places[one.number]))
    pairs = {candidate.number: (candidate, better) for candidate, better in usable}
    return [pairs[candidate.number] for candidate in ranked[: policy.per_row]]


def _left_behind(candidate: Candidate, policy: Policy) -> tuple[int, ...]:
    """What a policy prefers and a candidate lacks; lower is better. Not known stands between."""
    rank = {True: 0, None: 1, False: 2}
    measures = candidate.measures
    facts = {
        "on_topic": measures.get("on_topic"), "same_script": measures.get("same_script"), "ended": candidate.ended,
        "sql_parses": sql_fact(measures, "parses"),
    }  # fmt: skip
    wanted = {name: getattr(policy, name) for name in facts}
    # of what is required only what is known to be otherwise is left out; what is known to be so goes before the rest
    return tuple(
        rank[fact] for name, fact in facts.items()
        if wanted[name] == "preferred" or (name == "on_topic" and wanted[name] == "required")
    )  # fmt: skip


def _ranked(usable: list[Candidate], policy: Policy) -> list[Candidate]:
    """All in the order in which they are taken. Equal ones in the order they were made."""
    if policy.prefer in ("worst", "best"):
        sign = 1 if policy.prefer == "worst" else -1
        inner = sorted(usable, key=lambda one: (sign * (_number(one.measures.get("reward")) or 0.0), one.number))
    elif policy.prefer in ("hard", "easy", "middle"):
        name = "logp_per_token"
        if any(_number(one.measures.get(name)) is None for one in usable):
            name = "similarity"
        sign = 1 if policy.prefer == "easy" else -1
        inner = sorted(usable, key=lambda one: (sign * (_number(one.measures.get(name)) or 0.0), one.number))
        if policy.prefer == "middle":
            centre = (len(inner) - 1) // 2
            inner = [inner[i] for i in sorted(range(len(inner)), key=lambda i: (abs(i - centre), i))]
    else:
        inner = list(usable)
    return sorted(inner, key=lambda one: _left_behind(one, policy))


def _shown(candidate: Candidate) -> dict[str, Any]:
    return {name: _number(candidate.measures.get(name)) for name in ("logp_per_token", "similarity", "reward")}


def _is_right(measures: Measures) -> bool | None:
    """What a reward function or the database says."""
    if is_gold_sql(measures) or measures.get("correct") is True:
        return True
    return False if measures.get("correct") is False or sql_fact(measures, "same_result") is False else None



def _number(value: Any) -> float | None:
    """A finite number, rounded as it is shown; NaN and what is no number are not known."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -1e300 < value < 1e300:
        return None
    return float(f"{value:.4g}")


def _why(entry: str, **params: Any) -> Why:
    """params as they stand in the sentence: numbers with at most three digits that count."""
    shown = {name: float(f"{value:.3g}") if isinstance(value, float) else value for name, value in params.items()}
    return {"entry": entry, "params": shown}
