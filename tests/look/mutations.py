"""Changes each threshold, window and condition of the alerts, one at a time. Their tests must fail each time."""

import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory


def survivors(promtool, rules, tests):
    """Returns how many changes were made, and those that no test notices."""
    text = rules.read_text()
    changes = list(mutations(text))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        noticed = list(pool.map(lambda change: is_noticed(promtool, change[1], rules, tests), changes))
    return len(changes), [what for (what, _), seen in zip(changes, noticed) if not seen]


def is_noticed(promtool, text, rules, tests):
    with TemporaryDirectory() as folder:
        Path(folder, rules.name).write_text(text)
        Path(folder, tests.name).write_text(tests.read_text())
        run = subprocess.run([promtool, "test", "rules", tests.name], cwd=folder, capture_output=True, text=True)
    # Rules that do not parse any more would prove nothing.
    assert run.returncode == 0 or "exp:" in run.stdout + run.stderr, run.stdout + run.stderr + text
    return run.returncode != 0


def mutations(text):
    """Yields what was changed, and the whole text with the change."""
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        if not is_condition(line):
            continue
        for found, replacement in changes_of(line):
            changed = line[: found.start()] + replacement + line[found.end() :]
            lines = text.splitlines(keepends=True)
            lines[number - 1] = changed
            yield f"line {number}: `{line.strip()}` as `{changed.strip()}`", "".join(lines)


def is_condition(line):
    """Tells lines of expressions, and those with `for`, from prose and labels."""
    return bool(re.search(r"zsem_|^ *for: |^ *(?:>|/) ", line)) and not re.match(r" *(?:#|\w+: \")", line)


def changes_of(line):
    for found in re.finditer(r"(?<=[=><] )[0-9.]+(?=\)?$)", line):
        number = float(found[0])
        yield from ((found, f"{changed:g}") for changed in ([number * 2, number / 2] if number else [2]))
    for found in re.finditer(r"(?<=quantile\()[0-9.]+", line):
        yield found, f"{float(found[0]) - 0.1:g}"
    for found in re.finditer(r"(?<=[\[ ])([0-9]+)m(?=[\])\n])", line):
        yield from ((found, f"{seconds}s") for seconds in (int(found[1]) * 120, int(found[1]) * 30))
    for found in re.finditer(r" (==|>=|>) ", line):
        yield from ((found, f" {other} ") for other in {"==": ["!="], ">=": [">", "<"], ">": ["<"]}[found[1]])
    for found in re.finditer(r" > (?=0\)?$)", line):
        yield found, " >= "
    for found in re.finditer(r"\{\w+=~?\"[^\"]*\"\}", line):
        yield found, ""
    for found in re.finditer(r"\w+\||\|\w+", line):
        yield found, ""
    for found in re.finditer(r"^ *and .*", line):
        yield found, ""
