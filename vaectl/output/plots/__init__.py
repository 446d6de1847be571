"""Figures: arrays -> matplotlib Figure, in the only place that imports matplotlib."""

from vaectl.output.plots.courses import Cloud, Course, clouds, curves, panels, stacked, strips
from vaectl.output.plots.latents import scatter
from vaectl.output.plots.rates import rate_distortion
from vaectl.output.plots.style import encode, page_svg, save
from vaectl.output.plots.surprises import surprise_bars, surprise_map
from vaectl.output.plots.tiles import MOST_ROWS, code_usage, heat_map, sheet

__all__ = [
    "MOST_ROWS", "Cloud", "Course", "clouds", "code_usage", "curves", "encode", "heat_map", "page_svg", "panels",
    "rate_distortion", "save", "scatter", "sheet", "stacked", "strips", "surprise_bars", "surprise_map",
]  # fmt: skip
