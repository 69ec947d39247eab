"""What is proven about configuration, alerts, board and names."""

import json
import re
import subprocess

from cluster import eventually

# Exported, but on no panel and in no alert, each for a reason.
NOT_SHOWN = {}

# A gauge that is not 0 when nobody holds or waits: the connections, and the keys in the caches.
NEVER_EMPTY = {"zsem_connected", "zsem_keys"}


def promtool(program, *arguments, cwd=None, text=None):
    """Runs promtool, which must find nothing to say against what it checks."""
    run = subprocess.run([program, *arguments], cwd=cwd, input=text, capture_output=True, text=True)
    if run.returncode != 0 or (text is not None and run.stdout + run.stderr):
        raise RuntimeError(f"promtool {' '.join(arguments)}: {run.stdout}{run.stderr}")


def board_expressions(board, semaphore=".*"):
    """Returns the expressions of the panels of a board, with their titles, as Grafana sends them."""
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    targets = [(panel["title"], target["expr"]) for panel in panels for target in panel["targets"]]
    variables = {"$__rate_interval": "5s", "$semaphore": semaphore}
    for variable, value in variables.items():
        targets = [(title, expression.replace(variable, value)) for title, expression in targets]
    return targets


def exported_names(text):
    """Returns the type of each metric in what a gateway exports."""
    return dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))


def check_names(exported, expressions):
    """Checks that each name that is used is exported, with its type's suffix, and that each exported one is used."""
    series = {}
    for name, kind in exported.items():
        if kind == "summary":
            raise RuntimeError(f"{name} is a summary: the recorder lacks its buckets")
        suffixes = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        series.update((name + suffix, name) for suffix in suffixes)
    used = {name for expression in expressions for name in re.findall(r"\bzsem_\w+", expression)}
    if unknown := used - set(series):
        raise RuntimeError(f"not exported: {sorted(unknown)}")
    shown = {series[name] for name in used}
    if hidden := set(exported) - shown - set(NOT_SHOWN):
        raise RuntimeError(f"neither shown nor on the list: {sorted(hidden)}")
    if wrong := set(NOT_SHOWN) & shown:
        raise RuntimeError(f"on the list, but shown: {sorted(wrong)}")
    return len(shown)


async def answer_all(prometheus, expressions, begin, end):
    """Checks that each expression has a sample with a number within the time."""
    for title, expression in expressions:
        if not await prometheus.series(expression, begin, end):
            raise RuntimeError(f"no sample: {title}: {expression}")


async def gauges_are_empty(prometheus, exported):
    """Waits until each gauge is 0 in all processes."""
    gauges = [name for name, kind in exported.items() if kind == "gauge" and name not in NEVER_EMPTY]

    async def all_are():
        found = {name: await prometheus.value(f"max({name})") for name in gauges}
        return not any(found.values()) or found

    await eventually("all gauges are 0", all_are, within=30)
    return len(gauges)


def read_board(path):
    return json.loads(path.read_text())
