"""A recipe from file to report before anything is trained: fields, rows, model and machine, judged together."""

from __future__ import annotations

import hashlib
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diagnostics.check_table import CHECKPOINT_CHECKS, PAIR_CHECKS, RECIPE_CHECKS, SUPERVISED_CHECKS
from diagnostics.judge import judge
from diagnostics.recipe_subject import RecipeSubject, with_rows_of
from diagnostics.report import SEVERITIES, Observation, Report, Severity, Subject
from diagnostics.run_checks import DEPTHS, Check, CheckFunction, Event
from diagnostics.thresholds import Thresholds, load_thresholds
from pipeline.refusal import Refused

if TYPE_CHECKING:
    from pipeline.training.recipe import Recipe

# Checks of a checkpoint whose errors spoil training. The others are of what is generated with it: for them training
# goes on, so they are warnings here at most.
OF_MODEL = (
    "CKP001", "CKP002", "CKP003", "CKP004", "CKP005", "CKP006", "CKP007", "CKP008", "CKP009", "CKP010", "CKP011",
    "CKP012", "ADP004", "ADP006", "TOK001", "TOK002", "TOK006", "TOK007", "TOK012", "TPL001", "WGT001", "WGT002",
    "WGT003", "WGT005", "FWD001", "FWD008", "FWD004", "FWD002", "FWD003",
)  # fmt: skip
OF_GENERATION = ("TOK003", "TOK004", "TOK005", "TOK009", "TPL002", "TPL004", "TPL005")
OF_ROWS = (
    "PRF002", "PRF003", "PRF007", "PRF008", "PRF009", "PRF010", "PRF018", "PRF019", "PRF020", "PRF021",
    "SFT002", "SFT005", "SFT006", "SFT007", "SFT011", "SFT012",
)  # fmt: skip
READINESS = "RUN029"  # looks at the findings of all others
_CUT_BY_LENGTH = ("PRF019",)  # a reward model's trainer leaves out whole rows instead: RUN027


@dataclass(frozen=True)
class CheckOfPart(Check):
    """A check of another subject on a part of this one. at_most: its findings are no worse than this here."""

    part: str = ""
    at_most: Severity = "error"

    @property
    def function(self) -> CheckFunction:
        inner = Check.function.fget(self)  # type: ignore[attr-defined]

        def of_part(subject: RecipeSubject, limits: Thresholds) -> Iterator[Observation]:
            for seen in inner(subject.part(self.part), limits):
                worst = SEVERITIES.index(self.at_most)
                yield seen if SEVERITIES.index(seen.severity) <= worst else replace(seen, severity=self.at_most)

        return of_part


def checks_of(recipe: Recipe | None, depth: str) -> tuple[Check, ...]:
    """Those of RECIPE_CHECKS and, cheapest first, those of rows and model that matter for this recipe."""
    if recipe is None:
        return RECIPE_CHECKS[:1]
    table = SUPERVISED_CHECKS if recipe.method == "sft" else PAIR_CHECKS
    rows = [c for c in table if c.code in OF_ROWS and not (recipe.method == "reward" and c.code in _CUT_BY_LENGTH)]
    model = [c for c in CHECKPOINT_CHECKS if c.code in OF_MODEL or c.code in OF_GENERATION]
    if recipe.get("resize_vocab", False):  # the embedding gets the rows that are missing
        model = [c for c in model if c.code not in ("TOK002", "ADP004")]
    made: list[Check] = list(RECIPE_CHECKS)
    made += [CheckOfPart(c.code, c.name, c.module, "files", "pairs") for c in rows]
    made += [
        CheckOfPart(c.code, c.name, c.module, c.depth, "model", "warning" if c.code in OF_GENERATION else "error")
        for c in model if DEPTHS.index(c.depth) <= DEPTHS.index(depth)
    ]  # fmt: skip
    last = [replace(c, depth=depth) for c in made if c.code == READINESS]
    made = [c for c in made if c.code != READINESS]
    return (*sorted(made, key=lambda c: DEPTHS.index(c.depth)), *last)


