"""A training run on Hugging Face Jobs: started, looked at, cancelled, found again.

What the job reads lies in one commit of a private data set of the user's (recipe, rows, accelerate file, and this
package itself, so that encoder-decoders train there as they do here); what it makes goes to a private model repository
of theirs. The token travels as a secret of the job and in nothing else. Every job carries a label, by which it is found
where the answer to its start was lost: a job that nobody knows of would go on costing money.
"""

from __future__ import annotations

import io
import json
import math
import re
import secrets
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config_files import CONFIGS
from pipeline.hub_files import HOSTILE_NAME
from pipeline.json_file import parse_json
from pipeline.refusal import Refused, Sentence
from pipeline.training.accelerate_files import AccelerateFile, read_accelerate, suited
from pipeline.training.hub_calls import (
    Unsure,
    api,
    asked,
    hidden,
    holds_secret,
    once,
    secret_fields,
    settings,
    usable_token,
)
from pipeline.training.hub_prices import Hardware, billed
from pipeline.training.job_folder import ACCELERATE, OUTPUT, RECIPE, TRAIN_ROWS
from pipeline.training.recipe import Recipe, parse_recipe
from pipeline.whole_file import written_whole

if TYPE_CHECKING:
    from huggingface_hub import HfApi, JobInfo

HUB_RUN = "hub.json"  # in the job's folder
LABEL = "dpo-doctor"
LABEL_SECONDS = "dpo-doctor-seconds"  # the time limit, which the Hub tells nobody
PROJECT = "project.zip"
DATA_REPO = "dpo-doctor-runs"
ENDED = {"COMPLETED": "completed", "ERROR": "failed", "CANCELED": "canceled", "DELETED": "deleted"}
_TIMED_OUT = re.compile(r"time(d)?[ -]?out|time limit", re.IGNORECASE)
_PATHS = (
    "model_name_or_path", "adapter_name_or_path", "tokenizer_name_or_path", "ref_model_name_or_path",
    "reward_model_name_or_path", "reward_database", "resume_from_checkpoint",
)  # fmt: skip
_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_MAX_BYTES = 100_000  # of hub.json
# What the job does before this package is there: fetch the one commit, unpack, hand over.
_BOOT = (
    "import sys, tempfile, zipfile; from huggingface_hub import snapshot_download; from pathlib import Path; "
    "repo, commit, run = sys.argv[1:4]; "
    "place = Path(snapshot_download(repo, repo_type='dataset', revision=commit, allow_patterns=[run + '/*'], "
    "local_dir=tempfile.mkdtemp())) / run; "
    f"zipfile.ZipFile(place / '{PROJECT}').extractall(place / 'project'); "
    "sys.path.insert(0, str(place / 'project')); from pipeline.training.hub_side import main; "
    "sys.exit(main([str(place), *sys.argv[4:]]))"
)


@dataclass(frozen=True)
class HubRun:
    """What is kept of a run, nothing of it secret. id: also the value of its label and its folder in `data_repo`;
    job_id: "" while it isn't known whether it started; created: seconds since 1970; endpoint: None is the usual one."""

    id: str
    job_id: str
    namespace: str
    hardware: str
    timeout_seconds: int
    data_repo: str
    data_commit: str
    output_repo: str
    created: float
    url: str = ""
    usd_per_hour: float | None = None
    endpoint: str | None = None


@dataclass(frozen=True)
class HubStatus:
    """stage: as the Hub calls it; end: "" while it goes on, else completed, failed, canceled, deleted, timeout.
    created, started, finished: seconds since 1970, 0 where not yet. seconds: billed so far; usd: None without a price.
    """

    stage: str
    message: str = ""
    end: str = ""
    created: float = 0.0
    started: float = 0.0
    finished: float = 0.0
    seconds: float = 0.0
    usd: float | None = None

    @property
    def line(self) -> Sentence:
        """One sentence, in either language."""
        entry = self.end or {"RUNNING": "running", "SCHEDULING": "scheduling"}.get(self.stage, "other")
        cost = "?" if self.usd is None else f"{self.usd:.2f}"
        minutes = math.ceil(self.seconds / 60)
        given = {"stage": self.stage, "message": self.message or "-", "minutes": minutes, "cost": cost}
        return Sentence(f"hub_jobs/{entry}", given, "training")


