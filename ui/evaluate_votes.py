"""People judge a comparison in the tab without knowing whose answer is whose: the card, one vote, what came of it.

The votes lie in `votes.jsonl` in the run's folder (pipeline/evaluation/blind_votes.py), so they are there again after a
reload and from another browser. What the votes say is shown from a configured number on, so that nobody is led by it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diagnostics.diagnose_evaluation import diagnose_evaluation
from pipeline.config_files import load_config
from pipeline.evaluation.results import Contest, to_json
from pipeline.refusal import Refused
from pipeline.whole_file import written_whole
from ui.evaluate_cases import cases_of
from ui.evaluate_contests import deciding, disagreeing, names_of, rank
from ui.evaluate_panel import Asked, Shown
from ui.evaluate_plots import Bar, interval_bars
from ui.interface_words import words
from ui.safe_html import tag, text, with_specials
from ui.visitor_case import BadCase

if TYPE_CHECKING:
    from pipeline.evaluation.blind_votes import BlindCase, BlindVotes

BY, FILE = "people", "votes.jsonl"
KEYS = {"left": "←", "tie": "↓", "right": "→", "skip": "S"}
VOTER = re.compile(r"[A-Za-z0-9_-]{0,40}")
LONG = 20_000  # characters of one answer that are shown


def shown_after() -> int:
    """Votes from which on the running result is shown."""
    return int(load_config("evaluation.yaml")["votes"]["shown_after"])


def votes_of(one: Shown, after: str, voter: str = "") -> BlindVotes:
    """Raises BadCase where only the report is left, Refused for rows that nothing can be voted on."""
    if one.folder is None or one.rows is None:
        raise BadCase("votes_no_rows")
    before, _ = names_of(one.result)
    there = one.rows.stat()
    return _opened(one.rows, there.st_mtime_ns, there.st_size, one.folder, before, after, voter)


@lru_cache(maxsize=8)
def _opened(rows: Path, changed: int, size: int, folder: Path, before: str, after: str, voter: str) -> BlindVotes:
    """changed, size: of the rows. A set of votes reads what others vote by itself."""
    from pipeline.evaluation.blind_votes import open_votes

    return open_votes(rows, folder, voter=voter, before=before, after=after)


def voter_of(asked: Asked) -> str:
    """A name that the browser drew for itself; empty for none."""
    fields = asked.get("fields")
    named = fields.get("voter") if isinstance(fields, Mapping) else None
    return named if isinstance(named, str) and VOTER.fullmatch(named) else ""


# --- the card ----------------------------------------------------------------------------------------------------


def card(one: Shown, after: str, lang: str) -> str:
    """The invitation, with what has been voted so far; empty where nothing can be voted on."""
    said = words(lang)
    try:
        votes = votes_of(one, after)
        there = votes.counts()
    except (BadCase, Refused, OSError):
        return ""
    if not there.cases:
        return ""
    cast = votes.judged()
    line = said["votes_none_yet"] if not cast else said["votes_so_far"]
    facts = str(line).format(n=f"{cast:,}", of=f"{there.cases:,}", voters=there.voters)
    begin = tag("button", "dd-do dd-primary", text(said["votes_go_on" if cast else "votes_begin"]), type="button",
                data_ask="votes", data_value="open")  # fmt: skip
    top = tag("div", "dd-run-line", tag("div", "", tag("h3", "dd-h", text(said["votes_title"])),
                                        tag("p", "dd-dim", text(said["votes_info"]))), begin)  # fmt: skip
    return tag("section", "dd-card dd-votes", top, tag("p", "dd-facts", text(facts)), standing(one, votes, lang))


def arena(one: Shown, votes: BlindVotes, lang: str, told: str = "") -> str:
    """One case to be judged, or the end. told: about the vote before."""
    said = words(lang)
    case, there = votes.next(), votes.counts()
    done = there.voted + there.skipped
    share = round(100 * done / there.cases) if there.cases else 100
    progress = tag("div", "dd-track", tag("div", "dd-fill", style=f"width:{max(1, share)}%"), role="progressbar",
                   aria_valuenow=share, aria_valuemin=0, aria_valuemax=100)  # fmt: skip
    close = tag("button", "dd-small", text(said["votes_close"]), type="button", data_ask="votes", data_value="close",
                data_vote_key="close")  # fmt: skip
    line = str(said["votes_progress"]).format(n=f"{done:,}", of=f"{there.cases:,}")
    head = tag("div", "dd-run-line", tag("h3", "dd-h", text(said["votes_title"])),
               tag("div", "dd-move", tag("span", "dd-dim dd-num", text(line)), close))  # fmt: skip
    hidden = tag("input", "", type="hidden", name="vote_case", value=case.id if case is not None else "")
    if case is None:
        body = tag("div", "dd-none", tag("p", "", text(said["votes_all_done"])))
    else:
        body = _case(case, said)
    undo = tag("button", "dd-small", text(said["votes_undo"]), _key("U"), type="button", data_ask="vote",
               data_value="undo", data_vote_key="undo", disabled=not done)  # fmt: skip
    last = tag("div", "dd-vote-last", undo, tag("span", "dd-vote-told", told, role="status"))
    return tag("section", "dd-card dd-votes dd-votes-open", head, progress, hidden, body, last,
               standing(one, votes, lang))  # fmt: skip


def _case(case: BlindCase, said: Mapping[str, Any]) -> str:
    prompt = tag("div", "dd-answer dd-vote-prompt", with_specials(case.prompt[:LONG]), tabindex=0)
    sides = []
    for name, answer in (("left", case.left), ("right", case.right)):
        shown = with_specials(answer[:LONG]) if answer.strip() else tag("span", "dd-dim", text(said["empty_answer"]))
        sides.append(tag("div", "dd-case-side", tag("header", "", tag("b", "", text(said[f"votes_name_{name}"]))),
                         tag("div", "dd-case-text", shown, tabindex=0)))  # fmt: skip
    buttons = [tag("button", f"dd-do dd-vote-{name}", text(said[f"votes_{name}"]), _key(sign), type="button",
                   data_ask="vote", data_value=name, data_vote_key=name) for name, sign in KEYS.items()]  # fmt: skip
    reference = ""
    if case.reference:
        reference = tag("details", "dd-more-facts", tag("summary", "", text(said["compare_reference"])),
                        tag("p", "", with_specials(case.reference[:2000])))  # fmt: skip
    return prompt + tag("div", "dd-case-sides", *sides) + reference + tag("div", "dd-vote-do", *buttons)


def _key(sign: str) -> str:
    return tag("kbd", "", text(sign), aria_hidden="true")


def told(vote: str, case: str, said: Mapping[str, Any], names: Mapping[str, str] | None = None) -> str:
    """What was voted last, and whose answers those were: at once by a click or the key R."""
    line = tag("span", "", text(str(said["votes_last"]).format(vote=said[f"votes_{vote}"])))
    if names is not None:
        shown = str(said["votes_revealed"]).format(left=names.get("left", ""), right=names.get("right", ""))
        return line + tag("b", "", text(shown))
    return line + tag("button", "dd-small", text(said["votes_reveal"]), _key("R"), type="button", data_ask="vote",
                      data_value=f"reveal {case}", data_vote_key="reveal")  # fmt: skip


# --- what came of it ---------------------------------------------------------------------------------------------


def contest(one: Shown, votes: BlindVotes) -> Contest:
    """All that people said of the after model."""
    from pipeline.evaluation.intervals import contest_of_outcomes

    found = votes.outcomes()
    cases = cases_of(one)
    kinds = cases.categories_by_row(str(votes.after or "")) if any(cases.categories) else None
    rows = sorted(found)
    of = [kinds.get(row, "") for row in rows] if kinds is not None else None
    return contest_of_outcomes([found[row] for row in rows], before_name=str(votes.before or ""),
                               after_name=str(votes.after or ""), by=BY, categories=of)  # fmt: skip


def standing(one: Shown, votes: BlindVotes, lang: str) -> str:
    """The win rate that the votes give, once there are enough; how many are missing before."""
    said = words(lang)
    cast, least = votes.judged(), shown_after()
    if not cast:
        return ""
    if cast < least:
        return tag("p", "dd-dim dd-vote-standing", text(str(said["votes_hidden"]).format(n=least - cast, least=least)))
    made, there = contest(one, votes), votes.counts()
    if made.win_rate is None:
        return ""
    rate = made.win_rate
    line = str(said[f"compare_{made.verdict}"]).format(before=made.before, after=made.after)
    tone = {"better": "good", "worse": "bad"}.get(made.verdict, "even")
    counted = str(said["votes_counted"]).format(wins=made.wins, ties=made.ties, losses=made.losses)
    bars = interval_bars([Bar(made.after, rate.value, rate.low, rate.high, counted, tone)], lang)
    facts = []
    if made.needed is not None:
        facts.append(str(said["votes_needed"]).format(n=f"{made.needed:,}"))
    if there.repeats:
        facts.append(str(said["votes_repeats"]).format(same=there.same, n=there.repeats))
    if there.shared:
        facts.append(str(said["votes_agreed"]).format(agreed=there.agreed, n=there.shared))
    count = ""
    if _counted(one, made) != made.n:
        count = tag("button", "dd-small", text(said["votes_count"]), type="button", data_ask="votes",
                    data_value="count", title=said["votes_count_info"])  # fmt: skip
    head = tag("div", "dd-run-line", tag("b", "", text(line)), count)
    return tag("div", "dd-vote-standing", head, bars, tag("p", "dd-dim", text(" ".join(facts))) if facts else "")


def _counted(one: Shown, made: Contest) -> int | None:
    """Votes that the result holds."""
    for held in one.result.get("contests") or ():
        if isinstance(held, Mapping) and held.get("by") == BY and held.get("after") == made.after:
            n = held.get("n")
            return n if isinstance(n, int) else None
    return None


def put_into_result(one: Shown, votes: BlindVotes, result: str, printed: str) -> None:
    """The votes as a contest of the result and its report, in the run's files. result, printed: their names. Raises
    BadCase, OSError."""
    if one.folder is None:
        raise BadCase("votes_no_rows")
    made = to_json(contest(one, votes))
    kept = [c for c in one.result.get("contests") or () if not (c.get("by") == BY and c.get("after") == made["after"])]
    whole: dict[str, Any] = {**one.result, "contests": [*kept, made]}
    first = names_of(whole)[1][0]
    whole["contests"] = [c for after in names_of(whole)[1] for c in sorted(
        (c for c in whole["contests"] if c.get("after") == after), key=rank)]  # fmt: skip
    decided = deciding(whole, first)
    whole |= {"verdict": decided.get("verdict") if decided is not None else None,
              "decided_by": decided.get("by") if decided is not None else None,
              "disagreeing": disagreeing(whole, first)}  # fmt: skip
    with written_whole(one.folder / result) as temporary:
        temporary.write_text(json.dumps(whole, ensure_ascii=False, indent=1), encoding="utf-8", errors="replace")
    report = diagnose_evaluation(one.folder / result)
    with written_whole(one.folder / printed) as temporary:
        temporary.write_text(json.dumps({**whole, "report": report.to_json()}, ensure_ascii=False), encoding="utf-8",
                             errors="replace")  # fmt: skip
