"""Compiles the kernels under target/kernels with Tint, the WGSL compiler of Chromium, as modules and as pipelines on its software adapter.

`make test-tint` writes the kernels before. Chromium has no window and reaches nothing but this process, whose page tint.html compiles them.
"""

import http.server
import json
import os
import pathlib
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time

from verdict import end, kernels

NAMES = [os.environ.get("CHROMIUM", "chromium"), "chromium-browser", "google-chrome", "google-chrome-stable"]
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
]
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


class Page(http.server.BaseHTTPRequestHandler):
    """Serves tint.html, and answers what it tells."""

    def reply(self, kind, content):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self):
        self.reply("text/html", pathlib.Path(__file__).with_suffix(".html").read_bytes())

    def do_POST(self):
        told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        work = self.server.work(told["features"]) if "features" in told else []
        self.server.told.put(told)
        self.reply("application/json", json.dumps(work).encode())

    def log_message(self, *_):
        pass


def listen(server, browser, answers):
    """Takes what the page tells until it has ended; returns its adapter, and why it ended before it was done."""
    threading.Thread(target=lambda: (browser.wait(), server.told.put({"end": "it has closed"})), daemon=True).start()
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


def stop(browser):
    browser.terminate()
    try:
        browser.wait(20)
    except subprocess.TimeoutExpired:
        browser.kill()


def main():
    started = time.time()
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        sys.exit("test-tint: Chromium is not here: `apt install chromium`, or give its program as CHROMIUM=PATH")
    texts = kernels("wgsl")
    left_out = []

    def work(features):
        if "shader-f16" not in features:
            left_out.extend(name for name, text in texts.items() if "enable f16;" in text)
        return [*WRONG.items(), *((name, text) for name, text in texts.items() if name not in left_out)][::-1]

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    server.work, server.told = work, queue.Queue()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    answers = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, tempfile.TemporaryFile("w+") as log:
        command = [program, *FLAGS, f"--user-data-dir={profile}", f"http://127.0.0.1:{server.server_port}/"]
        browser = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            adapter, why = listen(server, browser, answers)
        finally:
            stop(browser)
        log.seek(0)
        last = "".join(log.readlines()[-10:])
    if why:
        print(f"test-tint: {program} has not compiled all kernels: {why}. The last lines of its log:\n{last}", file=sys.stderr)
    if adapter is None:
        sys.exit("test-tint: the browser has compiled nothing")
    for what in WRONG:
        if answers.pop(what, [["no answer"], []])[0] == []:
            sys.exit(f"test-tint: Tint compiles a kernel with {what}, so that this check would say nothing")
    for name in texts:
        if name not in left_out:
            answers.setdefault(name, [["no answer"], []])
    version = subprocess.run([program, "--version"], capture_output=True, text=True).stdout.strip()
    left = f"; {len(left_out)} left out, as the adapter has no numbers of 16 bits" if left_out else ""
    end(texts, answers, f"{version} on {adapter}, {time.time() - started:.0f} s{left}")


if __name__ == "__main__":
    main()
