"""Policies, and what they make of measured candidates."""

from __future__ import annotations

import json
import random

import pytest
import yaml

from pipeline.candidates.candidate import Candidate, SourceRow
from pipeline.candidates.choose import choose, commonest_reason, mark_topics
from pipeline.candidates.duplicates import mark_duplicates
from pipeline.candidates.policy import FIELDS, describe, parse_policy, policy_from, policy_names
from pipeline.candidates.text_measures import measure_texts
from pipeline.config_files import CONFIGS, load_config
from pipeline.pairs.pair import Pair
from pipeline.refusal import Refused, Sentence

GOLD = "Air scatters the short blue waves of sunlight far more than the long red ones."
WRONG = (
    "The sky mirrors the blue water of the oceans below it.",
    "Blue gas floats in the upper layers and colours the light.",
    "Sunlight loses its red part when it passes through clouds.",
    "Cold air turns blue when the sun shines on it from above.",
)


def _row(index: int = 0, gold: str | None = GOLD) -> SourceRow:
    return SourceRow(index, Pair([{"role": "user", "content": "Why is the sky blue?"}], gold, None))


def _made(row: SourceRow, *given: str | tuple[str, dict], mode: str = "normalized") -> list[Candidate]:
    """Candidates measured as a run does it; with each text the measures that only a model gives."""
    made = []
    for number, one in enumerate(given):
        text, extra = (one, {}) if isinstance(one, str) else one
        made.append(Candidate(row.index, number, extra.pop("strategy", "sampling"), text, ended=extra.pop("ended", True),
                              chosen=extra.pop("chosen", None), problem=extra.pop("problem", None)))  # fmt: skip
        made[-1].measures |= extra
    measure_texts(row, made, [])
    mark_duplicates(made, row.gold, mode)  # type: ignore[arg-type]
    return made


def _entries(candidate: Candidate) -> list[str]:
    return [one["entry"] for one in candidate.why]


def _rejected(made: list[Candidate]) -> list[int]:
    return [one.number for one in made if one.choice == "rejected"]


# --- policies ---


def test_every_policy_is_complete_and_said_in_both_languages() -> None:
    assert policy_names() == ["on_topic", "hard", "easy", "varied", "worst_of_n", "best_of_n", "against_repetition", "correction", "all"]
    for name in policy_names():
        policy = parse_policy(name)
        assert set(policy.as_json()) == {"name", *FIELDS}
        english, chinese = describe(policy, "en"), describe(policy, "zh")
        assert len(english.splitlines()) == len(chinese.splitlines()) >= 4
        assert "{" not in english + chinese and "None" not in english + chinese
    assert parse_policy(None) == parse_policy(" ") == parse_policy("on_topic")
    assert "0.95" in describe(parse_policy("on_topic"), "en") and "0.95" in describe(parse_policy("on_topic"), "zh")


def test_changes_are_typed() -> None:
    policy = parse_policy("hard: max_similarity=0.7, per_row=2 ,varied_strategies=no,on_topic=Ignored,max_rep_4=none")
    assert (policy.max_similarity, policy.per_row, policy.varied_strategies) == (0.7, 2, False)
    assert (policy.on_topic, policy.max_rep_4, policy.prefer) == ("ignored", None, "hard")
    assert parse_policy("on_topic:per_row=all").per_row is None
    assert "0.7" in describe(policy, "en")


