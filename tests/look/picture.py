"""The picture of a run: four panels of the board, drawn from what Prometheus has scraped."""

from chart import Line, Panel, even_ticks, svg
from cluster import LIMIT


async def draw(path, prometheus, board, scenes):
    """Draws the run into a file. `board` has the expressions of the board's panels for one semaphore."""
    begin, end = scenes[0].begin, scenes[-1].end

    async def points(title, number=0, **labels):
        """Returns the points of one series of a panel: that of an expression, by its number, with these labels."""
        expression = [expression for name, expression in board if name == title][number]
        found = [
            points
            for found, points in await prometheus.series(expression, begin, end)
            if all(found[label] == value for label, value in labels.items())
        ]
        assert len(found) <= 1, f"{title} has several series: {labels}"
        return found[0] if found else []

    use, queue, wait, ends = "Units in use and limit", "Queue", "Wait for a permit", "Ends of waits"
    queue_line = Line("waiters", "orange", await points(queue))
    end_lines = [
        Line(outcome, colour, await points(ends, outcome=outcome))
        for outcome, colour in (("granted", "blue"), ("timeout", "red"), ("cancelled", "orange"))
    ]
    panels = [
        Panel(
            use,
            "units",
            [Line("in use", "blue", await points(use)), Line("limit", "red", await points(use, 1), dashed=True)],
            ticks=[0, LIMIT / 2, LIMIT],
        ),
        Panel(queue, "waiters", [queue_line], ticks=even_ticks([queue_line])),
        Panel(
            wait,
            "seconds, logarithmic",
            [Line("p50", "blue", await points(wait)), Line("p99", "orange", await points(wait, 1))],
            ticks=[0.001, 0.01, 0.1, 1, 10, 100],
            logarithmic=True,
        ),
        Panel(ends, "per second", end_lines, ticks=even_ticks(end_lines)),
    ]
    path.write_text(svg("Three gateways that share a limit of 16, as Prometheus saw them", panels, scenes))
