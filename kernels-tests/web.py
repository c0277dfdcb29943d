"""Opens the pages for browsers in Chromium: compares a training run and a prediction with the same plans on a Vulkan driver of this machine,
as `web.rs` has written them, and runs the page of a card, once with a kernel that is broken.

`make test-web` writes all of it before. Chromium has no window and reaches nothing but this process, whose page web.html does the rest. With
`--part` few steps of a smaller run are compared, and the page of the card checks some families: compiling takes most of the time.
"""

import array
import json
import pathlib
import queue
import re
import sys
import time

import browser

FOLDER = pathlib.Path("target/web-test")
# Seconds without an answer after which the browser is given up.
PATIENCE = 300
# Of the loss, and of the largest weight: what the browser and the driver may differ by.
LOSS, WEIGHTS = 1e-6, 1e-5
# Of a logit, as a share of the largest.
LOGITS = 1e-5
# Of a joint, as a share of the largest coordinate.
JOINTS = 1e-5
# Families that `--part` checks, and the kernel that is broken, with its family.
PART = "slice,layer_norm"
BROKEN = ("layer_norm", re.compile(r"kernels/\d+-layer_norm-forward\.wgsl"))
KINDS = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".json": "application/json", ".wgsl": "text/plain"}
# What a sentence must say.
SENTENCES = {
    "a file that is cut off": "was cut off or changed",
    "a file that is missing": "plan.json cannot be loaded: the server answers 404",
    "too few buffers": "The plan needs 1000 storage buffers in a kernel; this browser and card have",
    "a missing feature": "The plan needs the feature no-such-feature",
    "a kernel that does not compile": "does not compile kernels/00",
    "a lost device": "The graphics device was lost",
    "no WebGPU": "This browser has no WebGPU",
    "on a card's page, a file that is cut off": "was cut off or changed",
    "on a card's page, a missing feature": "The plan needs the feature no-such-feature",
    "on a card's page, a lost device": "The graphics device was lost",
}
# Pages that are those of another folder, but for a file.
OTHERS = {"cut": "run", "broken": "card", "cut-card": "card", "lacking-card": "card"}
FOLDERS = {"run", "predict", "mechanism", "card", *OTHERS}


def broken(text):
    """A kernel with the wrong sign of what it writes to its output y."""
    changed, count = re.subn(r"^(\s*y(?:_\d+)?\[[^\]]*\] = )(.*);$", r"\1-(\2);", text, flags=re.M)
    if count == 0:
        sys.exit("test-web: the kernel that should be broken writes no y")
    return changed


def broken_files():
    """Files of the card's page of which one kernel is broken, by name."""
    card = json.loads((FOLDER / "card/card.json").read_text())
    files = {}
    for name in card["kernels"]:
        if BROKEN[1].fullmatch(name):
            files[name] = broken((FOLDER / "card" / name).read_text()).encode()
    card["files"] = [[name, len(files.get(name, b"")) or size] for name, size in card["files"]]
    return files | {"card.json": json.dumps(card).encode()}


class Page(browser.Page):
    """Serves web.html and the pages, some once more with a file that is cut off or broken, and takes what the page tells."""

    def do_GET(self):
        path = self.path.split("?")[0]
        if path == "/":
            return self.reply("text/html", pathlib.Path(__file__).with_suffix(".html").read_bytes())
        if path == "/what":
            return self.reply("application/json", json.dumps(self.server.what).encode())
        _, folder, name = path.split("/", 2) if path.count("/") > 1 else ("", "", "")
        file = FOLDER / OTHERS.get(folder, folder) / name
        if folder not in FOLDERS or ".." in name or not file.is_file():
            return self.reply("text/plain", b"there is no such file", 404)
        content = file.read_bytes()
        if folder == "broken":
            content = self.server.broken.get(name, content)
        if (folder, name) in [("cut", "steps.bin"), ("cut-card", "cases.bin")]:
            content = content[:-1000]
        if (folder, name) == ("lacking-card", "card.json"):
            content = json.dumps(json.loads(content) | {"features": ["no-such-feature"]}).encode()
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
        elif "working" in what:
            print(what["working"], flush=True)
        elif "uniform" in what:
            told["uniform"] = what
        elif "card" in what:
            told[what["card"]] = what
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
    for name, part in SENTENCES.items():
        said = sentences.get(name, "nothing")
        print(f"{name}: {said}")
        if part not in said or "a fault" in said:
            wrong.append(f"{name}: the page says `{said}`, and should say `{part}`")
    return wrong


def judge_page(told):
    """What is wrong with parameters in a uniform buffer, and with the page of a run."""
    wrong, uniform = [], told["uniform"]
    if uniform["immediates"] or uniform["uniform"] != told["losses"][:3]:
        wrong.append(f"with parameters in a uniform buffer the losses are {uniform['uniform']}")
    print(f"the page: {told['page']}")
    if not told["page"].startswith("Paused after") or told["curves"] != 2 or told["rows"] != 4 or told["made"] != 20:
        wrong.append(f"the page says `{told['page']}` and has {told['curves']} curves, {told['rows']} metrics and {told['made']} numbers made")
    return wrong