@dataclass(frozen=True)
class Account:
    """name: of the user; namespaces: it and the organisations the token can name."""

    name: str
    namespaces: tuple[str, ...]


def account(token: str | None, endpoint: str | None = None) -> Account:
    """Whose token it is. Raises Refused: none, not accepted, or one that may only read."""
    token = usable_token(token)
    client = api(token, endpoint)
    told = asked(client.whoami, token)
    try:
        name = str(told["name"])
        held = (told.get("auth") or {}).get("accessToken") or {}
        organisations = tuple(str(one["name"]) for one in told.get("orgs") or ())
    except (AttributeError, KeyError, TypeError):
        raise Refused("hub_jobs_no_answer", hub=client.endpoint, reason=Sentence("reason_no_hub")) from None
    if not _may_run(held):
        raise Refused("hub_jobs_forbidden", hub=client.endpoint, detail="job.write")
    return Account(name, (name, *organisations))


def _may_run(held: Any) -> bool:
    """What the token's own description rules out; what it says nothing of is for the Hub to refuse."""
    if not isinstance(held, dict) or held.get("role") in (None, "write", "admin"):
        return True
    if held["role"] != "fineGrained":
        return False
    fine = held.get("fineGrained") or {}
    given = [*fine.get("global", ()), *(p for one in fine.get("scoped", ()) for p in one.get("permissions", ()))]
    return "job.write" in given


def start(
    recipe_text: str, data_files: Mapping[str, Path], hardware: Hardware, timeout: int, token: str | None,
    namespace: str | None = None, output_repo: str | None = None, *, accelerate: str | None = None,
    folder: Path | None = None, endpoint: str | None = None,
) -> HubRun:  # fmt: skip
    """Upload, and start the job. Returns as soon as the Hub has taken it.

    data_files: name in the job's folder -> file here; `data/train.jsonl` is needed, a model of one's own may lie below
    `model/` with `model_name_or_path: model`. timeout: seconds, see `hub_prices.timeout_for`. namespace: whose credit,
    None for the user's. output_repo: `owner/name`, None for one made from the recipe's name. accelerate: a name of
    configs/accelerate or a file, None for what fits the machine. folder: where `hub.json` is kept, written before the
    job is asked for. Raises Refused; nothing runs then, or its line says that this isn't known.
    """
    token = usable_token(token)
    if isinstance(timeout, bool) or not isinstance(timeout, int) or timeout <= 0:
        raise Refused("hub_jobs_time", given=timeout)
    recipe = parse_recipe(recipe_text, "recipe")
    spread = _spread(recipe, hardware, accelerate)
    _check_files(recipe_text, spread.text, data_files, token)
    _check_recipe(recipe, data_files)
    who = account(token, endpoint)
    space = namespace or who.name
    run_id = f"{recipe.method}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"
    output = output_repo or f"{space}/{run_id}"
    if not _REPO.fullmatch(output):
        raise Refused("hub_jobs_repo_name", given=output)
    client = api(token, endpoint)
    data_repo = f"{space}/{DATA_REPO}"
    _private_repo(client, data_repo, "dataset", token)
    _private_repo(client, output, "model", token)
    there = recipe.changed({**_on_hub(recipe, output), **({"use_cpu": True} if spread.use_cpu else {})})
    commit = _upload(client, data_repo, run_id, there, spread, data_files, token)
    run = HubRun(
        run_id, "", space, hardware.name, timeout, data_repo, commit, output, time.time(),
        f"{client.endpoint}/jobs/{space}", hardware.usd_per_hour, endpoint,
    )  # fmt: skip
    _keep(folder, run)
    try:
        run = _submit(client, run, spread, token)
    except Refused as refused:
        if folder is not None and refused.sentence.entry != "hub_jobs_start_unsure":
            (folder / HUB_RUN).unlink(missing_ok=True)
        raise
    _keep(folder, run)
    return run


