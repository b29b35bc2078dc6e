"""A folder that keeps one bad case together: pairs, cases, settings, training runs and replays.

    bundle.yaml  name, note, model, recipe, changed fields of it, decoding, check, and the runs by id
    pairs.json   instruction, input, chosen, rejected     cases.json  text, standard_answer, check, category
    replays/     replay-DATE-XXXX.xlsx with its .replay.json   runs/       output of trainings started from here

Bundles lie below `data_folder()/bundles`, or anywhere: a bundle is named by its folder's name there or by a path.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.data_folder import data_folder
from pipeline.evaluation.replay_cases import CHECKS, ReplayCases, read_cases
from pipeline.refusal import Refused
from pipeline.whole_file import written_whole

if TYPE_CHECKING:
    from pipeline.training.job_folder import Job, Status
    from pipeline.training.start_job import Started

FILE, PAIRS, CASES = "bundle.yaml", "pairs.json", "cases.json"
RUNS, REPLAYS = "runs", "replays"
RECIPE = "dpo_repetition_badcase"
LOCK = "bundles.lock"  # in data_folder()
MOST_BYTES = 1 << 20  # of bundle.yaml
NAME = re.compile(r"[^\W_][\w.-]{0,79}")
_DECODING = ("greedy", "num_beams", "temperature", "top_p", "top_k", "max_new_tokens", "repetition_penalty",
             "no_repeat_ngram_size", "length_penalty")  # fmt: skip


@dataclass(frozen=True)
class BundleRun:
    """A training run that was started from a bundle. job: its id, or the folder of one added by hand. output: where its
    adapter or model is. state: of job_folder, `gone` where neither job nor output is there any more."""

    job: str
    output: str
    state: str = ""
    step: int = 0


@dataclass(frozen=True)
class BundleSettings:
    """bundle.yaml. model: what is trained and replayed as the base. changes: fields of the recipe. decoding: options of
    replay by name. runs: jobs by id, the oldest first; outputs: theirs, by id. created: as results write it."""

    name: str
    note: str = ""
    model: str = ""
    recipe: str = RECIPE
    changes: Mapping[str, Any] = field(default_factory=dict)
    decoding: Mapping[str, Any] = field(default_factory=dict)
    check: str = "auto"
    runs: tuple[str, ...] = ()
    outputs: Mapping[str, str] = field(default_factory=dict)
    created: str = ""


@dataclass(frozen=True)
class Bundle:
    """One bundle as it lies in `folder`."""

    folder: Path
    settings: BundleSettings

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def pairs(self) -> Path:
        return self.folder / PAIRS

    @property
    def cases(self) -> Path:
        return self.folder / CASES

    @property
    def replays(self) -> list[Path]:
        """Results of replays as JSON, the newest first."""
        return sorted((self.folder / REPLAYS).glob("*.replay.json"), key=_begun, reverse=True)

    @property
    def runs(self) -> list[BundleRun]:
        """Its trainings as they stand now, the oldest first."""
        return [self._run(job) for job in self.settings.runs]

    @property
    def changed(self) -> float:
        """When anything in it was written last, in seconds since 1970."""
        files = (self.folder / FILE, self.pairs, self.cases, *self.replays)
        return max((path.stat().st_mtime for path in files if path.exists()), default=0.0)

    def _run(self, named: str) -> BundleRun:
        from pipeline.training.job_folder import find_job, read_status

        output = self._here(self.settings.outputs.get(named, ""))
        try:
            job = find_job(named)
        except Refused:
            state = "done" if output and _is_model(Path(output)) else "gone"
            return BundleRun(named, output, state)
        status: Status = read_status(job)
        return BundleRun(job.id, self._here(str(job.output)), status.state, status.step)

    def _here(self, output: str) -> str:
        """Where an output is now: one that was in this folder's `runs` when the folder had another place or name."""
        with suppress(OSError, ValueError):
            made = Path(output)
            if output and made.parent.name == RUNS and not made.exists():
                own = self.folder / RUNS / made.name
                return str(own) if own.exists() else output
        return output

    def trained(self) -> list[str]:
        """What its runs have made and can be replayed: those done, and those stopped with something saved."""
        from pipeline.training.checkpoints import last_whole

        found = []
        for run in self.runs:
            output = Path(run.output)
            if run.state == "done" and _is_model(output):
                found.append(run.output)
            elif run.state in ("stopped", "failed", "interrupted") and (whole := last_whole(output)) is not None:
                found.append(str(whole))
        return found


