"""The report's curves: SVG that stands without scripts, with the points beside it for the readout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from train.log.charts import ticks
from train.report.run import Points, RunRecord
from train.report.text import embedded, number

WIDTH, HEIGHT = 440, 230  # of the drawing, its own units: a phone shows it at about that size
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 10, 38
MOST_POINTS = 240  # of a curve: it gets about as many pixels
# Told apart by lightness and dashes too, for print and for the color-blind.
INKS = (
    ("#1f63b5", ""),
    ("#d9630d", "6 3"),
    ("#2a7f4f", "2 2"),
    ("#8a3fa8", "8 3 2 3"),
    ("#9a7a00", "4 4"),
    ("#444444", "1 3"),
)


@dataclass(frozen=True)
class Series:
    """One line of a chart."""

    name: str
    points: Points
    ink: int = 0
    """Of INKS: training is always the first, validation the second."""


@dataclass(frozen=True)
class Chart:
    """Curves over the steps that share a unit."""

    title: str
    unit: str
    series: Sequence[Series]
    from_zero: bool = False
    """The axis starts at 0: where the size matters more than the change."""
    best: tuple[int, float] | None = None
    """A point to ring."""


def charts(run: RunRecord) -> list[Chart]:
    """Every curve of the log that has a finite value, the known ones first."""
    train, val = run.curves["train"], run.curves["val"]
    losses = [name for name in train if name in ("ce", "dice", "focal", "lovasz", "aux")]
    # a single loss is its only part: once is enough
    parts = [name for name in losses if train[name] != train.get("loss")]
    known = {"loss", "miou", "pixel_accuracy", "momentum", "images_per_second", "data_wait_share", "gradient_norm"}
    known |= {"memory_gb", "seconds_per_step", *losses}
    miou = Chart("mIoU", "%", _both(run, "miou", 100), best=best_miou(run, 100))
    found = [
        Chart(
            "Loss",
            "",
            [*_both(run, "loss"), *(Series(name, train[name], ink) for ink, name in enumerate(parts, start=2))],
        ),
        miou,
        Chart("Pixel accuracy", "%", _both(run, "pixel_accuracy", 100)),
        Chart("Learning rate", "", _merged(run.curves["lr"])),
        Chart("Momentum", "", [Series("momentum", train.get("momentum", {}))]),
        Chart("Speed", "images/s", _both(run, "images_per_second"), from_zero=True),
        Chart("Waiting for data", "% of step time", [_scaled("wait", train.get("data_wait_share", {}), 100)], True),
        Chart("Gradient norm", "", [Series("gradient norm", train.get("gradient_norm", {}))]),
        Chart("Peak memory", "GB", [Series("memory", train.get("memory_gb", {}))], from_zero=True),
        Chart("Time per step", "s", [Series("one step", train.get("seconds_per_step", {}))], from_zero=True),
        *(Chart(name, "", [Series(name, train[name])]) for name in train if name not in known),
        *(Chart(f"val {name}", "", [Series(name, val[name])]) for name in val if name not in known | _class_names(val)),
    ]
    return [chart for chart in map(_finite, found) if chart.series]


def best_miou(run: RunRecord, factor: float = 1) -> tuple[int, float] | None:
    """(step, mIoU x factor) of the best validation, of equals the first; None without one."""
    scored = [(step, value) for step, value in run.curve("val", "miou").items() if value is not None]
    if not scored:
        return None
    step, value = max(scored, key=lambda pair: (pair[1], -pair[0]))
    return step, value * factor


@dataclass(frozen=True)
class Place:
    """A point as drawn: a logged value, or the mean, lowest and highest of a stretch of them."""

    step: int
    value: float | None
    low: float | None = None
    high: float | None = None


def thin(points: Points, most: int = MOST_POINTS) -> list[Place]:
    """At most so many points: those of the log, or means of stretches of equal length, with their extremes.

    A stretch stands at its last step. Values that are not finite count in none, and break the line where they are all.
    """
    logged = list(points.items())
    stretch = math.ceil(len(logged) / most)
    if stretch <= 1:
        return [Place(step, value) for step, value in logged]
    places = []
    for start in range(0, len(logged), stretch):
        part = logged[start : start + stretch]
        finite = [value for _, value in part if value is not None]
        mean = math.fsum(finite) / len(finite) if finite else None
        places.append(Place(part[-1][0], mean, min(finite, default=None), max(finite, default=None)))
    return places


def figure(chart: Chart, resumed: Sequence[int], last_step: int) -> str:
    """A chart as HTML: heading and legend, the SVG, a line for the readout, and the points for it."""
    values = [value for series in chart.series for value in series.points.values() if value is not None]
    scale = _Scale(values, chart.from_zero, last_step)
    lines = [thin(series.points) for series in chart.series]
    drawn, facts = [], []
    legend = ""
    for series, points in zip(chart.series, lines, strict=True):
        color, dash = INKS[series.ink % len(INKS)]
        if len(chart.series) > 1 or series.name in ("train", "validation"):
            legend += _key(series.name, color, dash)
        drawn.append(_line(scale, points, color, dash))
        facts.append({"name": series.name, "color": color, "points": [_packed(place) for place in points]})
    if chart.best:
        x, y = scale.at(*chart.best)
        drawn.append(f'<circle class="ring" cx="{x:.1f}" cy="{y:.1f}" r="5"><title>best</title></circle>')
    marks = [scale.x(step) for step in resumed if scale.first < step <= scale.last]
    drawn += [f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>' for x in marks]
    scaling = {"first": scale.first, "last": scale.last, "low": scale.low, "high": scale.high, "log": scale.log}
    box = {"left": LEFT, "right": WIDTH - RIGHT, "top": TOP, "bottom": HEIGHT - BOTTOM}
    unit = f' <span class="unit">{escape(chart.unit)}{" (log scale)" * scale.log}</span>'
    return (
        f'<figure class="chart"><figcaption><h3>{escape(chart.title)}{unit}</h3><span class="legend">{legend}</span>'
        f'</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" tabindex="0" '
        f'aria-label="{escape(_described(chart))}">{_axes(scale)}{"".join(drawn)}</svg>'
        f"<output>{escape(_readout(chart))}</output>"
        f"{embedded({'unit': chart.unit, 'box': box, 'scale': scaling, 'series': facts})}</figure>"
    )


class _Scale:
    """Steps and values -> places in the drawing."""

    def __init__(self, values: Sequence[float], from_zero: bool, last: int) -> None:
        low, high = min(values), max(values)
        middle = sorted(values)[len(values) // 2]
        # A few values that dwarf the rest would press it flat.
        self.log = not from_zero and low > 0 and high > 50 * middle
        if self.log:
            down, up = math.floor(math.log10(low)), math.ceil(math.log10(high))
            self.ticks = [10.0**power for power in range(down, up + 1, max(1, (up - down) // 5))]
        else:
            self.ticks = ticks(min(0.0, low) if from_zero else low, high)
        self.low, self.high = self.ticks[0], max(self.ticks[-1], high)
        # from the start, so that all charts have one axis
        self.first, self.last = 0, max(last, 1)

    def x(self, step: float) -> float:
        return LEFT + (step - self.first) / (self.last - self.first) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def at(self, step: int, value: float) -> tuple[float, float]:
        return self.x(step), self.y(value)


def _line(scale: _Scale, points: Sequence[Place], color: str, dash: str) -> str:
    """A line that is broken where a value is missing; dots where there are few points, or one alone.

    Around the means of stretches a pale band from the lowest to the highest.
    """
    pieces: list[list[str]] = [[]]
    for place in points:
        if place.value is None:
            pieces.append([])
        else:
            pieces[-1].append("{:.1f},{:.1f}".format(*scale.at(place.step, place.value)))
    highs = ["{:.1f},{:.1f}".format(*scale.at(p.step, p.high)) for p in points if p.high is not None]
    lows = ["{:.1f},{:.1f}".format(*scale.at(p.step, p.low)) for p in points if p.low is not None]
    band = f'<polygon points="{" ".join([*highs, *reversed(lows)])}" fill="{color}"/>' if highs else ""
    style = f'stroke="{color}" stroke-dasharray="{dash}"'
    lines = [f'<polyline points="{" ".join(piece)}" {style}/>' for piece in pieces if len(piece) > 1]
    sparse = len(points) <= 30
    dots = [place.split(",") for piece in pieces for place in piece if sparse or len(piece) == 1]
    return "".join([band, *lines, *(f'<circle cx="{x}" cy="{y}" r="2.4" fill="{color}"/>' for x, y in dots)])


def _key(name: str, color: str, dash: str) -> str:
    line = f'<line x1="0" x2="22" y1="4" y2="4" stroke="{color}" stroke-width="2" stroke-dasharray="{dash}"/>'
    return f'<span class="key"><svg width="22" height="8" aria-hidden="true">{line}</svg>{escape(name)}</span>'


def _axes(scale: _Scale) -> str:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    drawn = []
    for tick in scale.ticks:
        y = scale.y(tick)
        drawn.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        drawn.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{number(tick)}</text>')
    steps = [tick for tick in ticks(scale.first, scale.last, 6) if scale.first <= tick <= scale.last]
    for tick in steps:
        x = scale.x(tick)
        drawn.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom + 3}"/>')
        # the outermost numbers must not be cut off
        anchor = "end" if x > right - 16 else "middle"
        drawn.append(f'<text x="{min(x, right):.1f}" y="{bottom + 17}" text-anchor="{anchor}">{number(tick)}</text>')
    drawn.append(f'<text x="{(LEFT + right) / 2:.0f}" y="{HEIGHT - 4}" text-anchor="middle">step</text>')
    return "".join(drawn) + f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{right}"/>'


def _described(chart: Chart) -> str:
    """What the picture shows, in words."""
    parts = []
    for series in chart.series:
        finite = [(step, value) for step, value in series.points.items() if value is not None]
        (first, start), (last, end) = finite[0], finite[-1]
        values = [value for _, value in finite]
        parts.append(
            f"{series.name}: {number(start)} at step {first:,}, {number(end)} at step {last:,}, "
            f"lowest {number(min(values))}, highest {number(max(values))}"
        )
    unit = f" in {chart.unit}" if chart.unit else ""
    return f"{chart.title}{unit} over the steps. {'; '.join(parts)}."


def _readout(chart: Chart) -> str:
    """The last values: what stands below the chart until something is pointed at."""
    last = max(max(series.points) for series in chart.series)
    parts = []
    for series in chart.series:
        step, value = next((s, v) for s, v in reversed(series.points.items()) if v is not None)
        parts.append(f"{series.name} {number(value)}" + (f" (at {step:,})" if step != last else ""))
    return f"step {last:,}: {', '.join(parts)}"


def _both(run: RunRecord, name: str, factor: float = 1) -> list[Series]:
    return [
        _scaled("train", run.curve("train", name), factor),
        _scaled("validation", run.curve("val", name), factor, ink=1),
    ]


def _scaled(name: str, points: Points, factor: float, ink: int = 0) -> Series:
    return Series(name, {step: None if value is None else value * factor for step, value in points.items()}, ink)


def _merged(curves: dict[str, Points]) -> list[Series]:
    """Groups of parameters that always have the same rate are one line."""
    lines: list[tuple[list[str], Points]] = []
    for name, points in curves.items():
        same = next((names for names, others in lines if others == points), None)
        if same is None:
            lines.append(([name], points))
        else:
            same.append(name)
    if len(lines) == 1:
        return [Series("learning rate", lines[0][1])]
    return [Series(", ".join(names), points, ink) for ink, (names, points) in enumerate(lines)]


def _packed(place: Place) -> list[float | None]:
    """For the readout: six digits are what it can use."""
    values = [place.value] if place.low is None else [place.value, place.low, place.high]
    return [place.step, *(None if value is None else float(f"{value:.6g}") for value in values)]


def _class_names(val: dict[str, Points]) -> set[str]:
    return {name for name in val if name.startswith("iou/")}


def _finite(chart: Chart) -> Chart:
    """Without the series that have no finite value."""
    kept = [series for series in chart.series if any(value is not None for value in series.points.values())]
    return Chart(chart.title, chart.unit, kept, chart.from_zero, chart.best)
