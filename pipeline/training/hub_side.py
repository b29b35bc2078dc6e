"""The end of a run that is on Hugging Face: started there by the job that `hub_jobs` asked for.

Trains as a job on one's own machine does, and pushes at the end what the trainer didn't: the record of the steps, the
recipe, and, where it failed, what there is. The token is that of the environment (HF_TOKEN, a secret of the job).
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import FrameType

from pipeline import processes
from pipeline.training.job_folder import ACCELERATE, COMMAND, OUTPUT, RECIPE
from pipeline.training.newest_record import METRICS


def main(arguments: list[str]) -> int:
    """arguments: the job's folder, the model repository. The exit status of the training, 1 where its end was 0 and the
    result could not be pushed."""
    folder, repo = Path(arguments[0]), arguments[1]
    code = _train(folder)
    pushed = _push(folder, repo)
    return code or (0 if pushed else 1)


def _train(folder: Path) -> int:
    from pipeline.training.launch_line import launch_line

    line = launch_line(str(folder / ACCELERATE), ["-m", "pipeline.training.run", str(folder)])
    (folder / COMMAND).write_text(line.text + "\n", encoding="utf-8")
    print(f"$ {line.text}", flush=True)
    child = processes.start(line.argv, env=line.env, cwd=folder)

    def hand_on(number: int, frame: FrameType | None) -> None:
        child.terminate()

    signal.signal(signal.SIGTERM, hand_on)
    code = child.wait()
    return code if code >= 0 else 128 - code


def _push(folder: Path, repo: str) -> bool:
    from huggingface_hub import CommitOperationAdd, HfApi

    client = HfApi()
    try:
        if (folder / OUTPUT).is_dir():
            # checkpoints were pushed as the recipe says (hub_strategy)
            client.upload_folder(
                repo_id=repo, folder_path=folder / OUTPUT, ignore_patterns=["checkpoint-*"], commit_message="Result"
            )
        names = [name for name in (RECIPE, METRICS, COMMAND, ACCELERATE) if (folder / name).is_file()]
        records = [CommitOperationAdd(f"run/{name}", folder / name) for name in names]
        client.create_commit(repo, records, commit_message="Record of the run")
        print(f"pushed to {repo}", flush=True)
        return True
    except Exception as failed:  # of the transport, the library, the disk
        why = f"{type(failed).__name__}: {' '.join(str(failed).split())[:300]}"
        print(f"error: the result could not be pushed to {repo}: {why}", file=sys.stderr)
        return False
