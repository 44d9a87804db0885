"""Learning-rate and momentum curves at the points that define them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from ingest.errors import UserError
from train.log import charts
from train.optim.schedules import NAMES, ScheduleConfig, lr_factor, momentum_at, plot


def curve(config, total=100):
    return [lr_factor(config, step, total) for step in range(total)]


class TestPoly:
    def test_definition(self):
        assert curve(ScheduleConfig(), 50) == pytest.approx([(1 - s / 50) ** 0.9 for s in range(50)])
        assert lr_factor(ScheduleConfig(power=2), 25, 50) == pytest.approx(0.25)

    def test_ends_at_min_factor(self):
        assert lr_factor(ScheduleConfig(min_factor=0.1), 50, 50) == pytest.approx(0.1)

    def test_warmup_climbs_in_a_line_and_hands_over_at_1(self):
        config = ScheduleConfig(warmup_steps=4)
        assert curve(config, 20)[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
        assert curve(config, 20)[4:] == pytest.approx([(1 - s / 16) ** 0.9 for s in range(16)])


def test_cosine():
    config = ScheduleConfig(name="cosine")
    assert curve(config, 40) == pytest.approx([(1 + math.cos(math.pi * s / 40)) / 2 for s in range(40)])


def test_constant():
    assert curve(ScheduleConfig(name="constant", warmup_steps=1), 4) == [0.5, 1, 1, 1]


class TestOneCycle:
    CONFIG = ScheduleConfig(name="onecycle")

    def test_the_four_points(self):
        rates = curve(self.CONFIG, 1001)
        assert rates[0] == pytest.approx(1 / 10)
        assert max(rates) == rates[300] == pytest.approx(1.0)
        assert rates[150] == pytest.approx(0.55)  # a line
        assert rates[650] == pytest.approx((1 + 1 / 25) / 2)  # half way down the cosine
        assert rates[1000] == pytest.approx(1 / 25)
        assert rates[:301] == sorted(rates[:301]) and rates[300:] == sorted(rates[300:], reverse=True)

    def test_momentum_mirrors_it(self):
        momenta = [momentum_at(self.CONFIG, s, 1001) for s in range(1001)]
        assert momenta[0] == pytest.approx(0.95) and momenta[1000] == pytest.approx(0.95)
        assert min(momenta) == momenta[300] == pytest.approx(0.85)

    def test_all_numbers_are_settable(self):
        config = ScheduleConfig("onecycle", onecycle_start=5, onecycle_rise=0.5, onecycle_end=100)
        assert [lr_factor(config, s, 101) for s in (0, 50, 100)] == pytest.approx([0.2, 1.0, 0.01])
        config = ScheduleConfig("onecycle", onecycle_momentum=[0.9, 0.5])
        assert [momentum_at(config, s, 1001) for s in (0, 300, 1000)] == pytest.approx([0.9, 0.5, 0.9])
        assert momentum_at(ScheduleConfig("onecycle", onecycle_momentum=[]), 5, 100) is None

    @pytest.mark.parametrize("total", [1, 2, 3])
    def test_tiny_runs(self, total):
        assert all(0 < factor <= 1 for factor in curve(self.CONFIG, total))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("total", [1, 2, 7, 1000])
def test_every_step_of_every_schedule_learns(name, total):
    assert all(0 < factor <= 1 for factor in curve(ScheduleConfig(name=name), total))


@pytest.mark.parametrize("name", ["poly", "cosine", "constant"])
def test_only_onecycle_touches_momentum(name):
    assert momentum_at(ScheduleConfig(name=name), 3, 10) is None


def test_warmup_longer_than_the_run_only_climbs():
    factors = curve(ScheduleConfig(warmup_steps=50), 10)
    assert factors == sorted(factors) and factors[-1] < 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "polly"}, "schedule.name = 'polly'.*did you mean 'poly'"),
        ({"power": 0}, "schedule.power = 0"),
        ({"warmup_steps": 1.5}, "schedule.warmup_steps = 1.5: expected a whole number"),
        ({"min_factor": 1}, "schedule.min_factor = 1"),
        ({"onecycle_start": 0.5}, "schedule.onecycle_start = 0.5"),
        ({"onecycle_rise": 1.0}, "schedule.onecycle_rise = 1.0"),
        ({"onecycle_momentum": [0.9]}, "schedule.onecycle_momentum = .* expected two numbers"),
        ({"onecycle_momentum": [0.9, 1.0]}, r"schedule.onecycle_momentum\[1\] = 1.0"),
        ({"name": "onecycle", "warmup_steps": 5}, "onecycle rises by itself"),
    ],
)
def test_mistakes_name_the_key(settings, message):
    with pytest.raises(UserError, match=message):
        ScheduleConfig(**settings)


class TestPlot:
    def test_draws_the_curve(self, tmp_path):
        plot(ScheduleConfig(), 0.01, 5000, tmp_path / "lr.png")
        pixels = np.asarray(Image.open(tmp_path / "lr.png").convert("RGB")).astype(int)
        assert pixels.shape == (charts.HEIGHT, charts.WIDTH, 3)
        blue = (pixels[..., 2] - pixels[..., 0]) > 80
        rows = [np.flatnonzero(blue[:, x]).mean() for x in range(charts.LEFT + 5, charts.WIDTH - charts.RIGHT - 5)]
        assert np.all(np.diff(rows) >= -0.5) and rows[-1] - rows[0] > 150  # falls, from the top to the bottom

    def test_a_second_panel_for_momentum(self, tmp_path):
        plot(ScheduleConfig("onecycle"), 0.01, 100, tmp_path / "lr.png")
        assert Image.open(tmp_path / "lr.png").size == (charts.WIDTH, 2 * charts.HEIGHT)

    @pytest.mark.parametrize("total", [1, 2])
    def test_tiny_runs(self, tmp_path, total):
        plot(ScheduleConfig("constant"), 0.01, total, tmp_path / "lr.png")
        assert (tmp_path / "lr.png").stat().st_size > 1000

    @pytest.mark.parametrize(("low", "high"), [(0, 0.01), (0.85, 0.95), (3, 3), (0, 0), (-2, 1e6)])
    def test_ticks_enclose_the_values(self, low, high):
        ticks = charts.ticks(low, high)
        assert ticks[0] <= low + 1e-12 and ticks[-1] >= high - 1e-12 and 2 <= len(ticks) <= 8
