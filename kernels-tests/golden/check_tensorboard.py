"""Reads the event files of a run with TensorBoard's own reader and compares them with metrics.jsonl.

    pip install tensorboard && python3 kernels-tests/golden/check_tensorboard.py RUN_FOLDER
"""

import json
import pathlib
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

folder = pathlib.Path(sys.argv[1])
events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
events.Reload()
found = {tag: {e.step: e.value for e in events.Scalars(tag)} for tag in events.Tags()["scalars"]}
checked = 0
for line in (folder / "metrics.jsonl").read_text().splitlines():
    record = json.loads(line)
    split, step = record.pop("split"), record.pop("step")
    for name, value in record.items():
        if name != "epoch":
            read = found[f"{split}/{name}"][step]
            assert abs(read - value) <= 1e-6 * max(1.0, abs(value)), (split, name, step, read, value)
            checked += 1
assert checked > 0
print(f"{checked} scalars under {len(found)} tags agree with metrics.jsonl")
