#!/usr/bin/env python3
"""Times a training step of DeepSeekMoE in PyTorch on a GPU, as fast as PyTorch is known to do it: the peer of
`moe bench step --device cuda`.

    python3 bench/peers/torch_cuda_step.py --preset 2b --rows 32     64K tokens a step
    python3 bench/peers/torch_cuda_step.py --preset small --rows 2 --device cpu --compile none   does it run?
    python3 bench/peers/torch_cuda_step.py --preset 2b --rows 32 --serve   steps whenever told to (against.py)

Weights, activations and gradients are bf16; AdamW runs on f32 master weights and moments. Each layer is compiled as one
graph. Experts are grouped products whose sizes stay on the GPU (F.grouped_mm) on rows sorted by expert, with the gate
applied before the second one; SwiGLU's gradient is one Triton kernel; rows are gathered in both directions, never
scattered. Attention is cuDNN's. The loss's gradient is formed while its logits exist. Clipping and AdamW are one compiled
pass over each tensor. Prints one JSON line: tokens_per_s is the median over --steps after --warmup, product_tflops the
rate of an 8192^3 bf16 product before and after, share_of_product the exact count of a sequence's products
(6 (A + router) s + 6 L s (s + 1) d) over it, peak_gib what PyTorch's allocator held at most. With --serve the program
compiles and warms up once, then measures and prints such a line for each line that it reads, until its input ends; between
them it keeps parameters and the optimiser's state alone.
"""

import argparse
import json
import statistics
import sys
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None


@dataclass(frozen=True)
class Shape:
    vocab: int
    hidden: int
    layers: int
    heads: int
    shared: int
    routed: int
    top_k: int
    width: int
    alpha: float = 0.001
    eps: float = 1e-6
    theta: float = 10000.0


PRESETS = {
    "2b": (Shape(vocab=8192, hidden=1280, layers=9, heads=10, shared=1, routed=63, top_k=7, width=864), 2048),
    "16b4": (Shape(vocab=102400, hidden=2048, layers=4, heads=16, shared=2, routed=64, top_k=6, width=1408), 4096),
    "small": (Shape(vocab=512, hidden=64, layers=2, heads=4, shared=1, routed=15, top_k=3, width=48), 64),
}


def weight(*shape):
    return nn.Parameter(torch.randn(*shape) * 0.006)


def product_in_f32(a, b):
    """a b of bf16 matrices with an f32 result."""
    return torch.mm(a, b, out_dtype=torch.float32) if a.is_cuda else a.float() @ b.float()


class Scores(torch.autograd.Function):
    """Softmax over the experts of x W^T, in f32. W's rows are padded to a multiple of 8, as the products want them."""

    @staticmethod
    def forward(ctx, x, w, experts):
        p = product_in_f32(x, w.t())[:, :experts].softmax(-1)
        ctx.save_for_backward(x, w, p)
        return p

    @staticmethod
    def backward(ctx, dp):
        x, w, p = ctx.saved_tensors
        dz = p * (dp - (dp * p).sum(-1, keepdim=True))
        dz = F.pad(dz, (0, w.shape[0] - p.shape[1])).to(x.dtype)
        return dz @ w, dz.t() @ x, None


def choose(scores, count):
    """The `count` largest scores of each row and their experts, one maximum after the other: element-wise work that the compiler
    joins, where topk would be a kernel of its own. The scores' gradient goes through a comparison, not a scatter."""
    number = torch.arange(scores.shape[1], device=scores.device)
    left, ids = scores.detach(), []
    for _ in range(count):
        ids.append(left.argmax(-1))
        left = left.masked_fill(number == ids[-1][:, None], float("-inf"))
    ids = torch.stack(ids, 1)
    gates = (scores[:, None, :] * (number == ids[:, :, None])).sum(-1)
    return gates, ids


class ToExperts(torch.autograd.Function):
    """Rows of x [T, d] in expert order; `token` [R] is a row's token, `row` [T, K] a token's rows."""

    @staticmethod
    def forward(ctx, x, token, row):
        ctx.save_for_backward(row)
        return x[token]

    @staticmethod
    def backward(ctx, grad):
        return grad[ctx.saved_tensors[0]].sum(1), None, None


