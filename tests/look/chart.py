"""Charts over a common time, as an SVG for light and for dark pages."""

import math
from dataclasses import dataclass
from html import escape

WIDTH, LEFT, RIGHT = 880, 56, 16
BANDS, FIRST, PANEL, GAP = 80, 132, 110, 50
# Where the highest tick lies in a panel, so that a line at it is not cut.
HIGHEST_TICK = 0.94

# Each colour for light pages, and for dark ones.
COLOURS = {
    "blue": ("#0a5fd6", "#6cb2ff"),
    "orange": ("#b35900", "#f5a94c"),
    "red": ("#c4122f", "#ff8078"),
}
STYLE = """
text { font: 12px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2328 }
.title { font-size: 15px; font-weight: 600 }
.name { font-weight: 600 }
.faint { fill: #59636e }
.unit { font-weight: 400 }
.page { fill: #ffffff }
.band { fill: #f1f3f6 }
.grid { stroke: #d5dae0; fill: none }
.axis { stroke: #7d8590; fill: none }
.line { stroke-width: 1.6; stroke-linejoin: round; fill: none }
.dashed { stroke-dasharray: 6 4 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.faint { fill: #a2acb6 }
.page { fill: #0d1117 }
.band { fill: #191f27 }
.grid { stroke: #333b45 }
.axis { stroke: #8b949e }
}
"""


@dataclass
class Line:
    """A line of a panel, with points of time and value."""

    label: str
    colour: str
    points: list
    dashed: bool = False


@dataclass
class Panel:
    """A panel with a value axis from its first tick to its last one."""

    title: str
    unit: str
    lines: list
    ticks: list
    logarithmic: bool = False

    def height_of(self, value):
        """Returns where a value lies, from 0 at the bottom to 1 at the top of the panel."""
        low, high = self.ticks[0], self.ticks[-1]
        if self.logarithmic:
            low, high, value = math.log10(low), math.log10(high), math.log10(max(value, low))
        return max(0.0, min(1.0, (value - low) / (high - low))) * HIGHEST_TICK


def even_ticks(lines):
    """Returns three or more round ticks that reach beyond each point."""
    highest = max((value for line in lines for _, value in line.points), default=1) or 1
    step = 10 ** math.floor(math.log10(highest / 2))
    step *= next(factor for factor in (1, 2, 5, 10) if factor * step * 4 >= highest)
    return [step * number for number in range(math.ceil(highest / step) + 1)]


def svg(title, panels, scenes):
    """Returns the picture. Scenes are bands of time, numbered and named above the panels."""
    begin, end = scenes[0].begin, scenes[-1].end
    bottom = FIRST + len(panels) * (PANEL + GAP) - GAP
    height = bottom + 46

    def x(time):
        return LEFT + (time - begin) / (end - begin) * (WIDTH - LEFT - RIGHT)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}{colours()}</style>",
        f'<rect class="page" width="{WIDTH}" height="{height}" rx="6"/>',
        text(LEFT, 26, title, "title"),
        *scene_bands(scenes, x, bottom),
        *scene_names(scenes),
    ]
    for number, panel in enumerate(panels):
        parts += panel_parts(panel, FIRST + number * (PANEL + GAP), x)
    parts += time_axis(begin, end, x, bottom)
    return "\n".join([*parts, "</svg>", ""])


def colours():
    light = "".join(f".{name} {{ stroke: {light} }}\n" for name, (light, _) in COLOURS.items())
    dark = "".join(f".{name} {{ stroke: {dark} }}\n" for name, (_, dark) in COLOURS.items())
    return f"{light}@media (prefers-color-scheme: dark) {{\n{dark}}}\n"


def text(x, y, words, kind="", anchor="start"):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def scene_bands(scenes, x, bottom):
    for number, scene in enumerate(scenes, 1):
        left, right = x(scene.begin), x(scene.end)
        width, height = right - left, bottom - BANDS
        if number % 2:
            yield f'<rect class="band" x="{left:.1f}" y="{BANDS}" width="{width:.1f}" height="{height}"/>'
        yield text((left + right) / 2, BANDS + 15, str(number), "faint", "middle")


def scene_names(scenes):
    """The names lie in two lines, since most bands are too narrow for theirs."""
    names = [f"{number} {scene.title}" for number, scene in enumerate(scenes, 1)]
    half = (len(names) + 1) // 2
    yield text(LEFT, 48, "    ".join(names[:half]).replace(" ", "\u00a0"), "faint")
    yield text(LEFT, 66, "    ".join(names[half:]).replace(" ", "\u00a0"), "faint")


def panel_parts(panel, top, x):
    bottom = top + PANEL
    left, right = LEFT, WIDTH - RIGHT

    def y(value):
        return bottom - PANEL * panel.height_of(value)

    unit = f'<tspan class="faint unit">  {escape(panel.unit)}</tspan>'
    yield f'<text x="{left}" y="{top - 10}" class="name" xml:space="preserve">{escape(panel.title)}{unit}</text>'
    yield from legend(panel.lines, top - 10)
    for tick in panel.ticks:
        kind = "axis" if tick == panel.ticks[0] else "grid"
        yield f'<path class="{kind}" d="M{left} {y(tick):.1f}H{right}"/>'
        yield text(left - 8, y(tick) + 4, f"{tick:g}", "faint", "end")
    for line in panel.lines:
        kind = f"line {line.colour}" + (" dashed" if line.dashed else "")
        yield f'<path class="{kind}" d="{path_of(line.points, x, y)}"/>'


def legend(lines, y):
    """Lies at the right end, above the panel."""
    right = WIDTH - RIGHT
    for line in reversed(lines):
        right -= 7 * len(line.label) + 4
        yield text(right, y, line.label)
        right -= 6
        kind = f"line {line.colour}" + (" dashed" if line.dashed else "")
        yield f'<path class="{kind}" d="M{right - 22:.1f} {y - 4}h22"/>'
        right -= 40


def path_of(points, x, y):
    """A line breaks where samples are missing."""
    parts, last = [], None
    for time, value in points:
        begins = last is None or time - last > 2
        parts.append(f"{'M' if begins else 'L'}{x(time):.1f} {y(value):.1f}")
        last = time
    return "".join(parts)


def time_axis(begin, end, x, y):
    step = next(step for step in (10, 20, 30, 60, 120, 300) if (end - begin) / step <= 12)
    for seconds in range(0, int(end - begin) + 1, step):
        yield text(x(begin + seconds), y + 17, f"{seconds // 60}:{seconds % 60:02}", "faint", "middle")
    yield text(WIDTH - RIGHT, y + 36, "minutes and seconds of the run", "faint", "end")
