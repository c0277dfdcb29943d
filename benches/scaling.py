"""How a step grows with the batch, the width, the length and the layers of one transformer, the engine's and PyTorch's: a table and a picture.

`python3 benches/scaling.py PICTURE.svg [ROUNDS]` measures the engine alone; `make bench-peers` measures both.
"""

import math
import pathlib
import statistics
import sys
import tomllib
from functools import partial

from timing import ENGINE, ROOT, engine_step, in_turn, table

RUN, SIZES = "lvm_transformer", {"batch": 8, "width": 64, "length": 4, "layers": 1}
# What each curve starts from, and by which factors it grows.
STARTS = {"batch": SIZES, "width": SIZES, "length": SIZES | {"batch": 1, "length": 64}, "layers": SIZES}
FACTORS = {"batch": [1, 2, 4, 8], "width": [1, 2, 4, 8], "length": [1, 4, 16, 64], "layers": [1, 2, 4, 8]}
COLORS = ["#2d5fa5", "#d56a30", "#3c9150", "#b43c46"]


def keys(batch, width, length, layers):
    given = {"train.batch": batch, "data.context": length, "data.dim": width, "model.layers": layers}
    return given | {"model.width": width, "model.feed_forward": 4 * width, "model.heads": 4}


def sets(**sizes):
    return [f"{key}={value}" for key, value in keys(**sizes).items()]


BASE = sets(**SIZES)


def run_of(**sizes):
    """The run file with these sizes, as a table."""
    run = tomllib.loads((ROOT / f"data/runs/{RUN}.toml").read_text())
    for key, value in keys(**sizes).items():
        section, name = key.split(".")
        run[section][name] = value
    return run


def picture(curves):
    """An SVG with logarithmic axes: factors of a size across, milliseconds up. `curves` is {program: {size: milliseconds}}."""
    low, high = (f(v for program in curves.values() for values in program.values() for v in values) for f in (min, max))
    most = max(factors[-1] for factors in FACTORS.values())
    first, last = math.floor(math.log2(low)), math.ceil(math.log2(high))
    x = lambda factor: 70 + 440 * math.log2(factor) / math.log2(most)
    y = lambda ms: 330 - 290 * (math.log2(ms) - first) / (last - first)
    text = lambda at, up, what, anchor="middle": f'<text x="{at:.1f}" y="{up:.1f}" text-anchor="{anchor}">{what}</text>'
    line = lambda points, style: f'<polyline points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in points)}" fill="none" {style}/>'
    parts = [text(290, 22, f"ms a step of {RUN}, reduced, against the factor of one size"), text(290, 372, "factor")]
    for power in range(int(math.log2(most)) + 1):
        parts += [line([(x(2**power), 40), (x(2**power), 330)], 'stroke="#e4e4e4"'), text(x(2**power), 348, f"×{2**power}")]
    for power in range(first, last + 1):
        parts += [line([(70, y(2**power)), (510, y(2**power))], 'stroke="#e4e4e4"'), text(62, y(2**power) + 4, f"{2**power:g}", "end")]
    drawn = [
        (f"{program}: {name}, from {STARTS[name][name]}", list(zip(FACTORS[name], values)), f'stroke="{color}" stroke-width="2"{dash}')
        for (program, sizes), dash in zip(curves.items(), ["", ' stroke-dasharray="5 4"'])
        for (name, values), color in zip(sizes.items(), COLORS)
    ]
    for i, (name, values, style) in enumerate(drawn):
        points = [(x(factor), y(ms)) for factor, ms in values]
        parts += [line(points, style), line([(530, 50 + 20 * i), (552, 50 + 20 * i)], style), text(560, 54 + 20 * i, name, "start")]
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="white" {style.split(" stroke-dasharray")[0]}/>' for a, b in points]
    body = "\n".join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="760" height="385" font-family="sans-serif" font-size="12">\n<rect width="760" height="385" fill="white"/>\n{body}\n</svg>\n'


def draw(path, rounds, pytorch=None):
    """Measures, writes the picture and gives the table. `pytorch` makes of a run a function that times its step."""
    run = ROOT / f"data/runs/{RUN}.toml"
    sizes = {name: [STARTS[name] | {name: factor * STARTS[name][name]} for factor in FACTORS[name]] for name in SIZES}
    point = lambda program, given: (program, *given.values())
    # Curves that start from the same sizes share that point.
    programs = {point("engine", given): partial(engine_step, ENGINE, run, sets(**given)) for of_one in sizes.values() for given in of_one}
    if pytorch:
        programs |= {point("PyTorch", given): partial(once, pytorch, given) for of_one in sizes.values() for given in of_one}
    times = in_turn(programs, rounds)
    names = ["engine", *(["PyTorch"] if pytorch else [])]
    curves = {who: {name: [statistics.median(times[point(who, given)]) for given in sizes[name]] for name in SIZES} for who in names}
    path.write_text(picture(curves))
    rows = [
        [f"{who}: {name}, from {STARTS[name][name]}", *(f"{ms:.2f} (×{factor})" for factor, ms in zip(FACTORS[name], values))]
        for who, of_who in curves.items()
        for name, values in of_who.items()
    ]
    return table([["size", "", "", "", ""], *rows])


def once(pytorch, given):
    """Builds the model anew, so that no more than one is in memory."""
    return pytorch(run_of(**given))()


if __name__ == "__main__":
    print(draw(pathlib.Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1))
