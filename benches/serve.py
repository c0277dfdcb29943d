"""A load test of `engine serve`: windows as JSON, at a steady rate, from a second process on this machine.

    cargo build --release
    target/release/engine train data/runs/lvm_mlp.toml --out runs/served --steps 20 \\
        --set data.file=data/samples/wikitext_minilm_small.npz --set train.batch=32 --set abort_if=[]
    python3 benches/serve.py runs/served --rates 100,300,1000 --seconds 60

Each request has a window of its own and an id. Its answer must have that id and the very digits that `engine predict` prints for the
window. Times are counted from when a request should have been sent, so that a server that falls behind does not look fast. A request that
is due while all connections are taken waits for one. Needs Python alone.
"""

import argparse
import asyncio
import json
import os
import random
import resource
import subprocess
import tempfile
import time

WINDOWS = 256


def windows(shape, seed):
    """Windows of random numbers, as the text of JSON."""
    draw = random.Random(seed)
    return [json.dumps([[round(draw.gauss(0, 0.05), 6) for _ in range(shape[1])] for _ in range(shape[0])]) for _ in range(WINDOWS)]


def predicted(engine, run, texts):
    """What `engine predict` prints for each window, from its first column on."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.write("\n".join(texts) + "\n")
        file.flush()
        lines = subprocess.run([engine, "predict", run, "--data", file.name], check=True, capture_output=True, text=True).stdout
    return [line.split(",", 1)[1].encode() for line in lines.splitlines()]


async def answer(reader):
    """Status and body of an answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    return int(head[9:12]), await reader.readexactly(length)


class Load:
    def __init__(self, port, name, texts, wanted):
        self.port, self.name, self.texts, self.wanted = port, name, [text.encode() for text in texts], wanted
        self.idle, self.times, self.statuses, self.mixed = asyncio.LifoQueue(), [], {}, 0

    async def one(self, number, due):
        """Sends a request that is due, and looks at its answer."""
        body = b'{"id":%d,"context":%s}' % (number, self.texts[number % WINDOWS])
        reader, writer = await self.idle.get()
        if reader.at_eof():
            # The server has let a connection go that was idle for long.
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = f"POST /v1/runs/{self.name}/predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        status, got = await answer(reader)
        self.times.append(time.perf_counter() - due)
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if status == 200 and got != b'{"sample":0,"id":%d,%s' % (number, self.wanted[number % WINDOWS]):
            self.mixed += 1
        self.idle.put_nowait((reader, writer))

    async def run(self, rate, seconds, connections):
        for _ in range(connections):
            self.idle.put_nowait(await asyncio.open_connection("127.0.0.1", self.port))
        start, tasks = time.perf_counter(), []
        for number in range(int(rate * seconds)):
            due = start + number / rate
            wait = due - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            tasks.append(asyncio.create_task(self.one(number, due)))
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        lost = [error for error in ended if error is not None]
        return time.perf_counter() - start, lost


def measure(port, name, texts, wanted, rate, seconds, connections):
    load = Load(port, name, texts, wanted)
    took, lost = asyncio.run(load.run(rate, seconds, connections))
    times = sorted(load.times)
    at = lambda share: 1e3 * times[min(len(times) - 1, int(share * len(times)))]
    others = ", ".join(f"{count} of {status}" for status, count in sorted(load.statuses.items()) if status != 200) or "none"
    answered = load.statuses.get(200, 0)
    print(
        f"| {rate:g} | {rate * seconds:.0f} | {answered} | {others} | {len(lost)} | {load.mixed} | {answered / took:.0f} "
        f"| {at(0.5):.1f} | {at(0.9):.1f} | {at(0.99):.1f} | {times[-1] * 1e3:.0f} |",
        flush=True,
    )
    if lost:
        print("lost, the first:", repr(lost[0]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("--engine", default="target/release/engine")
    parser.add_argument("--shape", default="5,384", help="shape of a window")
    parser.add_argument("--rates", default="100,300,1000", help="requests a second")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--connections", type=int, default=200, help="connections that the requests share")
    parser.add_argument("--args", default="", help="further arguments of the server")
    args = parser.parse_args()
    texts = windows([int(n) for n in args.shape.split(",")], 1)
    wanted = predicted(args.engine, args.run, texts)
    server = subprocess.Popen([args.engine, "serve", f"load={args.run}", "--port", "0", *args.args.split()], stderr=subprocess.PIPE, text=True)
    port = next(int(line.rsplit(":", 1)[1]) for line in server.stderr if line.startswith("listening"))
    print(f"load of the machine before: {os.getloadavg()}; a request has {sum(map(len, texts)) // WINDOWS} bytes")
    print("| requests a second | sent | answered | refused | lost | mixed up | answers a second | p50, ms | p90, ms | p99, ms | most, ms |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for rate in args.rates.split(","):
        measure(port, "load", texts, wanted, float(rate), args.seconds, args.connections)
    print(f"load of the machine after: {os.getloadavg()}")
    server.terminate()
    said = server.stderr.read().strip()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = server.wait()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    sent = sum(float(rate) * args.seconds for rate in args.rates.split(","))
    print(f"the server ended with {code}: {said}. It used {1e3 * seconds / sent:.2f} ms of a core for a request, its start included")


if __name__ == "__main__":
    main()
