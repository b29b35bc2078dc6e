"""What is measured of the candidates of a row as SQL."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.candidates.candidate import Candidate
from pipeline.refusal import Sentence
from pipeline.sql.normal_form import examined
from pipeline.sql.parse_sql import sql_in
from pipeline.sql.same_result import EQUAL, SqlComparer, Verdict, shared_comparer, why_refused


@dataclass(frozen=True)
class SqlMeasure:
    """What is known of one candidate. sql: taken out of the answer, None where there is none. canonical: 32 hex digits
    of its normal form; equal digits, equal queries. executes, same_result: None when not run or not decidable.
    refused: it is no query or wants more than reading. error: why it doesn't run; problem: why it doesn't parse."""

    sql: str | None
    parses: bool
    problem: Sentence | None
    read_only: bool
    canonical: str | None
    equal_text: bool
    equal_canonical: bool
    executes: bool | None
    same_result: bool | None
    both_empty: bool
    in_doubt: bool
    refused: bool
    error: Sentence | None
    verdict: Verdict

    def facts(self) -> dict[str, Any]:
        """What is kept beside a candidate: plain values by name."""
        error = self.error or self.problem
        return {
            "parses": self.parses, "canonical": self.canonical, "equal_text": self.equal_text,
            "equal_canonical": self.equal_canonical, "runs": self.executes, "same_result": self.same_result,
            "both_empty": self.both_empty, "in_doubt": self.in_doubt, "refused": self.refused, "verdict": self.verdict,
            "error": None if error is None else {"entry": error.entry, **error.params},
        }  # fmt: skip

    @property
    def is_no_reject(self) -> bool:
        """Whether it is as good as the gold answer: equal by text, by normal form or by result."""
        return self.equal_text or self.equal_canonical or self.same_result is True


def measure_sql(
    gold: str, candidates: Sequence[str | Candidate], database: str | Path | None, dialect: str = "sqlite",
    comparer: SqlComparer | None = None,
) -> list[SqlMeasure]:  # fmt: skip
    """One measure for each candidate answer of a row; a Candidate gets the facts as `sql` of its measures too. Answers
    may have fences and prose around their SQL. database: a SQLite file; None, and nothing is run. A candidate that
    has no answer is none in SQL. Raises Refused for an unknown dialect, and for nothing else."""
    comparer = comparer or shared_comparer()
    right = sql_in(gold) or gold
    known: dict[str, SqlMeasure] = {}
    found = []
    for candidate in candidates:
        text = candidate if isinstance(candidate, str) else candidate.text
        if text not in known:
            known[text] = _measure(right, text, database, dialect, comparer)
        if isinstance(candidate, Candidate) and candidate.problem is None:
            candidate.measures["sql"] = known[text].facts()
        found.append(known[text])
    return found


def _measure(gold: str, text: str, database: str | Path | None, dialect: str, comparer: SqlComparer) -> SqlMeasure:
    sql = sql_in(text)
    if sql is None:
        problem = Sentence("sql_none", {}, "candidates")
        runs = None if database is None else False
        return SqlMeasure(
            None, False, problem, False, None, False, False, runs, None, False, False, False, problem, "candidate_fails"
        )
    parsed = examined(sql, dialect, comparer.schema(database) if database is not None else None)
    found = comparer.compare(gold, sql, database, dialect)
    verdict = found.verdict
    executes: bool | None = None
    error = found.reason if verdict in ("candidate_fails", "candidate_refused") else None
    same: bool | None = {"same_result": True, "different_result": False}.get(verdict)
    if verdict in ("same_result", "different_result"):
        executes = True
    elif verdict in ("candidate_fails", "candidate_refused"):
        executes = False if database is not None else None
    elif database is not None and (verdict != "not_run" or (found.reason and found.reason.entry == "sql_by_chance")):
        executes, error = comparer.runs(gold if verdict in EQUAL else sql, database, dialect)
        same = True if verdict in EQUAL and executes else None
    refused = (
        verdict == "candidate_refused"
        or why_refused(parsed) is not None
        or (error is not None and error.entry in ("sql_run_forbidden", "sql_run_not_a_query"))
    )
    return SqlMeasure(
        sql, parsed.parses, parsed.problem, parsed.read_only,
        hashlib.blake2b(parsed.form.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest(),
        verdict == "same_text", verdict in ("same_text", "same_canonical"), executes, same, found.both_empty,
        found.in_doubt, refused, error, verdict,
    )  # fmt: skip
