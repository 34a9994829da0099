#!/usr/bin/env python3
"""Answers of a quantised model on the CPU: `moe bench generate` and llama.cpp's llama-bench in turn.

    build/moe init --preset deepseekmoe-16b --quant q4_0 --seed 1 --out 16b.gguf
    python3 bench/peers/cpu_answers.py --llama-bench DIR/llama-bench --model 16b.gguf --quant q4_0

llama-bench reads --model; moe makes a random model of the same shape (--config) and type or mixture (--quant). Each round measures, in both
programs one after the other: a prompt of --prompt tokens, and --tokens tokens one by one after each of --contexts tokens. Prints the
medians of --rounds rounds, the lowest and highest values, and the ratio. Run it on an idle machine. `moe` keeps keys and
values in f16 beside weights in blocks, as llama.cpp does.
"""

import argparse
import json
import statistics
import subprocess


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moe", default="build/moe")
    parser.add_argument("--llama-bench", required=True)
    parser.add_argument("--model", required=True, help="a GGUF file with the shape of --config")
    parser.add_argument("--config", default="configs/deepseekmoe-16b.toml")
    parser.add_argument("--quant", default="q4_0")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--contexts", default="0,2048", help="tokens before those that are timed, with commas between")
    return parser.parse_args()


def run(command):
    return subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE, text=True).stdout


def moe_rates(args, prompt):
    """Tokens/s of the prompt and of the tokens after it."""
    out = json.loads(run([args.moe, "bench", "generate", "--device", "cpu", "--config", args.config, "--quant", args.quant,
                          "--threads", args.threads, "--prompt", prompt, "--tokens", args.tokens, "--repeats", 1,
                          "--product", 0, "--json"]))
    return out["prompt_tokens_per_s"], out["tokens_per_s"]


def llama_rate(args, prompt, tokens, depth):
    out = json.loads(run([args.llama_bench, "-m", args.model, "-t", args.threads, "-r", 1, "-p", prompt, "-n", tokens,
                          "-d", depth, "-fa", 0, "-o", "json"]))
    return out[0]["avg_ts"]


def main():
    args = parse()
    contexts = [int(word) for word in args.contexts.split(",")]
    found = {}

    def add(what, program, rate):
        found.setdefault(what, {}).setdefault(program, []).append(rate)

    for _ in range(args.rounds):
        what = f"prompt of {args.prompt}"
        add(what, "moe", moe_rates(args, args.prompt)[0])
        add(what, "llama.cpp", llama_rate(args, args.prompt, 0, 0))
        for context in contexts:
            what = f"tokens after {context}"
            add(what, "moe", moe_rates(args, max(context, 1))[1])
            add(what, "llama.cpp", llama_rate(args, 0, args.tokens, context))
    print(f"{args.quant}, {args.threads} threads, {args.rounds} rounds; tokens/s: median (lowest to highest)")
    for what, rates in found.items():
        texts = []
        for program, values in rates.items():
            texts.append(f"{program} {statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})")
        ratio = statistics.median(rates["moe"]) / statistics.median(rates["llama.cpp"])
        print(f"  {what:18} {', '.join(texts)}; ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
