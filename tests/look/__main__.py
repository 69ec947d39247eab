"""Scrapes gateways under load with a real Prometheus, and proves alerts and board. `scripts/look` starts it."""

import asyncio
import signal
import sys
import time
from argparse import ArgumentParser
from pathlib import Path

import mutations
import picture
import proofs
from cluster import NAME, Cluster
from processes import Processes
from scenes import Scenes

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples/prometheus"


def say(line):
    print(f"{time.strftime('%X')}  {line}", flush=True)


def parse():
    parser = ArgumentParser(prog="tests/look")
    for program in ("gateway", "zsem", "prometheus", "promtool"):
        parser.add_argument(f"--{program}", required=True)
    parser.add_argument("--folder", required=True, type=Path)
    parser.add_argument("--picture", required=True, type=Path)
    return parser.parse_args()


def check_files(promtool):
    proofs.promtool(promtool, "check", "config", "prometheus.yml", cwd=EXAMPLES)
    proofs.promtool(promtool, "check", "rules", "alerts.yml", cwd=EXAMPLES)
    proofs.promtool(promtool, "test", "rules", "alerts_test.yml", cwd=EXAMPLES)
    say("promtool: check config, check rules, test rules")


def check_tests(promtool):
    number, survivors = mutations.survivors(promtool, EXAMPLES / "alerts.yml", EXAMPLES / "alerts_test.yml")
    if survivors:
        raise RuntimeError("the tests of the alerts do not notice:\n" + "\n".join(survivors))
    say(f"the tests of the alerts notice each of {number} changes of the alerts")


async def look(options):
    async with Processes(options.folder) as processes:
        cluster = Cluster(processes, options, EXAMPLES)
        await cluster.start()
        scenes = Scenes(cluster, say)
        await scenes.play()
        await check_what_was_scraped(cluster, scenes, options)


async def check_what_was_scraped(cluster, scenes, options):
    prometheus, text = cluster.prometheus, await cluster.metrics()
    proofs.promtool(options.promtool, "check", "metrics", text=text)
    say("promtool: check metrics")

    alerts, board = await prometheus.alerts(), proofs.read_board(EXAMPLES / "grafana.json")
    if scenes.fired != set(alerts):
        raise RuntimeError(f"fired and not in the file, or the other way round: {scenes.fired ^ set(alerts)}")
    panels, exported = proofs.board_expressions(board), proofs.exported_names(text)
    begin, end = scenes.played[0].begin, scenes.played[-1].end
    await proofs.answer_all(prometheus, panels, begin, end)
    say(f"all {len(alerts)} alerts have fired, all {len(panels)} expressions of the board are answered")
    number = proofs.check_names(exported, [*alerts.values(), *(expression for _, expression in panels)])
    say(f"all names that are used are exported, and all {number} that are exported are used")
    number = await proofs.gauges_are_empty(prometheus, exported)
    say(f"all {number} gauges are 0 at the end")
    await picture.draw(options.picture, prometheus, proofs.board_expressions(board, NAME), scenes.played)
    say(f"{options.picture} shows the run")


def main():
    options = parse()
    # As Ctrl-C: what was started is ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        check_files(options.promtool)
        asyncio.run(look(options))
        check_tests(options.promtool)
    except RuntimeError as error:
        sys.exit(f"scripts/look: {error}")
    except KeyboardInterrupt:
        sys.exit("scripts/look: stopped before the end")


main()