def _spread(recipe: Recipe, hardware: Hardware, accelerate: str | None) -> AccelerateFile:
    """How it is spread over the machine there. Raises Refused."""
    named = accelerate or recipe.get("accelerate")
    if named and read_accelerate(named).machines > 1:
        raise Refused("hub_jobs_one_machine", path=named)
    cpu = recipe.get("use_cpu", False)
    spread = suited(named, processes=recipe.get("num_processes"), cpu=cpu, gpus=hardware.accelerators)
    if spread.engine == "deepspeed" and (spread.offloads("optimizer") or not hardware.accelerators):
        raise Refused("hub_jobs_compiles", path=spread.name)
    if beside := spread.block("deepspeed_config").get("deepspeed_config_file"):
        raise Refused("hub_jobs_local_path", field="deepspeed_config_file", value=beside)
    return spread


def _check_files(recipe_text: str, accelerate_text: str, data_files: Mapping[str, Path], token: str) -> None:
    if TRAIN_ROWS not in data_files:
        raise Refused("hub_jobs_no_rows", name=TRAIN_ROWS)
    for name, text in ((RECIPE, recipe_text), (ACCELERATE, accelerate_text)):
        if holds_secret(text, token):
            raise Refused("hub_jobs_secret", name=name)
    size = 0
    for name, path in data_files.items():
        if HOSTILE_NAME.search(name) or name.split("/")[0] in (RECIPE, ACCELERATE, PROJECT, "project", "output"):
            raise Refused("hub_jobs_file_name", name=name)
        try:
            size += path.stat().st_size
            found = _has(path, token.encode())
        except OSError as failed:
            raise Refused("hub_jobs_file", name=name, why=failed.strerror or failed) from None
        if found:
            raise Refused("hub_jobs_secret", name=name)
    most = settings()["largest_upload"]
    if size > most:
        raise Refused("hub_jobs_too_large", size=f"{size / 1e9:.1f}", most=f"{most / 1e9:.1f}")


def _has(path: Path, wanted: bytes) -> bool:
    with path.open("rb") as file:
        kept = b""
        while part := file.read(1 << 20):
            if wanted in kept + part:
                return True
            kept = part[-len(wanted) :]
    return False


def _check_recipe(recipe: Recipe, data_files: Mapping[str, Path]) -> None:
    """What would not be there, and what must not travel. Raises Refused."""
    for name in secret_fields():
        if recipe.fields.get(name):
            raise Refused("hub_jobs_secret", name=f"{RECIPE}: {name}")
    settled = recipe.settled
    if not settled.get("model_name_or_path"):
        raise Refused("recipe_without_model", path=RECIPE)
    for name in _PATHS:
        value = settled.get(name)
        if not isinstance(value, str) or value in data_files or any(one.startswith(f"{value}/") for one in data_files):
            continue
        hub_id = _REPO.fullmatch(value.partition("@")[0]) is not None
        with suppress(OSError, ValueError):
            hub_id = hub_id and not Path(value).exists()
        if not hub_id:
            raise Refused("hub_jobs_local_path", field=name, value=value)


def _on_hub(recipe: Recipe, output: str) -> dict[str, Any]:
    """Fields that the place asks for; rows are in the job's folder already, whatever the recipe made them from."""
    return {
        "output_dir": OUTPUT, "push_to_hub": True, "hub_model_id": output, "hub_private_repo": True,
        "hub_strategy": recipe.fields.get("hub_strategy") or settings()["hub_strategy"],
    }  # fmt: skip


def _private_repo(client: HfApi, repo: str, kind: str, token: str) -> None:
    """Made where it isn't there. One that others can see gets nothing. Raises Refused."""
    asked(lambda: client.create_repo(repo, repo_type=kind, private=True, exist_ok=True), token)
    info = asked(lambda: client.repo_info(repo, repo_type=kind), token)
    if info.private is not True:
        at = "datasets/" if kind == "dataset" else ""
        raise Refused("hub_jobs_repo_public", repo=repo, hub=client.endpoint, kind=at)