def judge_prediction(told, expected):
    """What is wrong with the page of a trained model."""
    largest = max(map(abs, expected["logits"]))
    off = max(abs(a - b) for a, b in zip(told["logits"], expected["logits"], strict=True)) / largest
    best = expected["logits"].index(max(expected["logits"]))
    print(f"{told['asked']} Logits apart by {off:.1e} of the largest. Then: {told['wrong']}")
    wrong = []
    if not off <= LOGITS or f"expects {best}, " not in told["asked"]:
        wrong.append(f"the prediction differs by {off:.1e}: `{told['asked']}` should expect {best}")
    if told["wrong"] != "999 is no integer from 0 to 255.":
        wrong.append(f"of a wrong number the page says `{told['wrong']}`")
    return wrong


def judge_mechanism(told, expected):
    """What is wrong with the page of mechanisms."""
    want = [joint for joint in expected["joints"] if joint[0] is not None]
    print(f"{len(told['joints'])} joints of a latent. {told['mechanism']} {told['curve']}")
    wrong = []
    if len(told["joints"]) != len(want):
        return [f"the page makes {len(told['joints'])} joints instead of {len(want)}"]
    pairs = [(a, b) for got, joint in zip(told["joints"], want) for a, b in zip(got, joint, strict=True)]
    off = max(abs(a - b) for a, b in pairs) / max(abs(b) for _, b in pairs)
    print(f"joints apart by {off:.1e} of the largest coordinate")
    if not off <= JOINTS:
        wrong.append(f"the joints differ by {off:.1e}: {told['joints']}, expected {want}")
    if not told["mechanism"].startswith(f"The model ends the mechanism after {told['drawn']} joint") or "% of it is ink" not in told["curve"]:
        wrong.append(f"the page of mechanisms says `{told['mechanism']}` and draws {told['drawn']} joints over: {told['curve']}")
    return wrong


def judge_cards(told, part):
    """What is wrong with the pages of the card: the whole one passes, the broken one does not."""
    wrong = []
    whole, broken = told["card"]["certificate"], told["broken"]["certificate"]
    for family in whole["families"]:
        print(f"{family['name']}: {family['cases']} cases, {family['elements']} numbers, worst {family['worst']:.3f}, {family['failed']} failed")
    for rate in whole["rates"]:
        print(f"{rate['kind']} {rate['title']}: {rate['seconds']} s, {rate['flops']} operations, {rate['bytes']} bytes")
    for run in whole["runs"]:
        print(f"{run['name']}: {1e3 * run['seconds']:.1f} ms a step, RX 6600 at least {1e3 * run['predicted_seconds']:.2f} ms")
    print(f"the page of the card: {told['card']['said']} The broken one: {told['broken']['said']}")
    names = [family["name"] for family in whole["families"]]
    if whole["failures"] or told["card"]["rows"] != len(names) or (part and names != sorted(part.split(","))):
        wrong.append(f"the page of the card says `{told['card']['said']}` of {names}: {whole['failures']}")
    if not part and (len(names) < 40 or len(whole["runs"]) != 4 or len(whole["rates"]) < 10):
        wrong.append(f"the page of the card has {len(names)} families, {len(whole['rates'])} rates and {len(whole['runs'])} runs")
    if not all(run["seconds"] > 0 for run in whole["runs"]) or any(rate["seconds"] == 0 for rate in whole["rates"]):
        wrong.append("something took no time")
    if "do not agree" not in told["broken"]["said"] or [f["name"] for f in broken["families"] if f["failed"] > 0] != [BROKEN[0]]:
        wrong.append(f"of a kernel with a wrong sign the page of the card says `{told['broken']['said']}`")
    return wrong


def main():
    started = time.time()
    program = browser.found("test-web")
    expected = json.loads((FOLDER / "expected.json").read_text())
    part = PART if sys.argv[1:] == ["--part"] else ""
    what = {"part": part, "numbers": expected.get("numbers"), "mechanism": expected.get("mechanism"), "broken": BROKEN[0]}
    with browser.browsing(program, Page, what=what, broken=broken_files()) as (server, log):
        told, sentences, why = listen(server)
    if why:
        sys.exit(f"test-web: {program} has not come to the end: {why}. The last lines of its log:\n{log.last}")
    wrong = [*judge(told, sentences, expected), *judge_cards(told, part)]
    if not part:
        wrong += [*judge_page(told), *judge_prediction(told, expected), *judge_mechanism(told, expected["mechanism"])]
    (FOLDER / "certificate.json").write_text(json.dumps(told["card"]["certificate"], indent=1))
    print(f"{browser.version(program)}, {time.time() - started:.0f} s")
    if wrong:
        sys.exit("test-web: " + "\n".join(wrong))


if __name__ == "__main__":
    main()