@pytest.mark.parametrize(
    "given, said",
    [
        ("on_topics", "nearest: on_topic"), ("hard:max_similarty=1", "nearest: max_similarity"), ("hard:max_similarity", "key=value"),
        ("hard:max_similarity=1.5", "from 0 to 1"), ("hard:max_similarity=nan", "from 0 to 1"), ("hard:min_margin=inf", "a number"),
        ("hard:min_margin=x", "a number"), ("hard:per_row=0", "1 to 1000"), ("hard:per_row=1.5", "1 to 1000"), ("hard:per_row=9999999999999", "1 to 1000"),
        ("hard:on_topic=yes", "required, preferred, ignored"), ("hard:varied_strategies=2", "true, false"), ("hard:correct=allow", "never"),
        ("hard:sql=allow", "no_same_result"), ("hard:max_length_ratio=-1", "from 0 on"), ("hard:per_row=1,per_row=2", "twice"),
        ("hard:min_similarity=0.9", "nothing between"), ("hard:name=x", "no field"), ("nothing.yaml", "no such file"), ("hard:", "key=value"),
    ],
)  # fmt: skip
def test_mistakes_are_named(given: str, said: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_policy(given)
    assert said in str(refused.value) and "\n" not in str(refused.value)
    assert refused.value.said("zh") != str(refused.value)


def test_a_policy_of_the_users_own(tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("base: hard\nmax_similarity: 0.5\nper_row: all\nended: required\n", encoding="utf-8")
    policy = parse_policy(str(path))
    assert (policy.name, policy.max_similarity, policy.per_row, policy.ended, policy.prefer) == ("mine", 0.5, None, "required", "hard")
    written = tmp_path / "again.yaml"
    written.write_text(yaml.safe_dump(policy.as_json()), encoding="utf-8")
    assert parse_policy(str(written)) == policy
    assert policy_from({"per_row": 3}, name="form").per_row == 3


@pytest.mark.parametrize(
    "content",
    [b"", b"- 1\n", b"per_rows: 1\n", b"per_row: [1]\n", b"on_topic: {a: 1}\n", b"\xff\xfe\x00", b"a: b: c\n", b"[" * 5000, b"#" * 200_000,
     b"base: nothing\n", b"max_similarity: true\n", b"!!python/object/apply:os.system ['true']\n"],
)  # fmt: skip
def test_broken_policy_files_are_one_line(tmp_path, content: bytes) -> None:
    path = tmp_path / "p.yaml"
    path.write_bytes(content)
    with pytest.raises(Refused) as refused:
        parse_policy(str(path))
    assert "\n" not in str(refused.value)


def test_all_reasons_have_words_and_a_short_form() -> None:
    words = load_config("words/en/candidates.yaml")
    source = (CONFIGS.parent / "pipeline" / "candidates" / "choose.py").read_text(encoding="utf-8")
    kinds = {
        "{name}": ("topic_gain", "overlap_gain", "embedding_similarity"), "{by}": ("reward", "logp", "similarity"),
        "{policy.prefer}": ("hard", "easy", "middle", "varied", "worst", "best", "first"),
    }  # fmt: skip
    named = set()
    for part in source.split('"why_')[1:]:
        entry = part.split('"')[0]
        place = next((kind for kind in kinds if kind in entry), "")
        named |= {entry.replace(place, kind) for kind in kinds[place]} if place else {entry}
    assert len(named) > 30 and not any("{" in name for name in named)
    for name in named:
        assert f"why_{name}" in words, name
        assert name.startswith(("taken_", "on_topic_")) or f"short_{name}" in words, name
    for value in load_config("choice_policies.yaml")["judging"].values():
        assert float(value["value"]) >= 0 and value["means"] and value["source"]


# --- choosing ---


def test_good_rejects_are_taken_and_every_other_one_says_why() -> None:
    row = _row()
    made = _made(
        row, WRONG[0], GOLD.upper() + " ", WRONG[0], ("", {}), ("x", {"problem": "prompt_too_long"}), "I'm sorry, I can't help with that.",
        (WRONG[1], {"topic_gain": 0.001}), "因为海洋把蓝色反射到空中", "Blue. " * 30, f"{WRONG[2]}<|im_end|>\n<|im_start|>user", GOLD.replace("far", "much"),
        (WRONG[3], {"correct": True}), "Blue", " ".join(WRONG) * 3,
    )  # fmt: skip
    pairs = choose(row, made, parse_policy("on_topic:max_similarity=0.9"))
    assert [(pair.chosen, pair.rejected, pair.candidate, pair.chosen_candidate) for pair in pairs] == [(GOLD, WRONG[0], 0, None)]
    expected = [
        "taken_middle", "same_as_chosen", "duplicate", "empty", "no_answer", "refusal", "off_topic_topic_gain", "other_script", "loop",
        "template", "too_similar", "right", "too_short", "too_long",
    ]  # fmt: skip
    for candidate, reason in zip(made, expected, strict=True):
        assert f"why_{reason}" in _entries(candidate), (candidate.number, _entries(candidate))
    for candidate in made:
        for one in candidate.why:
            for lang in ("en", "zh"):
                said = Sentence(one["entry"], one["params"], words="candidates").said(lang)
                assert said and "None" not in said
    json.dumps([one.why for one in made])
    assert "0.001" in Sentence(made[6].why[0]["entry"], made[6].why[0]["params"], "candidates").said("en")


def test_choosing_again_forgets_the_first_choice_and_depends_on_no_order() -> None:
    row = _row()
    made = _made(row, *((text, {"logp_per_token": -float(i)}) for i, text in enumerate(WRONG)))
    first = choose(row, made, parse_policy("hard"))
    assert [pair.candidate for pair in first] == [0]
    shuffled = made[:]
    random.Random(3).shuffle(shuffled)
    assert choose(row, shuffled, parse_policy("easy"))[0].candidate == 3
    assert _rejected(made) == [3] and _entries(made[0]) == ["why_other_taken"]
    assert choose(row, made, parse_policy("hard")) == first


def test_orders() -> None:
    row = _row()
    made = _made(row, *((text, {"logp_per_token": lp, "reward": rw}) for text, lp, rw in zip(WRONG, (-3, -1, -2, -9), (0.3, 0.1, 0.4, 0.2), strict=True)))  # fmt: skip

    def taken(policy: str) -> list[int]:
        return [pair.candidate for pair in choose(row, made, parse_policy(policy), chosen_measures={"reward": 1.0})]

    change = ":varied_strategies=false,per_row=all,min_margin=0"
    assert taken("hard" + change) == [1, 2, 0, 3] and taken("easy" + change) == [3, 0, 2, 1]
    assert taken("on_topic" + change) == [2, 1, 0, 3]  # from the middle outwards
    assert taken("worst_of_n:per_row=2") == [1, 3]
    assert taken("on_topic:prefer=best,varied_strategies=false") == [2]
    assert taken("on_topic:prefer=first,varied_strategies=false,per_row=3") == [0, 1, 2]


def test_hard_without_a_model_is_nearest_to_the_chosen_answer() -> None:
    row = _row()
    near = GOLD.replace("short blue", "long green").replace("far more", "much less").replace("long red", "short dark")
    made = _made(row, WRONG[0], near)
    assert choose(row, made, parse_policy("hard"))[0].candidate == 1


def test_strategies_take_turns_whatever_rows_a_process_has() -> None:
    taken = {}
    for index in (*range(6), 0, 5):
        row = _row(index)
        made = _made(row, *((text, {"strategy": name}) for text, name in zip(WRONG, ("greedy", "sampling", "sampling", "beam"), strict=True)))  # fmt: skip
        (pair,) = choose(row, made, parse_policy("on_topic"))
        assert taken.setdefault(index, made[pair.candidate].strategy) == made[pair.candidate].strategy
    assert [taken[i] for i in range(6)] == ["greedy", "sampling", "beam"] * 2
    both = choose(_row(), _made(_row(), *((text, {"strategy": "ab"[i // 2]}) for i, text in enumerate(WRONG))), parse_policy("varied"))
    assert [pair.candidate for pair in both] == [0, 2]


def test_what_is_preferred_comes_first_and_what_is_required_stays_where_it_is_not_known() -> None:
    row = _row()
    made = _made(row, (WRONG[0], {"ended": False}), (WRONG[1], {"ended": None}), (WRONG[2], {"ended": True}))
    options = "prefer=first,varied_strategies=no,per_row=all"
    assert [pair.candidate for pair in choose(row, made, parse_policy(f"on_topic:{options}"))] == [2, 1, 0]
    assert [pair.candidate for pair in choose(row, made, parse_policy(f"on_topic:ended=required,{options}"))] == [1, 2]
    assert [pair.candidate for pair in choose(row, made, parse_policy(f"on_topic:ended=ignored,{options}"))] == [0, 1, 2]
    unknown = _made(row, WRONG[0])
    assert unknown[0].measures["overlap_gain"] is None
    assert len(choose(row, unknown, parse_policy("on_topic"))) == 1 and unknown[0].measures["on_topic"] is None


def test_a_reject_scores_below_the_chosen_answer() -> None:
    row = _row()
    made = _made(row, (WRONG[0], {"reward": 2.0}), (WRONG[1], {"reward": 1.0}), (WRONG[2], {"reward": 0.6}), (WRONG[3], {"reward": float("nan")}))  # fmt: skip
    choose(row, made, parse_policy("on_topic:per_row=all"), chosen_measures={"reward": 1.0})
    assert _rejected(made) == [2, 3]  # one without a reward isn't known to be better
    assert _entries(made[0]) == _entries(made[1]) == ["why_not_worse_reward"] and made[0].why[0]["params"]["value"] == -1.0
    choose(row, made, parse_policy("hard:per_row=all"), chosen_measures={"reward": 1.0})
    assert _rejected(made) == [3]
    choose(row, made, parse_policy("worst_of_n"), chosen_measures={"reward": 1.0})
    assert _rejected(made) == [2] and _entries(made[3]) == ["why_no_reward"]
    logps = _made(row, (WRONG[0], {"logp_per_token": -2.0}), (WRONG[1], {"logp_per_token": -0.5}))
    choose(row, logps, parse_policy("on_topic:margin_by=logp,min_margin=0.5,per_row=all"), chosen_measures={"logp_per_token": -1.0})
    assert _rejected(logps) == [0]
    choose(row, logps, parse_policy("on_topic:margin_by=auto,min_margin=0.999"))
    assert _entries(logps[0]) == ["why_not_worse_similarity"]


def test_known_wrong_answers_may_be_similar_and_right_ones_are_never_rejected() -> None:
    row = _row(gold="SELECT count(*) FROM singer WHERE age > 20 AND country = 'France' AND song_name LIKE 'a' OR year < 1999 AND sex = 1 AND tall = 2")
    close = row.gold.replace("20", "21")
    facts = ({}, {"sql": {"same_result": False}}, {"sql": {"same_result": True}}, {"correct": False}, {"correct": True})
    outcomes = []
    for fact in facts:
        made = _made(row, (close, dict(fact)))
        outcomes.append((len(choose(row, made, parse_policy("on_topic"))), _entries(made[0])[0]))
    assert outcomes == [(0, "why_too_similar"), (1, "why_taken_middle"), (0, "why_same_sql"), (1, "why_taken_middle"), (0, "why_right")]
    for name in policy_names():
        if name not in ("correction", "against_repetition", "best_of_n"):
            made = _made(row, (close, {"correct": True, "reward": 0.1}), (close + " ", {"sql": {"equal_canonical": True}}))
            assert choose(row, made, parse_policy(name)) == []


def test_best_of_n_chooses_the_best_and_rejects_the_worst() -> None:
    row = _row(gold=None)
    rewards = (0.1, 0.9, 0.5, 0.95)
    made = _made(row, *((text, {"reward": reward}) for text, reward in zip(WRONG, rewards, strict=True)))
    made[3].ended = False  # cut off: no answer to train on
    (pair,) = choose(row, made, parse_policy("best_of_n"))
    assert (pair.chosen, pair.rejected, pair.candidate, pair.chosen_candidate) == (WRONG[1], WRONG[0], 0, 1)
    assert [one.choice for one in made] == ["rejected", "chosen", None, None]
    alike = _made(row, *((text, {"reward": 1.0, "correct": True}) for text in WRONG))
    assert choose(row, alike, parse_policy("best_of_n")) == [] and commonest_reason(alike) == "why_right"
    assert all(one.choice is None for one in alike)
    wrong = _made(row, *((text, {"reward": 0.0, "correct": False}) for text in WRONG))
    assert choose(row, wrong, parse_policy("best_of_n")) == [] and commonest_reason(wrong) == "why_no_chosen"
    with_gold = _made(_row(), *((text, {"reward": 0.0, "correct": False}) for text in WRONG))
    (pair,) = choose(_row(), with_gold, parse_policy("best_of_n"), chosen_measures={"reward": 1.0})
    assert pair.chosen == GOLD and pair.chosen_candidate is None


def test_against_repetition_rejects_loops_and_nothing_else() -> None:
    row = _row()
    made = _made(row, WRONG[0], ("The sky is blue. " * 40, {"ended": False}), (WRONG[1], {}))
    (pair,) = choose(row, made, parse_policy("against_repetition"))
    assert (pair.candidate, pair.chosen) == (1, GOLD) and _entries(made[0]) == ["why_repeats_little"]
    assert choose(row, made[:1], parse_policy("against_repetition")) == []


def test_corrections_are_chosen_over_the_models_own_answers() -> None:
    row = _row(gold=None)
    made = _made(row, ("我是 Llama", {"chosen": "我是 Athene"}), "我是 Llama，很高兴见到你", ("我是 Athene", {"chosen": "我是 Athene。"}))
    (pair,) = choose(row, made, parse_policy("correction"))
    assert (pair.chosen, pair.rejected) == ("我是 Athene", "我是 Llama")
    assert _entries(made[1]) == ["why_no_correction"] and _entries(made[2]) == ["why_same_as_chosen"]
    made = _made(_row(), (WRONG[0], {"chosen": "Blue light scatters most."}))
    assert choose(_row(), made, parse_policy("on_topic"))[0].chosen == "Blue light scatters most."


def test_all_keeps_what_is_usable() -> None:
    row = _row()
    made = _made(row, WRONG[0], WRONG[0], GOLD, "", "I'm sorry, I can't help with that.", "蓝色", "Blue. " * 50, GOLD + " Yes")
    assert [pair.candidate for pair in choose(row, made, parse_policy("all"))] == [0, 4, 5, 6, 7]


def test_rows_without_a_reject_say_the_commonest_reason() -> None:
    row = _row()
    made = _made(row, GOLD, GOLD + ".", "")
    assert choose(row, made, parse_policy(None)) == [] and commonest_reason(made) == "why_same_as_chosen"
    assert commonest_reason([]) is None and choose(row, [], parse_policy("varied")) == []
    made = _made(row, WRONG[0])
    choose(row, made, parse_policy(None))
    assert commonest_reason(made) is None
    assert choose(_row(gold=None), made, parse_policy(None)) == [] and commonest_reason(made) == "why_no_chosen"


def test_a_refusal_may_be_rejected_for_a_better_refusal() -> None:
    row = _row(gold="I'm sorry, but I can't share home addresses. The office of the senator has a public one.")
    made = _made(row, "I can't help with that.")
    assert len(choose(row, made, parse_policy("on_topic:min_length_ratio=none"))) == 1


def test_turns_of_a_dialogue_stay_turns() -> None:
    turns = [{"role": "assistant", "content": GOLD}]
    row = SourceRow(0, Pair([{"role": "user", "content": "Why is the sky blue?"}], turns, None))
    made = _made(row, WRONG[0])
    assert choose(row, made, parse_policy(None))[0].chosen is turns


def test_hostile_measures_raise_nothing() -> None:
    row = _row()
    for value in (None, float("nan"), float("inf"), "x", True, 10**400, [], {}):
        made = _made(row, WRONG[0], WRONG[1])
        for one in made:
            one.measures |= {"reward": value, "logp_per_token": value, "topic_gain": value, "overlap_gain": value, "rep_4": value, "embedding_similarity": value, "sql": value, "correct": value if value is not True else None}  # fmt: skip
        for name in policy_names():
            choose(row, made, parse_policy(name), chosen_measures={"reward": value})
        mark_topics(made)
        json.dumps([one.why for one in made], allow_nan=False)
