"""Every command and Python snippet of README, documentation and notebooks: found, made whole, and run as it is written.

    python -m benchmarks.documented [--snippets] [README.md docs/pages/howto/steer.md ...]

Runs them page by page, in order, in a temporary folder with one finished run of the bundled model under the names that
the pages use, and fails where one does. What needs the network, a real model or a file of one's own is listed and left
out; `tests/test_documented.py` holds in seconds that each of those, too, has options and fields that exist, and so has
what stands within sentences and in the help of commands. Cells of notebooks are run by `make test`.
"""

import ast
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs/pages").rglob("*.md")),
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "notebooks").glob("*.md")),
    *sorted((ROOT / "notebooks").glob("*.ipynb")),
]
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
MENTION = re.compile(r"(?<!`)`(interp [^`\n]+(?:\n[^`\n]+)?)`(?!`)")
OPTIONAL = re.compile(r" \[(--[^\[\]]*)\]")
RUNS = ("tiny", "mine", "smollm2", "crowd", "isear")
"""Run folders of which the pages speak."""
LEFT_OUT = re.compile(
    r"path/to|hub:|hub\b|/scratch|experiments/(models|saes|steering|labels|gemma|smollm2)|fetch|certify|gemma|saes "
    r"|--log |interp log|interp (app|serve) runs/\w+$|[A-Z]{5}|reliability-[ab]|other-seed|emobank|mine\.yaml"
    r"|notebooks/|gpt2"
)
"""Commands that need the network, a real model, a client, or files that are not here, and those that do not end."""
NO_STEERING = re.compile(r"[Tt]he steering (of|in) runs/\w+ is none")
"""The bundled model's run may choose none: then a command that uses it says so, and ends with 2."""
NOT_HERE = re.compile(
    r"path/to|portable|bridge|runs/mine|Component\(12|patched_answers|rating_directions|gold_sets|next_ids"
)
"""Snippets that need files of one's own, another library's or a deeper model, names that are the reader's, or a run
with ratings or a steering."""
LONG = 600


class Snippet(NamedTuple):
    """A command or a piece of Python, as a page has it."""

    page: str
    line: int
    code: str


def words_of(page: Path) -> str:
    """A page's text; of a notebook, that of its cells that are text."""
    text = page.read_text(encoding="utf-8")
    if page.suffix != ".ipynb":
        return text
    return "\n\n".join("".join(c["source"]) for c in json.loads(text)["cells"] if c["cell_type"] == "markdown")


def commands() -> list[Snippet]:
    """Every `interp ...` of every code block, one a line, continued lines joined, comments taken off."""
    found = []
    for page in PAGES:
        text = words_of(page)
        for block in FENCE.finditer(text):
            if block[1] not in ("", "bash", "sh", "console"):
                continue
            start = text[: block.start(2)].count("\n") + 1
            number = start
            for line in re.sub(r"\\\n", "\x00", block[2]).split("\n"):
                command = re.sub(r"\s#.*", "", re.sub(r"\x00\s*", " ", line)).strip()
                if command.startswith("interp ") and "..." not in command:
                    found.append(Snippet(str(page.relative_to(ROOT)), number, command))
                number += 1 + line.count("\x00")
    return found


def mentions() -> list[Snippet]:
    """Every command within a sentence of a page, and in the help of the commands themselves."""
    found = []
    texts = {str(page.relative_to(ROOT)): words_of(page) for page in PAGES}
    for path in sorted((ROOT / "interp/cli").glob("*.py")):
        texts[str(path.relative_to(ROOT))] = path.read_text(encoding="utf-8")
    for page, text in texts.items():
        text = FENCE.sub(lambda block: "\n" * block[0].count("\n"), text)
        for mention in MENTION.finditer(text):
            code = " ".join(mention[1].split())
            if "..." not in code:
                found.append(Snippet(page, text[: mention.start()].count("\n") + 1, code))
    return found


def snippets() -> list[Snippet]:
    """Every block of Python."""
    found = []
    for page in PAGES:
        text = words_of(page)
        for block in FENCE.finditer(text):
            if block[1] == "python":
                line = text[: block.start(2)].count("\n") + 1
                found.append(Snippet(str(page.relative_to(ROOT)), line, block[2]))
    return found