def _begun(replay: Path) -> tuple[str, int]:
    """The second in its name; of several begun in one, the place in time of the file."""
    with suppress(OSError):
        return replay.name[:_DATED], replay.stat().st_mtime_ns
    return replay.name[:_DATED], 0


_DATED = len("replay-20260102-030405")


def bundles_root() -> Path:
    return data_folder() / "bundles"


def list_bundles(root: Path | None = None) -> list[Bundle]:
    """Those below `root`, the newest first; what can't be read is left out."""
    found = []
    with suppress(OSError):
        for folder in sorted((root or bundles_root()).iterdir()):
            if (folder / FILE).is_file():
                with suppress(Refused):
                    found.append(open_bundle(str(folder)))
    return sorted(found, key=lambda one: one.settings.created, reverse=True)


def _is_free(folder: Path) -> bool:
    """Whether a bundle may be made there: it is no folder yet, an empty one, or one that a broken-off start left."""
    if not folder.exists():
        return True
    held = {path.name for path in folder.iterdir() if path.suffix != ".part"}
    return not held or (folder.parent == bundles_root() and held <= {PAIRS, CASES, RUNS, REPLAYS})


def folder_of(named: str) -> Path:
    """A name is a folder below `bundles_root()`; anything with a separator is a path. Raises Refused."""
    if "/" in named or "\\" in named or named in (".", "..", "~"):
        return Path(named).expanduser()
    if not NAME.fullmatch(named):
        raise Refused("bundle_name_wrong", name=named)
    return bundles_root() / named


