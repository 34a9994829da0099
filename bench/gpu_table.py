#!/usr/bin/env python3
"""Measures what a GPU must reach, and prints it as a table: must, measured, what bounds it (docs/performance.md).

    python3 bench/gpu_table.py --text TEXT.jsonl...                    all parts, about eight minutes on one card
    python3 bench/gpu_table.py --parts layer,attention --keep a.json   some parts; what they gave is kept in a.json
    python3 bench/gpu_table.py --parts 2b,train --keep a.json          other parts; the table has those in a.json too
    python3 bench/gpu_table.py --parts none --keep a.json              the table alone
    python3 bench/gpu_table.py --device cpu --parts 2b,layer,small,train --text TEXT.jsonl    does it run? tiny shapes

Parts: 2b and 16b (a step against the PyTorch peer of bench/peers, in turn), layer, attention, products, small (the study's
100M class), memory (the 2B step in less of it), train (`moe train configs/deepseekmoe-2b.toml` on a tokenizer
and a dataset made from --text, with steps as large as those of `moe bench step`), file (the same with the steps of the file), portable (the kernels of all GPUs beside Hopper's).
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "peers"))
from against import compare, output_of, rates, ratio  # noqa: E402

CONFIG_2B, CONFIG_16B = "configs/deepseekmoe-2b.toml", "configs/deepseekmoe-16b.toml"
LENGTH = 2048  # tokens of a row of DeepSeekMoE 2B
MEMORY_BOUND = ("adamw", "rows_combine", "rms_norm", "rope", "sum_squares", "swiglu", "gather", "add", "fill", "cast")


class Programs:
    def __init__(self, options):
        self.options, self.tiny = options, options.device == "cpu"

    def moe(self, *arguments):
        device = ["--device", self.options.device]
        return json.loads(output_of([self.options.moe, "bench", *map(str, arguments), *device, "--json"]))

    def bench(self, name, *arguments):
        return output_of([str(Path(self.options.bench) / name), *map(str, arguments)])


def median_of(values):
    return statistics.median(values)


def step_of(p, *more, microbatches=1):
    """The 2B step that the peer's rounds have too (tiny on a CPU)."""
    more = ["--rows", (2 if p.tiny else 32) // microbatches, "--microbatches", microbatches, *more]
    if p.tiny:
        return p.moe("step", "--hidden", 64, "--layers", 2, "--heads", 4, "--experts", 15, "--top-k", 3, "--width", 48,
                     "--vocabulary", 512, "--length", 64, "--dtype", "bf16", "--product", 256, *more)
    return p.moe("step", "--config", CONFIG_2B, "--product", 8192, *more)


def measure_2b(p):
    preset, rows = ("small", 2) if p.tiny else ("2b", 32)
    return compare(p.options.moe, preset, rows, p.options.rounds, 3, seconds=110, device=p.options.device)


def measure_16b(p):
    preset, rows = ("small", 2) if p.tiny else ("16b4", 8)
    return compare(p.options.moe, preset, rows, p.options.rounds, 3, seconds=90, device=p.options.device)


def measure_layer(p, *more):
    if p.tiny:
        return {"2b": p.moe("layer", "--tokens", 64, "--product", 256, *more)}
    def layer(tokens, config, *others):
        return p.moe("layer", "--tokens", tokens, "--config", config, "--product", 8192, "--repeats", 9, *others, *more)
    return {"2b": layer(65536, CONFIG_2B), "2b, skew 1": layer(65536, CONFIG_2B, "--skew", 1), "16b": layer(32768, CONFIG_16B)}


def measure_attention(p):
    """{path: (forward TFLOP/s, backward TFLOP/s, forward ms, backward ms)}"""
    return attention_of(p.bench("bench_attention"))


def attention_of(text):
    pattern = r"^(\w+) .*forward ([\d.]+) ms (\d+) TFLOP/s, backward ([\d.]+) ms (\d+) TFLOP/s"
    return {m[1]: (float(m[3]), float(m[5]), float(m[2]), float(m[4])) for m in re.finditer(pattern, text, re.M)}


def measure_products(p, path="automatic"):
    """{name: (ms, TFLOP/s)}"""
    return products_of(p.bench("bench_products", "--path", path))


def products_of(text):
    return {m[1].strip(): (float(m[2]), float(m[3])) for m in re.finditer(r"^(.+?) +([\d.]+) ms +(\d+) TFLOP/s$", text, re.M)}


def measure_small(p):
    """Steps of 16K tokens of the study's systems `dense` and `deepseekmoe-half`, in turn."""
    sizes = ["--hidden", 384, "--layers", 6, "--heads", 6, "--length", 512, "--rows", 1 if p.tiny else 32, "--dtype", "bf16",
             "--product", 0, "--steps", 2 if p.tiny else 30, "--warm-up", 1 if p.tiny else 5]
    moe = ["--shared", 1, "--experts", 63, "--top-k", 3, "--width", 256]
    dense = ["--experts", 0, "--width", 1024]
    result = {"moe": [], "dense": []}
    for _ in range(1 if p.tiny else 3):
        result["moe"].append(p.moe("step", *sizes, *moe))
        result["dense"].append(p.moe("step", *sizes, *dense))
    return result


class Training:
    """`moe train`, ended as soon as it has logged enough steps: its last one would write a checkpoint of all weights."""

    def __init__(self, p, folder, *settings):
        self.log = folder / "run" / "log.jsonl"
        sets = [f"data.train={folder / 'data'}", f"run.dir={folder / 'run'}", *settings]
        command = [p.options.moe, "train", "configs/demo.toml" if p.tiny else CONFIG_2B, "--device", p.options.device]
        if p.tiny:
            sets += ["data.valid=", "sample.prompts=[]", "data.sequence_length=64", "data.rows_per_step=2"]
        self.output = open(folder / "train.log", "w+")
        self.process = subprocess.Popen([*command, *(word for one in sets for word in ("--set", one))], stdout=self.output,
                                        stderr=subprocess.STDOUT)

    def steps(self, skipped, count):
        """The steps after `skipped` others: {"seconds": of a step, "tokens": of a step}."""
        lines, times = [], []
        while len(lines) <= skipped + count:
            time.sleep(0.002)
            if self.process.poll() is not None:
                self.output.seek(0)
                raise RuntimeError(f"moe train ended with status {self.process.returncode}:\n{self.output.read()[-2000:]}")
            if not self.log.exists():
                continue
            lines = [line for line in self.log.read_text().splitlines() if not line.startswith('{"run"')]
            times += [time.monotonic()] * (len(lines) - len(times))
        self.process.kill()
        self.process.wait()
        tokens = [json.loads(line)["tokens"] for line in lines[skipped + 1:skipped + 1 + count]]
        return {"seconds": (times[skipped + count] - times[skipped]) / count, "tokens": sum(tokens) / count}


def make_dataset(p, folder):
    """A tokenizer with the configuration's vocabulary, and a dataset, from the text."""
    vocabulary = 1024 if p.tiny else 8192
    moe, text, tokenizer = p.options.moe, p.options.text, str(folder / "tokenizer")
    output_of([moe, "tokenizer", "train", "--vocab-size", str(vocabulary), "--out", tokenizer, *text])
    output_of([moe, "data", "--tokenizer", tokenizer, "--out", str(folder / "data"), *text])


def train_on_text(p, skipped, count, *settings):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_dataset(p, folder)
        before = step_of(p, "--steps", 5)
        measured = Training(p, folder, *(["model.vocab_size=1024"] if p.tiny else settings)).steps(skipped, count)
        after = step_of(p, "--steps", 5)
    shape = before["shape"]
    return {**measured, "bench": [before["step_s"], after["step_s"]], "rows": shape["rows"], "length": shape["length"]}


def measure_train(p):
    return train_on_text(p, 4, 4 if p.tiny else 40, "data.rows_per_step=32")


def measure_file(p):
    return {**train_on_text(p, 0, 1), "microbatches": 1 if p.tiny else 64}


# Microbatches and options of a step in less memory.
SMALLER = {"at once": (1, []), "norms made again": (1, ["--rebuild=norms"]), "norms and products made again": (1, ["--rebuild"]),
           "in two microbatches": (2, []), "in two microbatches, norms made again": (2, ["--rebuild=norms"])}


def measure_memory(p):
    """{name: steps} in turn"""
    results = {name: [] for name in SMALLER}
    for _ in range(1 if p.tiny else 3):
        for name, (microbatches, more) in SMALLER.items():
            step = step_of(p, "--steps", 1 if p.tiny else 5, *more, microbatches=microbatches)
            results[name].append(step)
            print(f"{name}: {step['tokens_per_s']:,.0f} tokens/s, {step['allocated_gib']:.1f} GiB", file=sys.stderr, flush=True)
    return results


def measure_portable(p):
    both = {name: step_of(p, "--steps", 3, "--kernels", name) for name in ("automatic", "portable")}
    layers = {name: measure_layer(p, "--kernels", name) for name in ("automatic", "portable")}
    return {"step": both, "layer": layers, "attention": measure_attention(p),
            "products": {name: measure_products(p, name) for name in ("automatic", "portable")}}


PARTS = {"2b": measure_2b, "layer": measure_layer, "attention": measure_attention, "products": measure_products,
         "small": measure_small, "memory": measure_memory, "16b": measure_16b, "train": measure_train, "file": measure_file,
         "portable": measure_portable}


def spread(values, form):
    return f"{form.format(statistics.median(values))} ({form.format(min(values))} to {form.format(max(values))})"


def where_time_goes(step):
    """Of a step's operations, timed one by one: products, attention and the rest, with their rates."""
    product = step["product_gflops"]
    groups = {"products": [0, 0], "attention": [0, 0], "bound by memory": [0, 0], "the rest": [0, 0]}
    for name, op in step["ops"].items():
        kind = "products" if op["gflops"] > 1e4 else "the rest"
        kind = "attention" if name.startswith("attention") else "bound by memory" if name.startswith(MEMORY_BOUND) else kind
        groups[kind][0] += op["ms"]
        groups[kind][1] += op["ms"] * (op["gb_per_s"] if kind == "bound by memory" else op["gflops"])
    parts = []
    for kind, (ms, work) in groups.items():
        if ms == 0:
            continue
        rate = ""
        if kind == "products" and product > 0:
            rate = f" at {100 * work / ms / product:.0f}% of a large product's rate"
        elif kind == "bound by memory":
            rate = f" at {work / ms:.0f} GB/s"
        parts.append(f"{kind} {ms:.1f} ms{rate}")
    return "; ".join(parts)


def against_row(name, results, must):
    last = results["moe"][-1]
    ours, theirs = (spread(rates(results[side]), "{:,.0f}") for side in ("moe", "peer"))
    measured = f"{ratio(results):.3f}: {ours} against {theirs} tokens/s, {len(results['moe'])} rounds"
    return [(name, must, measured, ratio(results) >= must, where_time_goes(last))]


def rows_2b(results):
    rows = against_row("2B step, 64K tokens, against the peer", results, 1.10)
    last = results["moe"][-1]
    parts = {key: value for key, value in last["plan_gib"].items() if key not in ("total", "saved_in_gradients") and value >= 0.05}
    bound = ", ".join(f"{key} {value:.1f}" for key, value in parts.items())
    rows += rows_grouped(last)
    rows.insert(1, ("2B step, memory (GiB)", 48, f"{last['allocated_gib']:.1f}; the peer {results['peer'][-1]['peak_gib']:.1f}",
                 last["allocated_gib"] <= 48, bound))
    return rows


def rows_memory(results):
    whole = median_of(rates(results["at once"]))
    rows = []
    for name, steps in results.items():
        rate, gib = rates(steps), steps[-1]["allocated_gib"]
        measured = f"{gib:.1f}: {spread(rate, '{:,.0f}')} tokens/s, {median_of(rate) / whole:.3f} of those at once"
        rows.append((f"2B step of 64K tokens, {name}: memory (GiB)", 48, measured, gib <= 48, where_time_goes(steps[-1])))
    return rows


def rows_16b(results):
    return against_row("16B shape, 4 layers, 32K tokens, against the peer", results, 1.05)


def rows_layer(results):
    musts = {"2b": ("MoE layer, 2B shape, 64K tokens: share of a large product", 75),
             "2b, skew 1": ("the same with `--skew 1`", 70),
             "16b": ("MoE layer, 16B shape, 32K tokens", 76)}
    rows = []
    for key, one in results.items():
        name, must = musts[key]
        share = 100 * one["layer_share_of_product"]
        alone = share * one["layer_ms"] / one["sorted_products_ms"]
        measured = f"{share:.1f}%: {one['layer_ms']:.1f} ms, a large product {1e-3 * one['product_gflops']:.0f} TFLOP/s"
        bound = (f"its products on sorted rows take {one['sorted_products_ms']:.1f} ms: without anything else {alone:.0f}%; "
                 f"the busiest expert has {one['load_max_over_mean']:.1f} times the mean")
        rows.append((name, f"{must}%", measured, share >= must, bound))
    return rows


def rows_attention(results):
    forward, backward, *_ = results["hopper"]
    return [("attention, packed, deterministic, 2048 tokens, head 128 (TFLOP/s): forward; backward", "480; 370",
             f"{forward:.0f}; {backward:.0f}", forward >= 480 and backward >= 370,
             "forward: exponentials and a block's first tile; backward: seven products for the five that are counted")]


BY_ROWS = ("gate_up, gathered", "d_activated, gathered", "down", "d_rows")
BY_REDUCTION = ("d_down, gathered", "d_gate_up, gathered")


def together(products, names):
    """The rate of several products one after the other."""
    return sum(products[n][0] * products[n][1] for n in names) / sum(products[n][0] for n in names)


def in_step(step, names):
    """The rate in TFLOP/s of a step's operations of these names."""
    ops = [op for name, op in step["ops"].items() if name in names]
    return 1e-3 * sum(op["ms"] * op["gflops"] for op in ops) / sum(op["ms"] for op in ops)


def rows_grouped(step):
    by_rows, by_reduction = in_step(step, ("expert_rows", "grouped_gemm")), in_step(step, ("grouped_gemm_reduce",))
    bound = f"a large product reaches {1e-3 * step['product_gflops']:.0f}; SwiGLU is part of those by rows"
    return [("grouped products in the 2B step by rows; by reduction (TFLOP/s)", "690; 640", f"{by_rows:.0f}; {by_reduction:.0f}",
             by_rows >= 690 and by_reduction >= 640, bound)]


def rows_products(results):
    def rate(names):
        each = [results[name][1] for name in names]
        return f"{together(results, names):.0f} ({min(each):.0f} to {max(each):.0f})"
    alone = [rate(BY_ROWS), rate(BY_REDUCTION)]
    on_sorted = together(results, [name.replace("gathered", "sorted") for name in BY_REDUCTION])
    large = [one[1] for name, one in results.items() if name.startswith("8192^3")]
    return [("grouped products, each alone for seconds, rows gathered inside (TFLOP/s)", "-", "; ".join(alone), True,
             f"power: 8192^3 has {min(large):.0f} to {max(large):.0f} in this run; by reduction on sorted rows {on_sorted:.0f}")]


def rows_small(results):
    seconds = {name: statistics.median(r["step_s"] for r in runs) for name, runs in results.items()}
    flops = {name: runs[0]["gflops"] * runs[0]["step_s"] for name, runs in results.items()}
    value = seconds["moe"] / seconds["dense"]
    ops, dense_ops = results["moe"][-1]["ops"], results["dense"][-1]["ops"]
    more = {name: ops.get(name, {"ms": 0})["ms"] - dense_ops.get(name, {"ms": 0})["ms"] for name in {*ops, *dense_ops}}
    most = sorted(more.items(), key=lambda item: -item[1])[:9]
    measured = (f"{value:.2f}: {1e3 * seconds['moe']:.2f} over {1e3 * seconds['dense']:.2f} ms "
                f"(FLOPs {flops['moe'] / flops['dense']:.2f})")
    return [("the study's 100M class: a DeepSeekMoE step over a dense step of equal FLOPs", 1.35, measured, value <= 1.35,
             "more than in the dense step, one by one: " + ", ".join(f"{name} {ms:.2f} ms" for name, ms in most))]


def train_row(name, r, per_step):
    bench, mine = statistics.mean(r["bench"]), r["seconds"] / per_step
    fill = r["tokens"] / per_step / (r["rows"] * r["length"])
    measured = (f"{100 * bench / mine:.1f}%: {mine:.4f} s for a microbatch of {r['rows']} rows, "
                f"{r['tokens'] / r['seconds']:,.0f} tokens/s of text; `bench step` {spread(r['bench'], '{:.4f}')} s")
    return (name, "97%", measured, bench / mine >= 0.97,
            f"{100 * (1 - fill):.1f}% of the positions are padding, which is computed too")


def rows_train(results):
    name = "`moe train configs/deepseekmoe-2b.toml` on real text against `moe bench step`, steps of 32 rows"
    return [train_row(name, results, 1)]


def rows_file(results):
    microbatches = results["microbatches"]
    return [train_row(f"the same with the file's steps of {results['rows'] * microbatches} rows", results, microbatches)]


def rows_portable(results):
    """The table by operation is printed apart; the row has the slowest."""
    shares = [(mine / other, name) for name, mine, other in portable_lines(results)]
    under = "; ".join(f"{name.removesuffix(', ms')} {100 * share:.0f}%" for share, name in sorted(shares) if share < 0.4)
    measured = under or f"at least {100 * min(shares)[0]:.0f}%"
    return [("kernels of all GPUs beside Hopper's, each operation", "40%", measured, not under,
             "the older matrix instruction: no copies by the copy engine, sums and operands in the same registers")]


EXPERTS_BACKWARD = ("expert_rows_backward", "grouped_gemm", "grouped_gemm_reduce", "rows_gather", "swiglu_backward")


def portable_lines(results):
    """(what, Hopper's, portable) in a unit in which less is faster."""
    step, layer, products = results["step"], results["layer"], results["products"]
    lines = [("step, s", step["automatic"]["step_s"], step["portable"]["step_s"])]
    lines += [(f"layer {key}, ms", one["layer_ms"], layer["portable"][key]["layer_ms"]) for key, one in layer["automatic"].items()]
    hopper, tensor = results["attention"]["hopper"], results["attention"]["tensor"]
    lines += [("attention alone, ms", hopper[2], tensor[2]), ("attention_backward alone, ms", hopper[3], tensor[3])]
    lines += [(f"{name}, ms", one[0], products["portable"][name][0]) for name, one in products["automatic"].items()]
    ops = [step[kernels]["ops"] for kernels in ("automatic", "portable")]
    # Hopper's way takes the experts' backward pass apart in its own manner, so its parts are compared as a whole.
    backward = [sum(o.get(name, {"ms": 0})["ms"] for name in EXPERTS_BACKWARD) for o in ops]
    lines.append(("in the step: the experts' backward pass (and SwiGLU's gradient of the shared one), ms", *backward))
    lines += [(f"in the step: {name}, ms", op["ms"], ops[1][name]["ms"]) for name, op in ops[0].items()
              if name in ops[1] and name not in EXPERTS_BACKWARD and op["ms"] >= 0.5]
    return lines


ROWS = {"2b": rows_2b, "16b": rows_16b, "layer": rows_layer, "attention": rows_attention, "products": rows_products,
        "small": rows_small, "memory": rows_memory, "train": rows_train, "file": rows_file, "portable": rows_portable}


def print_tables(results):
    print("| work | must | measured | reached | what bounds it |\n|---|---|---|---|---|")
    for part, rows in ROWS.items():
        for work, must, measured, reached, bound in rows(results[part]) if part in results else []:
            must = f"{must:.2f}" if isinstance(must, float) else must
            print(f"| {work} | {must} | {measured} | {'yes' if reached else 'no'} | {bound} |")
    if "2b" in results:
        print("\n| operation of the 2B step | ms | calls | TFLOP/s | GB/s |\n|---|---|---|---|---|")
        ops = results["2b"]["moe"][-1]["ops"]
        for name, op in sorted(ops.items(), key=lambda item: -item[1]["ms"]):
            print(f"| {name} | {op['ms']:.1f} | {op['calls']} | {1e-3 * op['gflops']:.0f} | {op['gb_per_s']:.0f} |")
    if "portable" in results:
        print("\n| | Hopper's kernels | kernels of all GPUs | rate |\n|---|---|---|---|")
        for name, mine, other in portable_lines(results["portable"]):
            print(f"| {name} | {mine:.3f} | {other:.3f} | {100 * mine / other:.0f}% |")


def card():
    try:
        query = "--query-gpu=name,memory.total,power.limit,driver_version"
        return output_of(["nvidia-smi", query, "--format=csv,noheader"]).strip()
    except (OSError, SystemExit):
        return "no GPU"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help="comma-separated, or none")
    parser.add_argument("--moe", default="build/moe", help="the program")
    parser.add_argument("--bench", default="build/bench", help="the folder of bench_attention and bench_products")
    parser.add_argument("--rounds", type=int, default=5, help="of a step and its peer")
    parser.add_argument("--text", nargs="*", default=[], help="files of text for the parts train and file")
    parser.add_argument("--keep", help="a JSON file to which results are added")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    options = parser.parse_args()
    parts = [] if options.parts == "none" else options.parts.split(",")
    for part in parts:
        if part not in PARTS:
            parser.error(f"no part is called {part}: expected some of {', '.join(PARTS)}")
        if part in ("train", "file") and not options.text:
            parser.error(f"the part {part} needs --text")
    kept = Path(options.keep) if options.keep else None
    results = json.loads(kept.read_text()) if kept and kept.exists() else {}
    failed = False
    for part in parts:
        started = time.monotonic()
        try:
            results[part] = PARTS[part](Programs(options))
            print(f"{part}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        except (Exception, SystemExit) as error:  # the other parts are measured all the same
            failed = True
            print(f"{part} failed after {time.monotonic() - started:.0f} s: {error}", file=sys.stderr, flush=True)
        results.setdefault("cards", {})[part] = f"{card()}; {time.strftime('%Y-%m-%d')}"
        if kept:
            kept.write_text(json.dumps(results))
    for where in sorted(set(results.get("cards", {}).values())):
        print(where)
    print()
    print_tables(results)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
