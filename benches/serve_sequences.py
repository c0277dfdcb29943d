"""How much sooner `engine serve` continues several prompts that come at once than one after another.

    cargo build --release
    target/release/engine train data/runs/gpt_cpu.toml --out runs/text --steps 5
    python3 benches/serve_sequences.py runs/text --prompts 8 --tokens 100

The prompts are texts of different lengths. Each answer that comes in company must be that which comes alone. Needs Python alone.
"""

import argparse
import json
import subprocess
import threading
import time
import urllib.request

TEXT = "Shall I compare thee to a summer's day? Thou art more lovely and more temperate: rough winds do shake the darling buds of May"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("--engine", default="target/release/engine")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    server = subprocess.Popen([args.engine, "serve", f"text={args.run}", "--port", "0", "--timeout", "600"], stderr=subprocess.PIPE, text=True)
    try:
        address = next(line.split()[1] for line in server.stderr if line.startswith("listening"))
        threading.Thread(target=server.stderr.read, daemon=True).start()
        answers = {}

        def ask(number, what):
            body = {"prompt": TEXT[: 4 + 3 * number], "tokens": args.tokens, "seed": number}
            request = urllib.request.Request(f"{address}/v1/runs/text/generate", json.dumps(body).encode(), {"Content-Type": "application/json"})
            answers[what, number] = json.load(urllib.request.urlopen(request, timeout=600))["text"]

        def together(count):
            threads = [threading.Thread(target=ask, args=(number, "together")) for number in range(count)]
            started = time.monotonic()
            [thread.start() for thread in threads]
            [thread.join() for thread in threads]
            return time.monotonic() - started

        # Compiled for several.
        together(args.prompts)
        print("| round | one after another, s | tokens a second | together, s | tokens a second | two together, s |")
        print("|---:|---:|---:|---:|---:|---:|")
        for number in range(args.rounds):
            started = time.monotonic()
            [ask(prompt, "alone") for prompt in range(args.prompts)]
            alone, all_of_them, two = time.monotonic() - started, together(args.prompts), together(2)
            rates = [args.prompts * args.tokens / seconds for seconds in (alone, all_of_them)]
            print(f"| {number + 1} | {alone:.2f} | {rates[0]:.0f} | {all_of_them:.2f} | {rates[1]:.0f} | {two:.2f} |")
        differing = [number for number in range(args.prompts) if answers["alone", number] != answers["together", number]]
        print(f"answers that differ in company: {len(differing)} of {args.prompts}")
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
