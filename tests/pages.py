"""Runs the Python blocks of a page of docs, in order, and checks every result that it shows."""

import re
import subprocess
import sys
from pathlib import Path

import jax

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHOWN = re.compile(r"^\s*print\(.*\)  # (?P<text>.+)$")


def blocks(name):
    """Yield (number of lines above, code) of each Python block of the page."""
    text = (DOCS / name).read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        yield text.count("\n", 0, match.start(1)), match[1]


def run(name):
    """Run the page; return the shown results that differ: (line, shown, printed)."""
    namespace, printed = {"__name__": name}, {}

    def keep(*values, sep=" "):
        printed.setdefault(sys._getframe(1).f_lineno, []).append(sep.join(map(str, values)))

    namespace["print"] = keep
    wide = jax.config.jax_enable_x64
    try:
        with jax.numpy_dtype_promotion("standard"):  # as the reader has it
            for above, code in blocks(name):
                exec(compile("\n" * above + code, DOCS / name, "exec"), namespace)
    finally:
        jax.config.update("jax_enable_x64", wide)
    lines = (DOCS / name).read_text(encoding="utf-8").splitlines()
    shown = {
        number: [match["text"]]
        for number, line in enumerate(lines, start=1)
        if (match := SHOWN.match(line))
    }
    return [
        (number, shown.get(number), printed.get(number))
        for number in sorted(shown | printed)
        if shown.get(number) != printed.get(number)
    ]


def unformatted(name, tmp_path):
    """Return what ruff's formatter would change in the page's blocks, and why it failed."""
    for number, (_, code) in enumerate(blocks(name)):
        (tmp_path / f"block_{number:02}.py").write_text(code, encoding="utf-8")
    command = ["ruff", "format", "--diff", "--isolated", "--line-length", "100", str(tmp_path)]
    ran = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)
    return ran.stdout if ran.returncode < 2 and "No module" not in ran.stderr else ran.stderr
