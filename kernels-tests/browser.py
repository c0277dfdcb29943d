"""Chromium without a window, on its software adapter, for the checks that need a browser. It reaches nothing but this process."""

import contextlib
import http.server
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading

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


def found(check):
    """The program of the browser; ends this one where there is none."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        sys.exit(f"{check}: Chromium is not here: `make browser`, or give its program as CHROMIUM=PATH")
    return program


def version(program):
    return subprocess.run([program, "--version"], capture_output=True, text=True).stdout.strip()


class Page(http.server.BaseHTTPRequestHandler):
    """What serves a page: `do_GET` and `do_POST` are those of a check."""

    def reply(self, kind, content, status=200, length=None):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content)

    def told(self):
        return self.rfile.read(int(self.headers["Content-Length"]))

    def log_message(self, *_):
        pass


class Log:
    """The last lines that the browser has written, once it has ended."""

    last = ""


@contextlib.contextmanager
def browsing(program, page, **given):
    """A browser with what `page` serves, by a server that has what is given: that server, whose queue `told` gets `{"end": …}` when the
    browser closes; and the log."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), page)
    server.told = queue.Queue()
    vars(server).update(given)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    written = Log()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, tempfile.TemporaryFile("w+") as log:
        command = [program, *FLAGS, f"--user-data-dir={profile}", f"http://127.0.0.1:{server.server_port}/"]
        browser = subprocess.Popen(command, stdout=log, stderr=log)
        threading.Thread(target=lambda: (browser.wait(), server.told.put({"end": "it has closed"})), daemon=True).start()
        try:
            yield server, written
        finally:
            browser.terminate()
            try:
                browser.wait(20)
            except subprocess.TimeoutExpired:
                browser.kill()
            log.seek(0)
            written.last = "".join(log.readlines()[-10:])
            server.shutdown()
