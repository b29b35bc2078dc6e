"""Writes the tree of files into README.md, one line a file, from each file's own first line.

`python docs/tree_in_readme.py` writes it; with `--check` it only says whether the README is current.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- tree -->\n", "<!-- end of tree -->\n"
# Files whose first line can't say what they are.
KNOWN = {
    "README.md": "this page and the Space's settings", "Makefile": "run, test, check, docs, demo, bench",
    "pyproject.toml": "settings of ruff, mypy and pytest", "requirements.txt": "what the app needs, pinned",
    "requirements-dev.txt": "what tests and checks need, pinned", ".ci/run": "what must pass before a change lands",
    ".gitignore": "", "docs/checks.md": "every check and cause, made from the code",
    "configs/report.schema.json": "JSON schema of a report",
    "configs/training_fields.json": "names, types and defaults of the trainers' fields, made from the installed trl",
}  # fmt: skip


def first_line(path: Path) -> str:
    """First sentence of a Python module's docstring, or the first comment of another file."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".py":
        found = (ast.get_docstring(ast.parse(text)) or "").split("\n")[0]
    else:
        comments = (line for line in text.splitlines()[:3] if line.startswith(("#", "/*", "//")))
        found = next(comments, "").strip("#/*- <!>").strip()
    return found.rstrip(".")


def tree() -> str:
    """The tree as a Markdown code block."""
    argv = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    folders: dict[str, list[str]] = {}
    for name in sorted(set(listed.stdout.split("\n")) - {""}):
        path = ROOT / name
        if not path.is_file() or (path.name == "__init__.py" and len(path.read_text().splitlines()) < 2):
            continue
        about = KNOWN.get(name, "" if path.suffix in (".png", ".json") else first_line(path))
        folder = name.rpartition("/")[0]
        indent = "  " if folder else ""
        folders.setdefault(folder, []).append(f"{indent}{path.name:<34} {about}".rstrip())
    lines = [line for folder in sorted(folders) for line in ([f"{folder}/"] if folder else []) + folders[folder]]
    return "```\n" + "\n".join(lines) + "\n```\n"


def main() -> int:
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    start, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    made = text[:start] + tree() + text[end:]
    if "--check" in sys.argv:
        print("README.md is current" if made == text else "README.md: the tree is not current; run: make docs")
        return int(made != text)
    readme.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
