#!/usr/bin/env python3
"""Times a training step of DeepSeekMoE in eager PyTorch (float32, or all bfloat16) and prints one JSON line, the peer of `moe bench`.

    build/peers-venv/bin/python bench/peers/torch_step.py            the shape of the comparison, best form
    build/peers-venv/bin/python bench/peers/torch_step.py --small    seconds, any machine: does it run?
    build/peers-venv/bin/python bench/peers/torch_step.py --check    every form against tools/golden's reference model

A step is forward, backward, clipping by the global norm and AdamW. `tokens_per_s` is the median over --steps after
--warmup; `product_gflops` the rate of a product of --product^3 in the same type (best of two before the steps and two after
them), by which runs on different or busy machines can be compared; `cpu_s` the processor time of a step, all threads
together; `peak_rss_gib` the process's largest resident memory.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

FORMS = ("function", "slices", "grouped_mm", "loop")

# glibc hands large blocks back to the system at every free and clears them again at the next step; keeping them, in
# huge pages, is how PyTorch is run when speed counts. Read by glibc when the process starts, hence the second exec.
TUNED_MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 40),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_TOP_PAD_": str(64 << 20),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--form", choices=("best", *FORMS), default="best", help="best: all but loop in turn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", choices=("f32", "bf16"), default="f32", help="bf16: weights, gradients and moments too")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--adamw", choices=("fused", "foreach", "single"), default="fused")
    parser.add_argument("--head-rows", type=int, default=0, help="rows of a head chunk (recomputed); 0: whole")
    parser.add_argument("--malloc", choices=("tuned", "default"), default="tuned")
    parser.add_argument("--product", type=int, default=4096, help="size of the measured product; 0: none")
    parser.add_argument("--small", action="store_true", help="a small shape, unless sizes are given")
    parser.add_argument("--check", action="store_true", help="compare loss and gradients of every form, time nothing")
    sizes = [
        ("d", "hidden", 512, 64), ("layers", "layers", 8, 2), ("heads", "heads", 8, 4), ("shared", "shared", 1, 1),
        ("experts", "routed", 63, 15), ("top-k", "top_k", 7, 3), ("width", "width", 344, 44),
        ("vocab", "vocab", 8192, 512), ("rows", None, 4, 2), ("length", None, 1024, 64),
    ]
    for name, _, full, small in sizes:
        parser.add_argument(f"--{name}", type=int, help=f"{full}; with --small {small}")
    options = parser.parse_args()
    shape = {}
    for name, field, full, small in sizes:
        key = name.replace("-", "_")
        if getattr(options, key) is None:
            setattr(options, key, small if options.small or options.check else full)
        if field:
            shape[field] = getattr(options, key)
    return options, shape


def torch_type(options):
    import torch

    return torch.bfloat16 if options.dtype == "bf16" else torch.float32


def product_gflops(n, dtype):
    import torch

    a, b = torch.randn(n, n).to(dtype), torch.randn(n, n).to(dtype)
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - start)
    return 2e-9 * n**3 / min(seconds)


def batch(options):
    import torch

    text = torch.randint(options.vocab, (options.rows, options.length + 1))
    return text[:, :-1].contiguous(), text[:, 1:].contiguous()


def measure(options, shape):
    import torch

    from torch_model import Model, Shape

    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    product = product_gflops(options.product, torch_type(options)) if options.product else 0.0
    model = Model(Shape(**shape), options.form).to(torch_type(options))
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW(
        [dict(params=matrices, weight_decay=0.1), dict(params=vectors, weight_decay=0.0)],
        lr=1e-4, betas=(0.9, 0.95), eps=1e-8,
        fused=options.adamw == "fused", foreach=options.adamw == "foreach",
    )
    phases = []
    for _ in range(options.warmup + options.steps):
        tokens, targets = batch(options)
        start, busy = time.perf_counter(), time.process_time()
        loss, balance = model(tokens, targets, options.head_rows)
        forward = time.perf_counter()
        (loss + balance).backward()
        backward = time.perf_counter()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss, norm = loss.item(), norm.item()
        end = time.perf_counter()
        phases.append((end - start, forward - start, backward - forward, end - backward, time.process_time() - busy))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if options.product:
        product = max(product, product_gflops(options.product, torch_type(options)))
    step, forward, backward, update, busy = (statistics.median(column) for column in zip(*phases[options.warmup :]))
    print(
        json.dumps(
            {
                "peer": f"torch {torch.__version__}", "form": options.form, "dtype": options.dtype, "adamw": options.adamw,
                "malloc": options.malloc, "head_rows": options.head_rows, "threads": options.threads,
                "tokens_per_s": round(options.rows * options.length / step, 1), "step_s": round(step, 3),
                "forward_s": round(forward, 3), "backward_s": round(backward, 3), "update_s": round(update, 3),
                "cpu_s": round(busy, 3),
                "peak_rss_gib": round(peak, 2), "product_gflops": round(product, 1), "steps": options.steps,
                "parameters": sum(p.numel() for p in model.parameters()), "loss": loss, "balance": balance.item(),
                "grad_norm": norm, "rows": options.rows, "length": options.length, **shape,
            }
        )
    )


def reference_weights(model, shape):
    """The model's parameters under the reference's tensor names, as views."""
    weights = {"model.embed_tokens.weight": model.embedding, "model.norm.weight": model.norm.weight}
    weights["lm_head.weight"] = model.head
    for i, layer in enumerate(model.layers):
        name, moe = f"model.layers.{i}", layer.moe
        weights[f"{name}.input_layernorm.weight"] = layer.attention_norm.weight
        weights[f"{name}.post_attention_layernorm.weight"] = layer.ffn_norm.weight
        for part, w in zip("qkv", layer.attention.qkv.chunk(3)):
            weights[f"{name}.self_attn.{part}_proj.weight"] = w
        weights[f"{name}.self_attn.o_proj.weight"] = layer.attention.out
        weights[f"{name}.mlp.gate.weight"] = moe.router
        ffns = {f"experts.{e}": (moe.gate_up[e], moe.down[e]) for e in range(shape.routed)}
        ffns["shared_experts"] = (moe.shared_gate_up, moe.shared_down)
        for ffn, (gate_up, down) in ffns.items():
            for part, w in zip(("gate", "up"), gate_up.chunk(2)):
                weights[f"{name}.mlp.{ffn}.{part}_proj.weight"] = w
            weights[f"{name}.mlp.{ffn}.down_proj.weight"] = down
    return weights


def check(options, sizes):
    """Exit status 1 unless every form has the reference's loss, balance loss and gradients."""
    import torch

    from torch_model import Model, Shape

    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
    from golden.model import read_config
    from golden.step import Batch, LossConfig, run_step

    torch.set_num_threads(options.threads)
    shape = Shape(**{**sizes, "alpha": 0.1})
    config = read_config(
        dict(
            vocab_size=shape.vocab, hidden_size=shape.hidden, intermediate_size=1, moe_intermediate_size=shape.width,
            num_hidden_layers=shape.layers, num_attention_heads=shape.heads, n_shared_experts=shape.shared,
            n_routed_experts=shape.routed, num_experts_per_tok=shape.top_k, rms_norm_eps=shape.eps,
        )
    )
    torch.manual_seed(1)
    tokens, targets = batch(options)
    start = torch.arange(options.rows)[:, None].expand(-1, options.length) * options.length
    loss = LossConfig("check", "sequence", shape.alpha, 0.0, 1, (options.rows,))
    failed = False
    for form in FORMS:
        torch.manual_seed(1)
        model = Model(shape, form)
        with torch.no_grad():  # spread the weights: at the initial 0.006 every gate is nearly 1 / E
            for p in model.parameters():
                if p.dim() > 1:
                    p *= 20
        weights = reference_weights(model, shape)
        exact = {name: w.detach().double().requires_grad_() for name, w in weights.items()}
        reference = run_step(config, exact, Batch(tokens, targets, start), loss)
        cross_entropy, balance = model(tokens, targets, options.head_rows)
        (cross_entropy + balance).backward()
        for p in model.parameters():
            p.data = p.grad
        worst = 0.0
        for name, gradient in reference_weights(model, shape).items():
            other = exact[name].grad if exact[name].grad is not None else torch.zeros_like(exact[name])
            worst = max(worst, ((gradient - other).abs().max() / other.abs().max().clamp_min(1e-12)).item())
        loss_error = abs(cross_entropy.item() / reference.cross_entropy - 1)
        balance_error = abs(balance.item() / sum(reference.expert.values()) - 1)
        good = loss_error < 1e-5 and balance_error < 1e-5 and worst < 1e-4
        failed |= not good
        print(
            f"{form:10}  loss {loss_error:.1e}, balance {balance_error:.1e}, gradients {worst:.1e} (relative to the "
            f"reference; closest routing call {reference.gap:.1e}): {'agrees' if good else 'DIFFERS'}"
        )
    return 1 if failed else 0


def fastest_form():
    """Each form in a process of its own, so that its memory is its own; prints the fastest one's line (all: stderr)."""
    results = []
    for form in FORMS[:3]:
        run = subprocess.run([sys.executable, *sys.argv, "--form", form], stdout=subprocess.PIPE, text=True)
        if run.returncode:
            return run.returncode
        print(run.stdout, end="", file=sys.stderr)
        results.append(json.loads(run.stdout))
    print(json.dumps(max(results, key=lambda r: r["tokens_per_s"])))
    return 0


def main():
    options, shape = parse()
    if options.malloc == "tuned" and "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **TUNED_MALLOC})
    if options.check:
        return check(options, shape)
    if options.form == "best":
        return fastest_form()
    measure(options, shape)
    return 0


if __name__ == "__main__":
    sys.exit(main())
