"""`python -m pipeline jobs`: the runs of this machine listed, looked at, followed, stopped, resumed."""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import suppress
from typing import Any

from pipeline.commands.terminal import EXIT_DONE, EXIT_INTERRUPTED, write_result
from pipeline.commands.train import EXIT_PROBLEMS, FOLLOW_SECONDS, follow, last_word
from pipeline.refusal import Refused, Sentence

LAST_BYTES = 200_000  # of a log, unless all of it is asked for


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "jobs", help="list, look at, follow, stop and resume training runs",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="JOB is an id, the beginning of one, `last`, or a job's folder.",
        epilog="examples:\n  python -m pipeline jobs list\n  python -m pipeline jobs logs last --follow\n"
               "  python -m pipeline jobs stop last\n  python -m pipeline jobs resume last --foreground",
    )  # fmt: skip
    parser.add_argument("action", choices=("list", "status", "logs", "stop", "resume"))
    parser.add_argument("job", metavar="JOB", nargs="?", help="default: the newest")
    parser.add_argument("--follow", action="store_true", help="logs: go on until the run is over")
    parser.add_argument("--all", action="store_true", help="logs: from the beginning, not only the end")
    parser.add_argument("--now", action="store_true", help="stop: don't wait for the step and a checkpoint")
    parser.add_argument("--foreground", action="store_true", help="resume: follow the run until it ends")
    parser.add_argument("--insist", action="store_true",
                        help="resume: although the recipe was changed since, or the run is done")  # fmt: skip
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.add_argument("--lang", choices=("en", "zh"), default="en")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Returns the exit status."""
    return {"list": _list, "status": _status, "logs": _logs, "stop": _stop, "resume": _resume}[options.action](options)


def _job(options: argparse.Namespace) -> Any:
    from pipeline.training.job_folder import find_job

    return find_job(options.job or "last")


def _list(options: argparse.Namespace) -> int:
    from pipeline.training.job_folder import all_jobs
    from pipeline.training.job_words import summary, table

    found = [summary(job) for job in all_jobs()]
    if options.format == "json":
        write_result(json.dumps(found, ensure_ascii=False, indent=1) + "\n")
    elif not found:
        write_result(Sentence("jobs_none").said(options.lang) + "\n")
    else:
        write_result(table(found, options.lang))
    return EXIT_DONE


def _status(options: argparse.Namespace) -> int:
    from pipeline.training.job_words import account, summary

    job = _job(options)
    if options.format == "json":
        write_result(json.dumps(summary(job), ensure_ascii=False, indent=1) + "\n")
    else:
        write_result(account(job, options.lang))
    return EXIT_DONE


def _logs(options: argparse.Namespace) -> int:
    from pipeline.training.job_folder import LOG, read_status

    job = _job(options)
    place = 0
    with suppress(OSError):
        place = 0 if options.all else max(0, job.path(LOG).stat().st_size - LAST_BYTES)
    try:
        while True:
            over = not read_status(job).live
            new = b""
            with suppress(FileNotFoundError), job.path(LOG).open("rb") as log:
                log.seek(place)
                new = log.read()
            place += len(new)
            if new:
                write_result(new.decode("utf-8", errors="replace"))
            if over or not options.follow:
                return EXIT_DONE
            time.sleep(FOLLOW_SECONDS)
    except OSError as failed:
        raise Refused("job_file_gone", job=job.id, path=job.path(LOG), why=failed.strerror or failed) from None
    except KeyboardInterrupt:  # the run goes on
        return EXIT_INTERRUPTED


def _stop(options: argparse.Namespace) -> int:
    from pipeline.training.job_folder import read_status
    from pipeline.training.job_words import state_said, summary
    from pipeline.training.stop_job import stop_job, wait_until_over

    job = _job(options)
    stop_job(job, firmly=options.now)
    print(Sentence("job_stopping", {"job": job.id}).said(options.lang), file=sys.stderr, flush=True)
    wait_until_over(job, 3600.0)
    if options.format == "json":
        write_result(json.dumps(summary(job), ensure_ascii=False, indent=1) + "\n")
    else:
        write_result(state_said(read_status(job), options.lang) + "\n")
    return EXIT_DONE


def _resume(options: argparse.Namespace) -> int:
    from pipeline.training.job_folder import read_status
    from pipeline.training.job_words import failure_said, summary
    from pipeline.training.start_job import resume_job

    job = _job(options)
    checkpoint = resume_job(job, insist=options.insist)
    entry = "job_resumed" if checkpoint else "job_restarted"
    line = Sentence(entry, {"job": job.id, "checkpoint": checkpoint}).said(options.lang)
    status = EXIT_DONE
    if options.foreground:
        follow(job, options.lang)
        now = read_status(job)
        line = failure_said(now, options.lang)
        last_word(options, line)
        status = {"done": EXIT_DONE, "stopped": EXIT_INTERRUPTED}.get(now.state, EXIT_PROBLEMS)
    if options.format == "json":
        write_result(json.dumps(summary(job), ensure_ascii=False, indent=1) + "\n")
    else:
        write_result(line + "\n")
    return status
