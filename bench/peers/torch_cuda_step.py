#!/usr/bin/env python3
"""Times a compiled bfloat16 PyTorch training step of DeepSeekMoE on a GPU: the peer of `moe bench step --device cuda`.

    python3 bench/peers/torch_cuda_step.py --preset 2b --rows 32     64K tokens a step
    python3 bench/peers/torch_cuda_step.py --preset small --rows 2 --device cpu --compile none   does it run?

Weights and activations are bf16; AdamW runs on f32 master weights, moments and gradients, as in moe. Experts are grouped
products whose sizes stay on the GPU (F.grouped_mm), layers are compiled one by one (torch.compile), attention is PyTorch's
choice, the head goes through recomputed chunks. Prints one JSON line: tokens_per_s is the median over --steps after
--warmup, product_tflops the rate of an 8192^3 bf16 product before and after, share_of_product the exact count of a
sequence's products (6 (A + router) s + 6 L s (s + 1) d) over it, peak_gib what PyTorch's allocator held at most.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from torch_model import Model, Shape

PRESETS = {
    "2b": (Shape(vocab=8192, hidden=1280, layers=9, heads=10, shared=1, routed=63, top_k=7, width=864), 2048),
    "16b4": (Shape(vocab=102400, hidden=2048, layers=4, heads=16, shared=2, routed=64, top_k=6, width=1408), 4096),
    "small": (Shape(vocab=512, hidden=64, layers=2, heads=4, routed=15, top_k=3, width=48), 64),
}


def product_tflops(device, n=8192, seconds=0.05):
    a, b = (torch.randn(n, n, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = float("inf")
    for count in (1, 1, max(1, int(seconds / (2 * n**3 / 8e14)))):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(count):
            a @ b
        torch.cuda.synchronize()
        best = min(best, (time.perf_counter() - start) / count)
    return 2e-12 * n**3 / best


def flops(shape, length):
    d, w = shape.hidden, shape.width
    layer = 4 * d * d + 3 * d * w * (shape.shared + shape.top_k) + shape.routed * d
    return 6 * (shape.layers * layer + shape.vocab * d) * length + 6 * shape.layers * length * (length + 1) * d


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="2b")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--form", choices=("grouped_mm", "slices"), default="grouped_mm")
    parser.add_argument("--compile", choices=("layer", "none"), default="layer")
    parser.add_argument("--head-rows", type=int, default=16384)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=3)
    options = parser.parse_args()
    gpu = options.device == "cuda"
    shape, length = PRESETS[options.preset]
    torch.set_default_device(options.device)
    torch.manual_seed(1)
    product = product_tflops(options.device) if gpu else 0.0
    torch.set_default_dtype(torch.float32)
    model = Model(shape, options.form).to(torch.bfloat16)
    if options.compile == "layer":
        for layer in model.layers:
            layer.compile(dynamic=False)
    parameters = list(model.parameters())
    masters = [p.detach().float() for p in parameters]
    decayed = [m for m in masters if m.dim() > 1]
    others = [m for m in masters if m.dim() == 1]
    optimizer = torch.optim.AdamW([dict(params=decayed, weight_decay=0.1), dict(params=others, weight_decay=0.0)],
                                  lr=1e-4, betas=(0.9, 0.95), eps=1e-8, fused=gpu)
    times = []
    for _ in range(options.warmup + options.steps):
        text = torch.randint(shape.vocab, (options.rows, length + 1))
        if gpu:
            torch.cuda.synchronize()
        start = time.perf_counter()
        loss, balance = model(text[:, :-1].contiguous(), text[:, 1:].contiguous(), options.head_rows)
        (loss + balance).backward()
        for p, master in zip(parameters, masters):
            master.grad, p.grad = p.grad.float(), None
        norm = torch.nn.utils.clip_grad_norm_(masters, 1.0, foreach=True)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_copy_(parameters, masters)
        optimizer.zero_grad(set_to_none=True)
        loss, norm = loss.item(), norm.item()
        times.append(time.perf_counter() - start)
    step = statistics.median(times[options.warmup :])
    peak = torch.cuda.max_memory_allocated() / 2**30 if gpu else 0.0
    if gpu:
        product = max(product, product_tflops(options.device))
    rate = 1e-12 * options.rows * flops(shape, length) / step
    print(json.dumps({
        "peer": f"torch {torch.__version__}", "form": options.form, "compile": options.compile,
        "preset": options.preset, "rows": options.rows, "length": length,
        "tokens_per_s": round(options.rows * length / step, 1), "step_s": round(step, 4),
        "tflops": round(rate, 1), "product_tflops": round(product, 1),
        "share_of_product": round(rate / product, 4) if product else None, "peak_gib": round(peak, 2),
        "loss": loss, "balance": balance.item(), "grad_norm": norm,
    }))


if __name__ == "__main__":
    main()