def variants(command: str) -> Iterator[list[str]]:
    """The commands that one with `[--optional parts]` and `alternatives|of words` stands for, as words."""
    parts = OPTIONAL.split(command)
    choices = [
        [part] if i % 2 == 0 else ["", *(f" {one.strip()}" for one in part.split(" | "))]
        for i, part in enumerate(parts)
    ]
    for chosen in itertools.product(*choices):
        words = shlex.split("".join(chosen))[1:]
        known = [word.split("|") if re.fullmatch(r"[\w|-]+", word) else [word] for word in words]
        for one in itertools.product(*known):
            yield ["5" if word == "N" else word for word in one]


def imported(code: str) -> list[tuple[str, str]]:
    """(module, name) of what a snippet imports from the package."""
    return [
        (str(node.module), alias.name)
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "interp"
        for alias in node.names
    ]


def _tell(what: Snippet, done: subprocess.CompletedProcess[str], began: float) -> bool:
    """Prints how it ended; whether as it should."""
    state = "ok" if done.returncode == 0 else f"FAILED ({done.returncode})"
    if done.returncode == 2 and NO_STEERING.search(done.stderr):
        state = "no steering"
    first = what.code.strip().splitlines()[0]
    print(f"{state:12} {time.perf_counter() - began:6.1f} s  {what.page}:{what.line}  {first}", flush=True)
    if state.startswith("FAILED"):
        print("\n".join((done.stderr or done.stdout).strip().splitlines()[-4:]))
    return not state.startswith("FAILED")


def _runnable(one: Snippet) -> bool:
    return not NOT_HERE.search(re.sub(r"#.*", "", one.code))


def main(words: Sequence[str]) -> int:
    only_snippets = "--snippets" in words
    wanted = {str(Path(page)) for page in words if page != "--snippets"}
    failed, left_out = 0, []
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def run(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, *words]
            try:
                return subprocess.run(
                    command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LONG
                )
            except subprocess.TimeoutExpired:
                return subprocess.CompletedProcess(command, 124, "", f"not done after {LONG} s")

        (folder / "experiments").symlink_to(ROOT / "experiments")
        began = time.perf_counter()
        done = run(["-m", "interp.cli", "run"])
        if not _tell(Snippet("(the run)", 0, "interp run"), done, began):
            return 1
        for other in RUNS[1:]:
            shutil.copytree(folder / "runs/tiny", folder / "runs" / other)
        from interp import load_corpus

        rows = [f'"{e.text}",{e.gold}' for e in load_corpus("vignettes", limit=120)]
        (folder / "mine.csv").write_text("\n".join(["text,label", *rows]))
        for one in () if only_snippets else commands():
            if wanted and one.page not in wanted:
                continue
            if LEFT_OUT.search(one.code):
                left_out.append(one)
                continue
            for words in itertools.islice(variants(one.code), 1):
                made = folder / "runs" / (words[words.index("--name") + 1] if "--name" in words else "")
                if made.name in RUNS and made.is_dir():  # a copy stands where it makes its own
                    shutil.rmtree(made)
                began = time.perf_counter()
                failed += not _tell(one, run(["-m", "interp.cli", *words]), began)
        start = next(one for one in snippets() if one.page == "README.md")
        for page in dict.fromkeys(one.page for one in snippets()):
            if wanted and page not in wanted:
                continue
            own = [one for one in snippets() if one.page == page and _runnable(one)]
            left_out += [one for one in snippets() if one.page == page and one not in own]
            first = [] if page == "README.md" else [start.code]  # pages go on with the names of the first snippet
            for i, one in enumerate(own):
                began = time.perf_counter()
                failed += not _tell(one, run(["-c", "\n".join([*first, *(o.code for o in own[: i + 1])])]), began)
    print(f"left out, {len(left_out)}:")
    for one in left_out:
        print(f"  {one.page}:{one.line}  {one.code.strip().splitlines()[0]}")
    print(f"{failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