class ToTokens(torch.autograd.Function):
    """The sum of each token's rows."""

    @staticmethod
    def forward(ctx, y, token, row):
        ctx.save_for_backward(token)
        return y[row].sum(1)

    @staticmethod
    def backward(ctx, grad):
        return grad[ctx.saved_tensors[0]], None, None


class Reordered(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values, order, inverse):
        ctx.save_for_backward(inverse)
        return values[order]

    @staticmethod
    def backward(ctx, grad):
        return grad[ctx.saved_tensors[0]], None, None


def swiglu(pair, scale=None):
    gate, up = pair.float().chunk(2, -1)
    y = F.silu(gate) * up
    return (y if scale is None else y * scale[:, None]).to(pair.dtype)


if triton is not None:

    @triton.jit
    def swiglu_gradient(grad, pair, scale, d_pair, d_scale, width: tl.constexpr, padded: tl.constexpr):
        row = tl.program_id(0).to(tl.int64)
        column = tl.arange(0, padded)
        inside = column < width
        gate = tl.load(pair + row * 2 * width + column, mask=inside, other=0.0).to(tl.float32)
        up = tl.load(pair + (row * 2 + 1) * width + column, mask=inside, other=0.0).to(tl.float32)
        dy = tl.load(grad + row * width + column, mask=inside, other=0.0).to(tl.float32)
        sigmoid = tl.sigmoid(gate)
        silu = gate * sigmoid
        tl.store(d_scale + row, tl.sum(dy * silu * up, 0))
        dy *= tl.load(scale + row)
        d_gate = dy * up * sigmoid * (1.0 + gate * (1.0 - sigmoid))
        tl.store(d_pair + row * 2 * width + column, d_gate.to(d_pair.dtype.element_ty), mask=inside)
        tl.store(d_pair + (row * 2 + 1) * width + column, (dy * silu).to(d_pair.dtype.element_ty), mask=inside)


class ScaledSwiglu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, pair, scale):
        ctx.save_for_backward(pair, scale)
        return swiglu(pair, scale)

    @staticmethod
    def backward(ctx, grad):
        pair, scale = ctx.saved_tensors
        rows, width = grad.shape
        d_pair, d_scale = torch.empty_like(pair), torch.empty_like(scale)
        padded = 1 << (width - 1).bit_length()
        swiglu_gradient[(rows,)](grad.contiguous(), pair, scale, d_pair, d_scale, width, padded, num_warps=4)
        return d_pair, d_scale