def open_bundle(named: str) -> Bundle:
    """Raises Refused for what is none."""
    folder = folder_of(named)
    path = folder / FILE
    try:
        with open(path, "rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        known = ", ".join(one.name for one in list_bundles()[:8]) or "-"
        raise Refused("bundle_not_found", name=named, path=folder, names=known) from None
    except (OSError, ValueError) as failed:
        raise Refused("bundle_unreadable", path=path, why=getattr(failed, "strerror", None) or failed) from None
    return Bundle(folder.absolute(), _settings(raw, folder.absolute().name, path))


def create_bundle(
    named: str, *, pairs: Path | None = None, cases: Path | None = None, model: str = "", recipe: str = RECIPE,
    changes: Mapping[str, Any] | None = None, decoding: Mapping[str, Any] | None = None, check: str = "auto",
    note: str = "",
) -> Bundle:  # fmt: skip
    """A new folder with copies of the pairs and cases; without cases, the pairs are the cases (their chosen answers the
    standard ones). Raises Refused where one is there already, where neither is given, or where one can't be read."""
    from pipeline.evaluation.results import now
    from pipeline.training.recipe import read_recipe

    folder = folder_of(named)
    if (folder / FILE).exists():
        raise Refused("bundle_there", name=named, path=folder)
    if pairs is None and cases is None:
        raise Refused("bundle_empty")
    changed = dict(changes or {})
    read_recipe(recipe).changed(changed)
    unknown = [name for name in decoding or {} if name not in _DECODING]
    if unknown or check not in ("auto", *CHECKS):
        raise Refused("bundle_setting_wrong", value=unknown[0] if unknown else check)
    asked = read_cases(cases) if cases is not None else None
    held = _own_path(recipe) if recipe.endswith((".yaml", ".yml")) else recipe
    settings = BundleSettings(
        folder.absolute().name, note, _own_path(model), held, changed, dict(decoding or {}), check, created=now()
    )
    with _alone():
        if (folder / FILE).exists():  # made meanwhile
            raise Refused("bundle_there", name=named, path=folder)
        return _filled(Bundle(folder.absolute(), settings), pairs, asked)


def _filled(made: Bundle, pairs: Path | None, asked: ReplayCases | None) -> Bundle:
    """Its folder with the files in it; of one that can't be made nothing is left. Raises Refused."""
    folder = made.folder
    try:
        if not _is_free(folder):  # its files would be mixed with those of the bundle, and gone with it
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
        there = folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        try:
            if pairs is not None:
                _write_pairs(pairs, folder / PAIRS)
            asked = asked or read_cases(folder / PAIRS, option="--pairs")
            write_cases(asked, folder / CASES)
            for name in (RUNS, REPLAYS):
                (folder / name).mkdir(exist_ok=True)
            save_bundle(made)
        except BaseException:
            if not there:
                shutil.rmtree(folder, ignore_errors=True)
            raise
    except OSError as failed:
        raise Refused("bundle_not_written", path=folder, why=failed.strerror or failed) from None
    return made


def save_bundle(bundle: Bundle) -> None:
    """Write bundle.yaml. Raises OSError."""
    import yaml

    value = {name: cell for name, cell in asdict(bundle.settings).items() if cell not in ("", (), {}, [])}
    value = json.loads(json.dumps(value, default=str))  # plain lists; a date that was written by hand stays its text
    with written_whole(bundle.folder / FILE, mode=0o666) as path:
        path.write_text(yaml.safe_dump(value, allow_unicode=True, sort_keys=False), encoding="utf-8")


def changed_bundle(bundle: Bundle, **settings: Any) -> Bundle:
    """The bundle as it stands in its folder now, with other settings, written. Raises Refused."""
    with _alone():
        return _changed(open_bundle(str(bundle.folder)), **settings)


def _changed(bundle: Bundle, **settings: Any) -> Bundle:
    made = replace(bundle, settings=replace(bundle.settings, **settings))
    try:
        save_bundle(made)
    except OSError as failed:
        raise Refused("bundle_not_written", path=bundle.folder, why=failed.strerror or failed) from None
    return made


def remove_bundle(bundle: Bundle) -> None:
    """Delete what belongs to it with the trainings that lie in it, and the folder unless something else is there too.
    Raises Refused while one of them runs."""
    from pipeline.training.job_folder import LIVE

    for run in bundle.runs:
        if run.state in LIVE:
            raise Refused("job_is_live", job=run.job)
    try:
        for name in (RUNS, REPLAYS):
            if (place := bundle.folder / name).is_symlink():
                place.unlink()
            elif place.exists():
                shutil.rmtree(place)
        for name in (PAIRS, CASES, FILE):
            (bundle.folder / name).unlink(missing_ok=True)
        with suppress(OSError):
            bundle.folder.rmdir()
    except OSError as failed:
        raise Refused("bundle_not_written", path=bundle.folder, why=failed.strerror or failed) from None


# --- training and replays ---


def bundle_recipe(bundle: Bundle, changes: Mapping[str, Any] | None = None) -> Any:
    """The recipe as it would run: its model, its pairs as data, an output of its own. Raises Refused."""
    from pipeline.training.recipe import read_recipe

    if not bundle.pairs.is_file():
        raise Refused("bundle_without_pairs", name=bundle.name)
    own: dict[str, Any] = {"data": str(bundle.pairs), "output_dir": str(_new_run(bundle))}
    if bundle.settings.model:
        own["model_name_or_path"] = bundle.settings.model
    return read_recipe(bundle.settings.recipe).changed({**own, **bundle.settings.changes, **(changes or {})})


def train_bundle(
    bundle: Bundle, *, changes: Mapping[str, Any] | None = None, accelerate: str | None = None, insist: bool = False,
    note: Callable[[str], None] = lambda text: None, cancel: threading.Event | None = None, lang: str = "en",
) -> tuple[Bundle, Started]:  # fmt: skip
    """Start its recipe on its pairs; the run goes on by itself and is remembered. Raises Refused, and as start_job."""
    from pipeline.training.start_job import start_job

    recipe = bundle_recipe(bundle, changes)
    started = start_job(recipe, accelerate=accelerate, insist=insist, note=note, cancel=cancel, lang=lang)
    if started.refused:
        return bundle, started
    return _remember(bundle, started.job), started


def add_run(bundle: Bundle, named: str) -> Bundle:
    """Remember a job that was started elsewhere. Raises Refused."""
    from pipeline.training.job_folder import find_job

    return _remember(bundle, find_job(named))


def _remember(bundle: Bundle, job: Job) -> Bundle:
    """With one more run, as the bundle stands in its folder now: another program may have changed it meanwhile."""
    with _alone():
        now = open_bundle(str(bundle.folder))
        if job.id in now.settings.runs:
            return now
        outputs = {**now.settings.outputs, job.id: str(job.output)}
        return _changed(now, runs=(*now.settings.runs, job.id), outputs=outputs)


@contextmanager
def _alone() -> Iterator[None]:
    """One writer of bundles at a time, in any program of this user; the next one waits. One lock for all
    of them, so that none is left in a bundle that is moved or passed on."""
    from filelock import FileLock

    lock = FileLock(data_folder() / LOCK)
    with suppress(OSError, NotImplementedError):  # a data folder to read only, a file system without locks
        data_folder().mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def next_replay(bundle: Bundle, at: float | None = None) -> Path:
    """Where its next replay goes: replays/replay-DATE-XXXX.xlsx. at: seconds since 1970, by default now. Raises
    Refused."""
    folder = bundle.folder / REPLAYS
    try:
        folder.mkdir(exist_ok=True)
    except OSError as failed:
        raise Refused("bundle_not_written", path=folder, why=failed.strerror or failed) from None
    return folder / f"replay-{_moment(at)}.xlsx"


def _moment(at: float | None = None) -> str:
    """A name that of two beginnings in one second each has its own."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.localtime(at))}-{secrets.token_hex(2)}"


def go_on_with(bundle: Bundle, output: Path) -> None:
    """Give the answers of its last replay that broke off to the one that is to be written at `output`. Raises
    Refused."""
    from pipeline.evaluation.replay_answers import ANSWERS, left_by_another

    try:
        with _alone():  # of two that begin at once one gets them
            found = sorted((bundle.folder / REPLAYS).glob(f"*{ANSWERS}"), key=_begun, reverse=True)
            last = next((path for path in found if left_by_another(path)), None)
            if last is not None:
                last.replace(output.with_name(output.stem + ANSWERS))
    except OSError as failed:
        raise Refused("bundle_not_written", path=bundle.folder, why=failed.strerror or failed) from None


def keep_replay(bundle: Bundle, result: Path) -> Path:
    """A copy of the result of a replay among the bundle's, with the workbook and the rows that lie beside it; one that
    is there already stays as it is. Returns the place. Raises Refused."""
    from pipeline.evaluation.results import read_result_file

    try:
        document = read_result_file(result)
        if document["kind"] != "replay":
            raise Refused("result_unreadable", path=result, why=document["kind"])
        document["bundle"] = bundle.name
        with _alone():
            return _kept(bundle, result, document)
    except OSError as failed:
        raise Refused("bundle_not_written", path=bundle.folder, why=failed.strerror or failed) from None


def _kept(bundle: Bundle, result: Path, document: dict[str, Any]) -> Path:
    from pipeline.evaluation.results import read_result_file

    same = ("created", "models", "summary", "bundle")
    for there in bundle.replays:
        with suppress(Refused, OSError):
            held = read_result_file(there)
            if all(held.get(name) == document.get(name) for name in same):
                return there
    book = next_replay(bundle, _seconds(document.get("created")))
    place = book.with_name(f"{book.stem}.replay.json")
    rows = document.get("rows_file")
    if isinstance(rows, str) and rows and Path(rows).name == rows and (result.parent / rows).is_file():
        document["rows_file"] = f"{book.stem}.rows.jsonl"
        shutil.copyfile(result.parent / rows, place.with_name(document["rows_file"]))
    workbook = result.with_name(result.name.removesuffix(".json").removesuffix(".replay") + ".xlsx")
    if workbook.is_file():
        shutil.copyfile(workbook, book)
    text = json.dumps(document, ensure_ascii=False, indent=1)
    with written_whole(place, mode=0o666) as temporary:
        temporary.write_bytes(text.encode("utf-8", errors="replace"))
    return place


def _seconds(created: Any) -> float | None:
    try:
        return datetime.fromisoformat(created).timestamp()
    except (TypeError, ValueError):
        return None


def _new_run(bundle: Bundle) -> Path:
    return bundle.folder / RUNS / _moment()


# --- files ---


def rows_in(path: Path) -> int:
    """Rows of a file of a bundle, 0 where it isn't there or can't be read."""
    from pipeline.record_files import Unreadable, records

    try:
        return sum(record.value is not None for record in records(path)) if path.is_file() else 0
    except (OSError, Unreadable):
        return 0


def _write_pairs(source: Path, path: Path) -> None:
    """The pairs of any preference file as instruction, input, chosen, rejected. Raises Refused."""
    from pipeline.pairs.open_source import open_source, rows_of
    from pipeline.pairs.write_pairs import write_pairs

    opened = open_source(str(source), option="--pairs", program="python -m pipeline bundle create").open()
    report = write_pairs((pair for pair in rows_of(opened) if pair.paired), path, "llamafactory-alpaca")
    if not report.rows:
        path.unlink(missing_ok=True)
        raise Refused("bundle_no_pairs", path=source)


def write_cases(cases: ReplayCases, path: Path) -> None:
    """Cases as `read_cases` reads them again. Raises OSError."""
    rows = []
    for case in cases.cases:
        talk = [*([{"role": "system", "content": case.row.pair.system}] if case.row.pair.system else []),
                *case.row.pair.prompt]  # fmt: skip
        answer: Any = list(case.answers) if len(case.answers) > 1 else case.standard_answer
        row = {"text": case.text if len(talk) == 1 else talk, "standard_answer": answer, "check": case.check,
               "pattern": case.pattern, "category": case.category}  # fmt: skip
        extra = {n: v for n, v in case.row.pair.extra.items() if n not in row and isinstance(v, (str, int, float))}
        rows.append({name: value for name, value in {**row, **extra}.items() if value not in ("", None)})
    with written_whole(path, mode=0o666) as temporary:
        temporary.write_text(json.dumps(rows, ensure_ascii=False, indent=1), encoding="utf-8", errors="replace")


def _settings(raw: bytes, name: str, path: Path) -> BundleSettings:
    import yaml

    try:
        if len(raw) > MOST_BYTES:
            raise ValueError(f"> {MOST_BYTES >> 20} MiB")
        value = yaml.safe_load(raw.decode("utf-8-sig"))
        if not isinstance(value, Mapping):
            raise ValueError("no fields")
    except (ValueError, yaml.YAMLError, RecursionError) as failed:
        raise Refused("bundle_unreadable", path=path, why=" ".join(str(failed).split())[:200]) from None
    blank = BundleSettings(name)
    given: dict[str, Any] = {}
    for one in fields(BundleSettings):
        cell, usual = value.get(one.name), getattr(blank, one.name)
        if isinstance(usual, str) and isinstance(cell, (str, int, float)):
            given[one.name] = str(cell)
        elif isinstance(usual, tuple) and isinstance(cell, list):
            given[one.name] = tuple(str(item) for item in cell)
        elif isinstance(usual, dict) and isinstance(cell, Mapping):
            given[one.name] = {str(key): item for key, item in cell.items()}
    given["outputs"] = {key: item for key, item in given.get("outputs", {}).items() if isinstance(item, str)}
    made = replace(blank, **{**given, "name": name})
    check = made.check if made.check in ("auto", *CHECKS) else "auto"
    return replace(made, check=check, decoding={k: v for k, v in made.decoding.items() if k in _DECODING})


def _own_path(model: str) -> str:
    """A path stays right wherever it is used from; a name of the Hub or of the demo stays a name."""
    path = Path(model).expanduser()
    with suppress(OSError, ValueError):
        if model and path.exists():
            return str(path.absolute())
    return model


def _is_model(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("adapter_config.json", "config.json"))
