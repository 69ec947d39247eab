"""A real Prometheus, over its HTTP API."""

import asyncio
import json
import math
import re
import urllib.error
import urllib.parse
import urllib.request


def sixty_times_faster(text):
    """Returns rules in which a minute is a second."""
    return re.sub(r"\b(\d+)m\b", r"\1s", text)


def configuration(example, targets):
    """Returns the example's configuration, with other targets, which are scraped each second."""
    config, intervals = re.subn(r"(_interval:) \d+s", r"\1 1s", example)
    listed = ", ".join(f'"{target}"' for target in targets)
    config, lists = re.subn(r"targets: \[.*\]", f"targets: [{listed}]", config)
    assert (intervals, lists) == (2, 1), example
    return config


class Prometheus:
    """What Prometheus has scraped."""

    def __init__(self, url):
        self.url = url

    async def _get(self, path, **parameters):
        url = f"{self.url}{path}?{urllib.parse.urlencode(parameters)}"

        def get():
            try:
                with urllib.request.urlopen(url, timeout=30) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                raise RuntimeError(f"{url}: {error.read().decode()}") from error

        return (await asyncio.to_thread(get))["data"]

    async def query(self, expression):
        """Returns the samples of now: a list of labels and value."""
        samples = (await self._get("/api/v1/query", query=expression))["result"]
        return [(sample["metric"], float(sample["value"][1])) for sample in samples]

    async def value(self, expression):
        """Returns the value of an expression that has one sample, or none."""
        samples = await self.query(expression)
        assert len(samples) <= 1, f"{expression}: {samples}"
        return samples[0][1] if samples else None

    async def series(self, expression, begin, end):
        """Returns the finite samples of each second: a list of labels, and of times and values."""
        found = await self._get("/api/v1/query_range", query=expression, start=begin, end=end, step=1)
        series = [
            (one["metric"], [(time, float(value)) for time, value in one["values"] if math.isfinite(float(value))])
            for one in found["result"]
        ]
        return [(labels, values) for labels, values in series if values]

    async def alerts(self):
        """Returns name and expression of each alert, as Prometheus has loaded them."""
        groups = (await self._get("/api/v1/rules", type="alert"))["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        return {rule["name"]: rule["query"] for rule in rules}

    async def firing(self):
        return {labels["alertname"] for labels, _ in await self.query('ALERTS{alertstate="firing"}')}