class Experts(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        d, w, e = shape.hidden, shape.width, shape.routed
        self.router = weight((e + 7) // 8 * 8, d)
        self.gate_up, self.down = weight(e, 2 * w, d), weight(e, d, w)
        self.shared_gate_up, self.shared_down = weight(2 * w * shape.shared, d), weight(d, w * shape.shared)

    def forward(self, x, rows):
        """x [T, d] -> (the layer's output, its balance loss in sequence form over `rows` sequences)."""
        e, k = self.shape.routed, self.shape.top_k
        scores = Scores.apply(x, self.router, e)
        gates, ids = choose(scores, k)
        chosen = (ids[:, :, None] == torch.arange(e, device=x.device)).sum(1)
        counts = chosen.view(rows, -1, e).sum(1)
        f = counts.float() * (e * rows / ids.numel())
        balance = self.shape.alpha * (f * scores.view(rows, -1, e).mean(1)).sum() / rows
        keys = ids.flatten().to(torch.uint8 if e <= 256 else torch.int32)
        order = keys.sort(stable=True).indices
        inverse = torch.empty_like(order).scatter_(0, order, torch.arange(order.numel(), device=x.device))
        token, row = order // k, inverse.view(-1, k)
        ends = counts.sum(0).cumsum(0).to(torch.int32)
        pair = F.grouped_mm(ToExperts.apply(x, token, row), self.gate_up.transpose(1, 2), offs=ends)
        scale = Reordered.apply(gates.flatten(), order, inverse)
        activate = ScaledSwiglu.apply if x.is_cuda and triton is not None else swiglu
        out = F.grouped_mm(activate(pair, scale), self.down.transpose(1, 2), offs=ends)
        shared = swiglu(x @ self.shared_gate_up.t()) @ self.shared_down.t()
        return ToTokens.apply(out, token, row) + shared, balance


def rotate(x, cos, sin):
    first, second = x.float().chunk(2, -1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1).to(x.dtype)


class Layer(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        d = shape.hidden
        self.norm1, self.norm2 = nn.Parameter(torch.ones(d)), nn.Parameter(torch.ones(d))
        self.qkv, self.out = weight(3 * d, d), weight(d, d)
        self.experts = Experts(shape)

    def forward(self, x, rows, cos, sin):
        t, d = x.shape
        heads = self.shape.heads
        normed = F.rms_norm(x, (d,), self.norm1, self.shape.eps)
        q, k, v = (normed @ self.qkv.t()).view(rows, t // rows, 3, heads, d // heads).unbind(2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        mixed = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True)
        x = x + mixed.transpose(1, 2).reshape(t, d) @ self.out.t()
        y, balance = self.experts(F.rms_norm(x, (d,), self.norm2, self.shape.eps), rows)
        return x + y, balance


def loss_and_gradient(logits, targets, scale):
    z = logits.float()
    log_sum = z.logsumexp(-1)
    loss = (log_sum - z.gather(1, targets[:, None])[:, 0]).sum()
    one = targets[:, None] == torch.arange(z.shape[1], device=z.device)
    return loss, ((z - log_sum[:, None]).exp().sub(one.float()) * scale).to(logits.dtype)


class HeadLoss(torch.autograd.Function):
    """Mean cross-entropy of x W^T, `chunk` rows at a time."""

    @staticmethod
    def forward(ctx, x, w, targets, chunk, function):
        dx, dw = torch.empty_like(x), torch.zeros(w.shape, device=w.device)
        total = torch.zeros((), device=x.device)
        for part, target, d_part in zip(x.split(chunk), targets.split(chunk), dx.split(chunk)):
            loss, d_logits = function(part @ w.t(), target, 1.0 / x.shape[0])
            total += loss
            torch.mm(d_logits, w, out=d_part)
            dw += product_in_f32(d_logits.t(), part)
        ctx.save_for_backward(dx, dw.to(w.dtype))
        return total / x.shape[0]

    @staticmethod
    def backward(ctx, grad):
        dx, dw = ctx.saved_tensors
        return dx * grad.to(dx.dtype), dw * grad.to(dw.dtype), None, None, None


class Model(nn.Module):
    def __init__(self, shape, compiled):
        super().__init__()
        self.shape = shape
        self.embedding, self.head = weight(shape.vocab, shape.hidden), weight(shape.vocab, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = nn.Parameter(torch.ones(shape.hidden))
        self.function = loss_and_gradient
        if compiled:
            for layer in self.layers:
                layer.compile(dynamic=False, fullgraph=True)
            self.function = torch.compile(loss_and_gradient, dynamic=False)

    def forward(self, tokens, targets, chunk):
        rows, length = tokens.shape
        half = self.shape.hidden // self.shape.heads // 2
        angle = torch.arange(length)[:, None] * self.shape.theta ** (-torch.arange(half) / half)
        cos, sin = angle.cos()[:, None, :], angle.sin()[:, None, :]
        x, balance = F.embedding(tokens.flatten(), self.embedding), 0.0
        for layer in self.layers:
            x, one = layer(x, rows, cos, sin)
            balance = balance + one
        x = F.rms_norm(x, (x.shape[1],), self.norm, self.shape.eps)
        return HeadLoss.apply(x, self.head, targets.flatten(), chunk, self.function), balance


def adamw(param, master, mean, square, grad, clip, rate, decay, correction1, correction2):
    g = grad.float() * clip
    m = 0.9 * mean + 0.1 * g
    v = 0.95 * square + 0.05 * g * g
    w = master * (1 - rate * decay) - rate * (m / correction1) / ((v / correction2).sqrt() + 1e-8)
    mean.copy_(m), square.copy_(v), master.copy_(w), param.copy_(w)


class Optimizer:
    def __init__(self, parameters, compiled):
        self.parameters = parameters
        flat = [p.detach().view(-1) for p in parameters]
        self.state = [(p, p.float(), torch.zeros_like(p, dtype=torch.float32), torch.zeros_like(p, dtype=torch.float32))
                      for p in flat]
        self.function = torch.compile(adamw, dynamic=True) if compiled else adamw
        self.steps = 0

    @torch.no_grad()
    def step(self):
        self.steps += 1
        gradients = [p.grad for p in self.parameters]
        norms = torch._foreach_norm(gradients, 2, dtype=torch.float32)
        norm = torch.stack(norms).norm()
        clip = (1.0 / (norm + 1e-6)).clamp(max=1.0)
        corrections = torch.tensor([1 - 0.9**self.steps, 1 - 0.95**self.steps])
        for parameter, state, gradient in zip(self.parameters, self.state, gradients):
            decay = 0.1 if parameter.dim() > 1 else 0.0
            self.function(*state, gradient.reshape(-1), clip, 1e-4, decay, corrections[0], corrections[1])
            parameter.grad = None
        return norm


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


class Run:
    """The model, its optimiser, and the text that they are given."""

    def __init__(self, options):
        self.options, self.gpu = options, options.device == "cuda"
        self.shape, self.length = PRESETS[options.preset]
        torch.set_default_device(options.device)
        torch.manual_seed(1)
        self.product = product_tflops(options.device) if self.gpu else 0.0
        compiled = options.compile == "layer"
        self.model = Model(self.shape, compiled).to(torch.bfloat16)
        self.optimizer = Optimizer(list(self.model.parameters()), compiled)

    def step(self):
        """One step: its seconds, loss, balance loss and gradient norm."""
        text = torch.randint(self.shape.vocab, (self.options.rows, self.length + 1))
        if self.gpu:
            torch.cuda.synchronize()
        start = time.perf_counter()
        loss, balance = self.model(text[:, :-1].contiguous(), text[:, 1:].contiguous(), self.options.head_rows)
        (loss + balance).backward()
        norm = self.optimizer.step()
        loss, norm = loss.item(), norm.item()
        return time.perf_counter() - start, loss, balance.item(), norm

    def measure(self, warmup):
        """The JSON line of --steps steps after `warmup` others."""
        steps = [self.step() for _ in range(warmup + self.options.steps)]
        seconds, (_, loss, balance, norm) = statistics.median(s[0] for s in steps[warmup:]), steps[-1]
        peak = torch.cuda.max_memory_allocated() / 2**30 if self.gpu else 0.0
        product = max(self.product, product_tflops(self.options.device)) if self.gpu else 0.0
        rows = self.options.rows
        rate = 1e-12 * rows * flops(self.shape, self.length) / seconds
        return json.dumps({
            "peer": f"torch {torch.__version__}", "compile": self.options.compile, "attention": self.options.attention,
            "preset": self.options.preset, "rows": rows, "length": self.length,
            "tokens_per_s": round(rows * self.length / seconds, 1), "step_s": round(seconds, 4),
            "tflops": round(rate, 1), "product_tflops": round(product, 1),
            "share_of_product": round(rate / product, 4) if product else None, "peak_gib": round(peak, 2),
            "loss": loss, "balance": balance, "grad_norm": norm,
        })

    def serve(self):
        for _ in range(self.options.warmup):
            self.step()
        while True:
            if self.gpu:
                torch.cuda.empty_cache()
            print("ready", flush=True)
            if not sys.stdin.readline():
                return
            print(self.measure(warmup=1), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="2b")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--compile", choices=("layer", "none"), default="layer")
    parser.add_argument("--attention", choices=("cudnn", "flash", "any"), default="cudnn")
    parser.add_argument("--head-rows", type=int, default=16384)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--serve", action="store_true", help="measure once for each line of the input")
    options = parser.parse_args()
    kinds = {"cudnn": [SDPBackend.CUDNN_ATTENTION], "flash": [SDPBackend.FLASH_ATTENTION]}
    anything = [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
    with sdpa_kernel(kinds.get(options.attention, anything) if options.device == "cuda" else anything):
        run = Run(options)
        if options.serve:
            run.serve()
        else:
            print(run.measure(options.warmup))


if __name__ == "__main__":
    main()