def _upload(
    client: HfApi, repo: str, run_id: str, recipe: Recipe, spread: AccelerateFile, data_files: Mapping[str, Path],
    token: str,
) -> str:  # fmt: skip
    """The commit that holds all that the job reads. Raises Refused."""
    from huggingface_hub import CommitOperationAdd

    parts: dict[str, bytes | Path] = {
        RECIPE: recipe.as_yaml().encode(), ACCELERATE: spread.text.encode(), PROJECT: project_zip(), **data_files,
    }  # fmt: skip
    size = sum(len(part) if isinstance(part, bytes) else part.stat().st_size for part in parts.values())
    limits = settings()

    def commit() -> Any:
        made = [CommitOperationAdd(f"{run_id}/{name}", part) for name, part in parts.items()]
        return client.create_commit(repo, made, commit_message=f"Run {run_id}", repo_type="dataset")

    # once more is harmless: the same files in a second commit
    done = asked(commit, token, seconds=limits["upload_seconds"] + size / limits["upload_bytes_per_second"])
    return str(done.oid)


@cache
def project_zip() -> bytes:
    """The package and its settings, the same bytes for the same files."""
    root = CONFIGS.parent
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as into:
        for path in _travels(root):
            into.writestr(zipfile.ZipInfo(path.relative_to(root).as_posix()), path.read_bytes(), zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def _travels(root: Path) -> Iterator[Path]:
    yield from sorted((root / "pipeline").rglob("*.py"))
    for suffix in ("yaml", "json"):
        yield from sorted((root / "configs").rglob(f"*.{suffix}"))


def requirements(with_deepspeed: bool = False) -> list[str]:
    """`name==version` as installed here; a build for one machine (+cpu, +cu130) becomes the plain version."""
    names = [*settings()["packages"], *(["deepspeed"] if with_deepspeed else [])]
    found = []
    for name in names:
        try:
            found.append(f"{name}=={metadata.version(name).partition('+')[0]}")
        except metadata.PackageNotFoundError:
            found.append(name)
    return found


def job_command(run: HubRun, spread: AccelerateFile) -> list[str]:
    """What the job runs: arguments, never a shell line."""
    limits = settings()
    pins = [word for one in requirements(spread.engine == "deepspeed") for word in ("--with", one)]
    return [
        "uv", "run", "--no-project", "--python", str(limits["python"]), *pins,
        "python", "-c", _BOOT, run.data_repo, run.data_commit, run.id, run.output_repo,
    ]  # fmt: skip


def _submit(client: HfApi, run: HubRun, spread: AccelerateFile, token: str) -> HubRun:
    """Raises Refused. Asked again only where the label shows that the first try started nothing."""
    limits = settings()

    def submit() -> JobInfo:
        return client.run_job(
            image=limits["image"], command=job_command(run, spread), flavor=run.hardware, timeout=run.timeout_seconds,
            env={"PYTHONUNBUFFERED": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}, secrets={"HF_TOKEN": token},
            labels={"name": run.id, LABEL: run.id, LABEL_SECONDS: str(run.timeout_seconds)}, namespace=run.namespace,
        )  # fmt: skip

    wait, reason = float(limits["wait_seconds"]), None
    for _ in range(int(limits["tries"])):
        try:
            return _with_job(run, once(submit, token))
        except Unsure as unsure:
            reason = unsure.args[0]
        except (KeyError, TypeError, ValueError):
            reason = Sentence("reason_no_hub")
        time.sleep(wait)
        wait *= 2
        try:
            found = find(run, token)
        except Refused:
            break  # it can't be asked whether it runs: another try might start a second one
        if found.job_id:
            return found
        if isinstance(reason, Sentence) and reason.entry == "hub_jobs_reason_slow":
            break  # the answer may still be under way
    raise Refused("hub_jobs_start_unsure", url=run.url, reason=reason)


def _with_job(run: HubRun, told: JobInfo) -> HubRun:
    return replace(run, job_id=str(told.id), url=str(told.url))


def find(run: HubRun, token: str | None) -> HubRun:
    """The same with its job, by the label, where the answer to its start was lost; as it was where there is none."""
    if run.job_id:
        return run
    token = usable_token(token)
    client = api(token, run.endpoint)
    wanted: dict[str, Any] = {"labels": {LABEL: run.id}, "timeout": settings()["stall_seconds"]}
    told = asked(lambda: list(client.list_jobs(namespace=run.namespace, **wanted)), token)
    own = [one for one in told if (one.labels or {}).get(LABEL) == run.id]
    return _with_job(run, own[0]) if own else run


def found_job(run: HubRun, token: str) -> HubRun:
    """With its job. Raises Refused where the Hub knows of none."""
    found = find(run, token)
    if not found.job_id:
        raise Refused("hub_jobs_gone", job=run.id)
    return found


def status(run: HubRun, token: str | None) -> HubStatus:
    """How it stands now. Raises Refused: gone, no answer, no permission."""
    token = usable_token(token)
    run = found_job(run, token)
    client = api(token, run.endpoint)
    told = asked(lambda: client.inspect_job(job_id=run.job_id, namespace=run.namespace), token)
    stage = _stage(told)
    message = hidden(str(told.status.message or ""), token)
    running = float((told.durations.running_secs if told.durations else None) or 0)
    started, finished = _seconds(told.started_at), _seconds(told.finished_at)
    if not running and started:
        running = max(0.0, (finished or time.time()) - started)
    end = ENDED.get(stage, "")
    if end in ("failed", "canceled", "deleted"):
        late = running >= run.timeout_seconds - settings()["timeout_slack_seconds"]
        if _TIMED_OUT.search(message) or late:
            end = "timeout"
    cost = None if run.usd_per_hour is None else billed(running, run.usd_per_hour)
    return HubStatus(stage, message, end, _seconds(told.created_at), started, finished, running, cost)


def _seconds(moment: Any) -> float:
    return float(moment.timestamp()) if moment is not None else 0.0


def usage(run: HubRun, token: str | None) -> dict[str, Any]:
    """Processor, memory and GPUs at this moment, as the Hub names them; empty where it isn't running."""
    token = usable_token(token)
    client = api(token, run.endpoint)
    return asked(
        lambda: next(iter(client.fetch_job_metrics(job_id=run.job_id, namespace=run.namespace)), {}), token, tries=1
    )


def cancel(run: HubRun, token: str | None) -> None:
    """End it. Of one that is over already nothing is said. Raises Refused."""
    token = usable_token(token)
    run = found_job(run, token)
    client = api(token, run.endpoint)
    try:
        asked(lambda: client.cancel_job(job_id=run.job_id, namespace=run.namespace), token)
    except Refused:
        if not status(run, token).end:
            raise


def all_runs(
    token: str | None, namespace: str | None = None, endpoint: str | None = None
) -> list[tuple[str, str, str]]:  # fmt: skip
    """(run, job, stage) of all jobs in the namespace that this project started, newest first, also from elsewhere."""
    token = usable_token(token)
    space = namespace or account(token, endpoint).name
    client = api(token, endpoint)
    told = asked(lambda: list(client.list_jobs(namespace=space, timeout=settings()["stall_seconds"])), token)
    own = [one for one in told if LABEL in (one.labels or {})]
    own.sort(key=lambda one: -_seconds(one.created_at))
    return [(str((one.labels or {})[LABEL]), str(one.id), _stage(one)) for one in own]


def _stage(told: JobInfo) -> str:
    return str(getattr(told.status.stage, "value", told.status.stage))


def _keep(folder: Path | None, run: HubRun) -> None:
    if folder is None:
        return
    try:
        with written_whole(folder / HUB_RUN) as path:
            path.write_text(json.dumps(asdict(run), indent=1) + "\n", encoding="utf-8")
    except OSError as failed:
        raise Refused("job_folder_failed", path=folder, why=failed.strerror or failed) from None


def read_run(folder: Path) -> HubRun | None:
    """What a job's folder says of its run on the Hub; None where there is none, or nothing that can be used."""
    try:
        with (folder / HUB_RUN).open("rb") as file:
            value = parse_json(file.read(_MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    number, none = (int, float), type(None)
    kinds: dict[str, Any] = {
        "timeout_seconds": int, "created": number, "usd_per_hour": (*number, none), "endpoint": (str, none),
    }  # fmt: skip
    made = {one.name: value[one.name] for one in fields(HubRun) if one.name in value}
    if any(not isinstance(v, kinds.get(k, str)) or isinstance(v, bool) for k, v in made.items()):
        return None
    try:
        run = HubRun(**made)
    except TypeError:
        return None
    # both become part of an address
    named = re.fullmatch(r"[\w.-]*", run.job_id) and re.fullmatch(r"[\w.-]+", run.namespace)
    return run if named and math.isfinite(run.created) else None
