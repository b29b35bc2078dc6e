"""The command that starts a run: arguments and environment, as one line to copy, and read back from that line.

A line is written so that a POSIX shell reads it, but none ever does: it is split into arguments here, and what only a
shell could do (pipes, variables, several commands) is refused.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.config_files import load_config
from pipeline.machine_devices import cores_here
from pipeline.refusal import Refused
from pipeline.training.accelerate_files import AccelerateFile, read_accelerate

PROJECT = Path(__file__).resolve().parent.parent.parent
MAX_LINE = 100_000  # characters; the system takes about 128 KiB for one argument
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
# A name that holds a secret, and how tokens of the services that a run talks to begin
_SECRET_NAME = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_KEY)S?$", re.IGNORECASE)
_SECRET = re.compile(r"\b(hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|AKIA[A-Z0-9]{16}|gh[pousr]_[A-Za-z0-9]{20,})")
_OPERATORS = ";|&<>()`$\n"


@dataclass(frozen=True)
class LaunchLine:
    """argv; env: what is added to the environment of the one who starts it."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """For a POSIX shell: variables, then the command."""
        return " ".join([*(f"{name}={shlex.quote(value)}" for name, value in self.env.items()), shlex.join(self.argv)])


def launch_line(
    accelerate_file: str | Path, training: Sequence[str], spread: AccelerateFile | None = None, *,
    parameters: int | None = None, environment: Mapping[str, str] | None = None,
) -> LaunchLine:  # fmt: skip
    """`python -m accelerate.commands.launch --config_file FILE TRAINING`.

    accelerate_file: as it is to stand in the line. training: `-m MODULE ARGUMENT...` or a script with its arguments.
    spread: what the file holds, read from it if not given. parameters: of the model, None where unknown. environment:
    whose settings go first; None: this process's. Raises Refused for an accelerate file that can't be read.
    """
    held = os.environ if environment is None else environment
    spread = read_accelerate(str(accelerate_file)) if spread is None else spread
    argv = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(accelerate_file)]
    # accelerate 1.15 takes these from its command line only: its parser's defaults hide what the file says
    if (backend := spread.fields.get("rdzv_backend")) not in (None, "static"):
        argv += ["--rdzv_backend", str(backend)]
    argv += [f"--{flag}" for flag in ("same_network", "enable_cpu_affinity") if spread.fields.get(flag) is True]
    env = {**project_path(held), **_settings(spread, parameters, held)}
    return LaunchLine((*argv, *training), env)


def _settings(spread: AccelerateFile, parameters: int | None, held: Mapping[str, str]) -> dict[str, str]:
    # Python's own order of a pipe's writes keeps a log a block behind; `datasets` forks while it tokenises
    env = {"PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": held.get("TOKENIZERS_PARALLELISM") or "false"}
    env["OMP_NUM_THREADS"] = held.get("OMP_NUM_THREADS") or str(threads(spread, parameters))
    if spread.use_cpu:
        # With true, DeepSpeed is left out without a word; without it, several plain processes don't know one another
        env["ACCELERATE_USE_CPU"] = "false" if spread.engine == "deepspeed" else "true"
        if spread.engine == "deepspeed":
            env["DS_ACCELERATOR"] = "cpu"
    return env


def threads(spread: AccelerateFile, parameters: int | None, *, cores: int | None = None) -> int:
    """OpenMP threads of each process: the machine's cores (looked up if not given), divided among its processes.

    One where the model is tiny or its size unknown: that is what accelerate itself sets, and two threads that wait for
    one core make a step of 40 ms one of 600. One too where the work is a GPU's.
    """
    small = parameters is None or parameters < float(load_config("sampling.yaml")["one_thread_below"])
    if small or not (spread.use_cpu or spread.offloads("optimizer")):
        return 1
    return max(1, (cores or cores_here()) // spread.processes_here)


def project_path(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """PYTHONPATH with which this project's packages are found from any folder."""
    held = (os.environ if environment is None else environment).get("PYTHONPATH", "")
    rest = [part for part in held.split(os.pathsep) if part and part != str(PROJECT)]
    return {"PYTHONPATH": os.pathsep.join([str(PROJECT), *rest])}


def parse_command(line: str) -> tuple[list[str], dict[str, str]]:
    """(argv, env) of a line as `LaunchLine.text` writes it, perhaps edited. Raises Refused; nothing in it is run."""
    if len(line) > MAX_LINE:
        raise Refused("line_too_long", most=MAX_LINE)
    line = re.sub(r"(?<!\\)((?:\\\\)*)\\\r?\n", r"\1 ", line).strip()  # lines continued by a backslash
    _refuse_shell(line)
    try:
        words = shlex.split(line)
    except ValueError:  # a quotation mark without its other one, or a backslash at the end
        raise Refused("line_quote") from None
    env: dict[str, str] = {}
    while words and (found := _VARIABLE.fullmatch(words[0])):
        env[found[1]] = found[2]
        words = words[1:]
    if not words:
        raise Refused("line_empty")
    for name, value in env.items():
        if _SECRET_NAME.search(name) or _SECRET.search(value):
            raise Refused("line_secret", name=name)
    if found := next((hit for word in words if (hit := _SECRET.search(word))), None):
        raise Refused("line_secret", name=f"{found[0][:3]}…")
    return words, env


def read_line(line: str) -> LaunchLine:
    """As `parse_command`; a program that isn't there is refused too."""
    argv, env = parse_command(line)
    if shutil.which(argv[0], path=env.get("PATH")) is None:
        raise Refused("line_no_program", name=argv[0])
    return LaunchLine(tuple(argv), env)


def in_folder(line: str, folder: str, place: str = "{job}") -> str:
    """The line with `folder` wherever `place` stands, quoted anew. Raises Refused."""
    argv, env = parse_command(line)
    filled = LaunchLine(tuple(word.replace(place, folder) for word in argv), env)
    return replace(filled, env={name: value.replace(place, folder) for name, value in env.items()}).text


def _refuse_shell(line: str) -> None:
    """Raises Refused for what a shell would act on: between no quotation marks, and `$` and a backtick between double
    ones. Braces and stars stay as they are: `{job}` is a place that is filled in later."""
    quote, start, place = "", True, 0
    while place < len(line):
        char = line[place]
        if char == "\0" or (char < " " and char not in "\t\n\r"):
            raise Refused("line_control", place=place + 1)
        if quote == "'":
            quote = "" if char == "'" else quote
        elif char == "\\":
            place += 1
        elif quote == '"':
            if char in "`$":
                raise Refused("line_operator", what=char, place=place + 1)
            quote = "" if char == '"' else quote
        elif char in "'\"":
            quote = char
        elif char in _OPERATORS or char == "\r" or char == "#" and start:
            what = {"\n": "\\n", "\r": "\\r"}.get(char, char)
            raise Refused("line_operator", what=what, place=place + 1)
        start = char in " \t"
        place += 1
