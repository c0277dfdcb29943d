"""How the engine's step grows with the batch, the width, the length and the layers of one transformer: a table and a picture."""

import math
import statistics
from functools import partial

from timing import ENGINE, ROOT, engine_step, in_turn, table

RUN, FACTORS = "lvm_transformer", [1, 2, 4, 8]
SIZES = {"batch": 8, "width": 64, "length": 4, "layers": 1}
COLORS = ["#2d5fa5", "#d56a30", "#3c9150", "#b43c46"]


def sets(batch, width, length, layers):
    given = {"train.batch": batch, "data.context": length, "data.dim": width, "model.layers": layers}
    given |= {"model.width": width, "model.feed_forward": 4 * width, "model.heads": 4}
    return [f"{key}={value}" for key, value in given.items()]


BASE = sets(**SIZES)


def picture(curves):
    """An SVG with logarithmic axes: factors of a size across, milliseconds up."""
    low, high = (f(v for values in curves.values() for v in values) for f in (min, max))
    first, last = math.floor(math.log2(low)), math.ceil(math.log2(max(high, low * FACTORS[-1])))
    x = lambda factor: 70 + 440 * math.log2(factor) / math.log2(FACTORS[-1])
    y = lambda ms: 330 - 290 * (math.log2(ms) - first) / (last - first)
    text = lambda at, up, what, anchor="middle": f'<text x="{at:.1f}" y="{up:.1f}" text-anchor="{anchor}">{what}</text>'
    line = lambda points, style: f'<polyline points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in points)}" fill="none" {style}/>'
    parts = [text(290, 22, f"ms a step of {RUN}, reduced, against the factor of one size"), text(290, 372, "factor")]
    for factor in FACTORS:
        parts += [line([(x(factor), 40), (x(factor), 330)], 'stroke="#e4e4e4"'), text(x(factor), 348, f"×{factor}")]
    for power in range(first, last + 1):
        parts += [line([(70, y(2**power)), (510, y(2**power))], 'stroke="#e4e4e4"'), text(62, y(2**power) + 4, f"{2**power:g}", "end")]
    middle = statistics.median(values[0] for values in curves.values())
    drawn = {f"{name}, from {SIZES[name]}": (values, f'stroke="{c}" stroke-width="2"') for (name, values), c in zip(curves.items(), COLORS)}
    drawn["in proportion"] = ([middle * factor for factor in FACTORS], 'stroke="#6e6e6e" stroke-dasharray="6 4"')
    for i, (name, (values, style)) in enumerate(drawn.items()):
        points = [(x(factor), y(ms)) for factor, ms in zip(FACTORS, values)]
        parts += [line(points, style), line([(530, 50 + 20 * i), (552, 50 + 20 * i)], style), text(560, 54 + 20 * i, name, "start")]
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="white" {style}/>' for a, b in points if "dash" not in style]
    body = "\n".join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="690" height="385" font-family="sans-serif" font-size="12">\n<rect width="690" height="385" fill="white"/>\n{body}\n</svg>\n'


def draw(path, rounds):
    """Measures, writes the picture and gives the table."""
    run = ROOT / f"data/runs/{RUN}.toml"
    points = {name: [tuple(sets(**{**SIZES, name: factor * SIZES[name]})) for factor in FACTORS] for name in SIZES}
    # What all four start from is one point.
    times = in_turn({point: partial(engine_step, ENGINE, run, point) for all_four in points.values() for point in all_four}, rounds)
    curves = {name: [statistics.median(times[point]) for point in points[name]] for name in SIZES}
    path.write_text(picture(curves))
    rows = [[f"{name}, from {SIZES[name]}", *(f"{v:.2f}" for v in values)] for name, values in curves.items()]
    return table([["size", *(f"×{factor}" for factor in FACTORS)], *rows])