def diagnose_recipe(
    named: str, *, changes: Sequence[str] = (), rows: str | None = None, accelerate: str | None = None,
    depth: str = "files", device: str = "cpu", thresholds: Sequence[str] = (), lang: str = "en",
    cancel: threading.Event | None = None, on_event: Callable[[Event], None] | None = None,
    on_note: Callable[[str], None] = lambda text: None,
) -> Report:  # fmt: skip
    """Diagnose one recipe: a name of configs/recipes or a file.

    changes: `KEY=VALUE`. rows: a folder with data/train.jsonl as pipeline.training.training_data writes it; without it
    the first rows of the recipe's own data are read. accelerate: a name of configs/accelerate or a file. depth: files,
    weights or forward, of the model. Raises `Refused` for a recipe or rows that lead nowhere, changes it can't take and
    an unknown threshold, and `Interrupted` on Ctrl-C.
    """
    limits = load_thresholds(thresholds)
    folder = Path(rows) if rows is not None else None
    if folder is not None and not folder.is_dir():
        raise Refused("rows_folder_not_found", path=rows)
    subject = RecipeSubject(named, limits, rows_folder=folder, device=device, cancel=cancel, note=on_note)

    def noted(event: Event) -> None:
        if event.finding is not None:
            subject.findings.append(event.finding)
        if on_event is not None:
            on_event(event)

    with ExitStack() as beside:
        beside.callback(subject.close)
        _open(subject, named, changes, accelerate)
        if subject.recipe is not None and folder is None:
            _first_rows(subject, beside.enter_context(tempfile.TemporaryDirectory(prefix="dpo-doctor-recipe-")))
        if subject.recipe is not None and subject.rows_folder is not None:
            _start_probe(subject)
        checks = checks_of(subject.recipe, depth)
        return judge(
            subject, checks, limits, depth=depth, lang=lang, cancel=cancel, on_event=noted,
            usable=subject.recipe is not None,
            about=lambda: Subject("recipe", subject.name, None, _fingerprint(subject)),
        )  # fmt: skip


def _open(subject: RecipeSubject, named: str, changes: Sequence[str], accelerate: str | None) -> None:
    """The recipe and how it is spread. What stands in a file that is there is a finding; all else is refused."""
    from pipeline.training.accelerate_files import suited
    from pipeline.training.recipe import RECIPES, parse_changes, read_recipe, recipe_names
    from pipeline.training.start_job import settle

    set_here = parse_changes(changes)
    place = RECIPES / f"{named}.yaml" if named in recipe_names() else Path(named)
    try:
        asked = read_recipe(named)
    except Refused as refused:
        try:
            there = place.exists()
        except (OSError, ValueError):
            there = False
        if not there:
            raise
        subject.problem = refused
        return
    asked = asked.changed(set_here)
    subject.name = asked.name
    try:
        subject.recipe = settle(asked, subject.note).recipe
    except Refused as refused:  # no model is named, or one that isn't there
        subject.recipe, subject.problem = asked.settled, refused
    recipe = subject.recipe
    try:
        subject.spread = suited(
            accelerate or recipe.get("accelerate"),
            processes=recipe.get("num_processes"),
            cpu=recipe.get("use_cpu", False),
        )
    except Refused as refused:
        subject.spread_problem = refused
    if accelerate is not None and Path(accelerate).is_file() and Path(accelerate).name == "accelerate.yaml":
        subject.at = Path(accelerate).absolute().parent


def _first_rows(subject: RecipeSubject, folder: str) -> None:
    from pipeline.training.start_job import settle, write_rows_of

    recipe = subject.recipe
    if recipe is None or recipe.get("data") is None or subject.problem is not None:
        if recipe is not None and recipe.get("data") is None:
            subject.rows_problem = Refused("data_needed", field="data")
        return
    try:
        settled = settle(with_rows_of(recipe, int(subject.limits["recipe_rows_looked_at"])), subject.note)
        write_rows_of(settled, Path(folder), subject.note)
    except Refused as refused:
        subject.rows_problem = refused
        return
    subject.rows_folder, subject.rows_whole = Path(folder), False


def _start_probe(subject: RecipeSubject) -> None:
    """The tokenizer loads in its own process while fields are looked at."""
    from diagnostics.run_checks import NotMeasured

    try:
        if subject.checkpoint.problem is None:
            subject.model.start_probe()
    except NotMeasured:
        return


def _fingerprint(subject: RecipeSubject) -> str:
    """Of the recipe as it is run, and of how it is spread."""
    parts: list[Any] = [subject.name] if subject.recipe is None else [replace(subject.recipe, name="").as_yaml()]
    parts.append(subject.spread.as_yaml() if subject.spread is not None else "")
    return f"sha256:{hashlib.sha256(repr(parts).encode('utf-8', errors='replace')).hexdigest()}"
