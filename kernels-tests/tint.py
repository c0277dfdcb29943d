"""Compiles the kernels under target/kernels with Tint, the WGSL compiler of Chromium, as modules and as pipelines on its software adapter.

`make test-tint` writes the kernels before. Chromium has no window and reaches nothing but this process, whose page tint.html compiles them.
"""

import json
import pathlib
import queue
import sys
import time

import browser
from verdict import end, kernels

# Seconds without an answer after which the browser is given up; a kernel takes up to ten.
PATIENCE = 180
# Kernels that Tint must refuse, or the check says nothing.
WRONG = {
    "a name that is not declared": "@compute @workgroup_size(64) fn main() { missing[0] = 1.0; }",
    "a barrier that not all invocations reach": """@compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lane: u32) {
        if (lane == 0u) { workgroupBarrier(); } }""",
    "more workgroup memory than there is": """var<workgroup> rows: array<u32, 16384>;
        @group(0) @binding(0) var<storage, read_write> y: array<u32>;
        @compute @workgroup_size(64) fn main() { y[0] = rows[y[1]]; }""",
}


class Page(browser.Page):
    """Serves tint.html, and answers what it tells."""

    def do_GET(self):
        self.reply("text/html", pathlib.Path(__file__).with_suffix(".html").read_bytes())

    def do_POST(self):
        told = json.loads(self.told())
        work = self.server.work(told["features"]) if "features" in told else []
        self.server.told.put(told)
        self.reply("application/json", json.dumps(work).encode())


def listen(server, answers):
    """Takes what the page tells until it has ended; returns its adapter, and why it ended before it was done."""
    adapter = None
    while True:
        try:
            told = server.told.get(timeout=PATIENCE)
        except queue.Empty:
            return adapter, f"it has not answered for {PATIENCE} s"
        if "end" in told:
            return adapter, told["end"]
        if "name" in told:
            answers[told["name"]] = told["said"]
            if len(answers) % 50 == 0:
                print(f"{len(answers)} compiled", flush=True)
        else:
            adapter = told["adapter"]


def main():
    started = time.time()
    program = browser.found("test-tint")
    texts = kernels("wgsl")
    left_out = []

    def work(features):
        if "shader-f16" not in features:
            left_out.extend(name for name, text in texts.items() if "enable f16;" in text)
        return [*WRONG.items(), *((name, text) for name, text in texts.items() if name not in left_out)][::-1]

    answers = {}
    with browser.browsing(program, Page, work=work) as (server, log):
        adapter, why = listen(server, answers)
    if why:
        print(f"test-tint: {program} has not compiled all kernels: {why}. The last lines of its log:\n{log.last}", file=sys.stderr)
    if adapter is None:
        sys.exit("test-tint: the browser has compiled nothing")
    for what in WRONG:
        if answers.pop(what, [["no answer"], []])[0] == []:
            sys.exit(f"test-tint: Tint compiles a kernel with {what}, so that this check would say nothing")
    for name in texts:
        if name not in left_out:
            answers.setdefault(name, [["no answer"], []])
    left = f"; {len(left_out)} left out, as the adapter has no numbers of 16 bits" if left_out else ""
    end(texts, answers, f"{browser.version(program)} on {adapter}, {time.time() - started:.0f} s{left}")


if __name__ == "__main__":
    main()
