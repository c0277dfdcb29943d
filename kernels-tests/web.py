"""Replays a training run in Chromium, and compares it with the same plan on a Vulkan driver of this machine, as `web.rs` has written it.

`make test-web` writes both before. Chromium has no window and reaches nothing but this process, whose page web.html replays the run.
"""

import array
import json
import pathlib
import queue
import sys
import time

import browser

FOLDER = pathlib.Path("target/web-test")
# Seconds without an answer after which the browser is given up.
PATIENCE = 300
# Of the loss, and of the largest weight: what the browser and the driver may differ by.
LOSS, WEIGHTS = 1e-6, 1e-5
KINDS = {".html": "text/html", ".js": "text/javascript", ".json": "application/json", ".wgsl": "text/plain"}
# What a sentence must say.
SENTENCES = {
    "a file that is cut off": "was cut off or changed",
    "a file that is missing": "plan.json cannot be loaded: the server answers 404",
    "too few buffers": "The plan needs 1000 storage buffers in a kernel; this browser and card have",
    "a missing feature": "The plan needs the feature no-such-feature",
    "a kernel that does not compile": "does not compile kernels/00",
    "a lost device": "The graphics device was lost",
    "no WebGPU": "This browser has no WebGPU",
}


class Page(browser.Page):
    """Serves web.html and the run, once more with a file that is cut off, and takes what the page tells."""

    def do_GET(self):
        path = self.path.split("?")[0]
        if path == "/":
            return self.reply("text/html", pathlib.Path(__file__).with_suffix(".html").read_bytes())
        _, folder, name = path.split("/", 2) if path.count("/") > 1 else ("", "", "")
        file = FOLDER / "run" / name
        if folder not in ("run", "cut") or ".." in name or not file.is_file():
            return self.reply("text/plain", b"there is no such file", 404)
        content = file.read_bytes()
        if folder == "cut" and name == "steps.bin":
            content = content[:-1000]
        self.reply(KINDS.get(file.suffix, "application/octet-stream"), content)

    def do_POST(self):
        self.server.told.put(json.loads(self.told()))
        self.reply("application/json", b"{}")


def listen(server):
    """What the page has told until it ended, and why it ended before it was done."""
    told, sentences = {}, {}
    while True:
        try:
            what = server.told.get(timeout=PATIENCE)
        except queue.Empty:
            return told, sentences, f"it has not answered for {PATIENCE} s"
        if "end" in what:
            return told, sentences, what["end"]
        if "sentence" in what:
            sentences[what["sentence"]] = what["said"]
        elif "uniform" in what:
            told["uniform"] = what
        else:
            told.update(what)


def apart(losses, expected):
    """Largest difference of losses, relative."""
    return max(abs(a - b) / abs(b) for a, b in zip(losses, expected))


def judge(told, sentences, expected):
    """What is wrong with the answers."""
    wrong = []
    losses, steps = expected["losses"], len(expected["losses"])
    weights = array.array("f", (FOLDER / "weights.bin").read_bytes())
    replayed = array.array("f", array.array("I", told["weights"]).tobytes())
    largest = max(map(abs, weights))
    moved = max(abs(a - b) for a, b in zip(weights, array.array("f", (FOLDER / "run/weights.bin").read_bytes())))
    of_loss = apart(told["losses"], losses)
    of_weights = max(abs(a - b) for a, b in zip(replayed, weights)) / largest
    print(f"{steps} steps on {told['adapter']}: loss {losses[0]:.3f} to {losses[-1]:.3f}, weights moved by up to {moved:.3f}")
    print(f"apart from {expected['device']}: loss {of_loss:.1e} of it, weights {of_weights:.1e} of the largest")
    compiled, first, rest = told["seconds"]
    each, natively = 1e3 * rest / (steps - 1), 1e3 * expected["seconds"]
    print(f"compiled in {compiled:.1f} s, first step {first:.2f} s, then {each:.0f} ms a step; natively {natively:.0f} ms")
    if len(told["losses"]) != steps or not told["immediates"]:
        wrong.append(f"{len(told['losses'])} losses of {steps} steps, immediates: {told['immediates']}")
    if not of_loss <= LOSS:
        wrong.append(f"losses differ by {of_loss:.1e}, at most {LOSS:.0e}")
    if not (len(replayed) == len(weights) and of_weights <= WEIGHTS):
        wrong.append(f"weights differ by {of_weights:.1e}, at most {WEIGHTS:.0e}")
    uniform = told["uniform"]
    if uniform["immediates"] or uniform["uniform"] != told["losses"][:3]:
        wrong.append(f"with parameters in a uniform buffer the losses are {uniform['uniform']}")
    for name, part in SENTENCES.items():
        said = sentences.get(name, "nothing")
        print(f"{name}: {said}")
        if not said.startswith("Refused: ") or part not in said:
            wrong.append(f"{name}: the page says `{said}`, and should say `{part}`")
    print(f"the page: {told['page']}")
    if not told["page"].startswith("Paused after") or told["curves"] != 2 or told["rows"] != 4:
        wrong.append(f"the page says `{told['page']}` and has {told['curves']} curves and {told['rows']} metrics")
    return wrong


def main():
    started = time.time()
    program = browser.found("test-web")
    expected = json.loads((FOLDER / "expected.json").read_text())
    with browser.browsing(program, Page) as (server, log):
        told, sentences, why = listen(server)
    if why:
        sys.exit(f"test-web: {program} has not come to the end: {why}. The last lines of its log:\n{log.last}")
    wrong = judge(told, sentences, expected)
    print(f"{browser.version(program)}, {time.time() - started:.0f} s")
    if wrong:
        sys.exit("test-web: " + "\n".join(wrong))


if __name__ == "__main__":
    main()
