"""The DeepSeekMoE model as fast as PyTorch computes it, with its experts in several forms.

Every layer is a MoE layer. Rows of equal length, one document each. Symbols: B rows, S positions, T = B * S tokens,
D hidden size, E routed experts, K chosen, F expert width, R = T * K routed rows sorted by expert, V vocabulary.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint


@dataclass(frozen=True)
class Shape:
    vocab: int = 8192
    hidden: int = 512
    layers: int = 8
    heads: int = 8
    shared: int = 1
    routed: int = 63
    top_k: int = 7
    width: int = 344
    alpha: float = 0.001
    eps: float = 1e-6
    theta: float = 10000.0


class Reorder(torch.autograd.Function):
    """Rows of x [T, D], each K times, in expert order: [R, D]. The gradient gathers by the inverse permutation and sums
    K rows in a fixed order, where index_select's own would scatter with additions."""

    @staticmethod
    def forward(ctx, x, order, inverse, k):
        ctx.save_for_backward(inverse)
        ctx.k = k
        return x.index_select(0, order // k)

    @staticmethod
    def backward(ctx, grad):
        (inverse,) = ctx.saved_tensors
        return grad.index_select(0, inverse).view(-1, ctx.k, grad.shape[1]).sum(1), None, None, None


class Permute(torch.autograd.Function):
    """Rows of x [R, D] taken by a permutation; the gradient is taken by its inverse."""

    @staticmethod
    def forward(ctx, x, permutation, inverse):
        ctx.save_for_backward(inverse)
        return x.index_select(0, permutation)

    @staticmethod
    def backward(ctx, grad):
        return grad.index_select(0, ctx.saved_tensors[0]), None, None


class ExpertFfn(torch.autograd.Function):
    """All experts' SwiGLU on sorted rows; each product writes its slice of the result, nothing is joined or stacked."""

    @staticmethod
    def forward(ctx, x, gate_up, down, sizes):
        rows, width = x.shape[0], down.shape[2]
        hidden_pair = x.new_empty(rows, 2 * width)
        y = torch.empty_like(x)
        for e, part in slices(sizes):
            torch.mm(x[part], gate_up[e].T, out=hidden_pair[part])
        hidden = F.silu(hidden_pair[:, :width]).mul_(hidden_pair[:, width:])
        for e, part in slices(sizes):
            torch.mm(hidden[part], down[e].T, out=y[part])
        ctx.save_for_backward(x, gate_up, down, hidden_pair, hidden)
        ctx.sizes = sizes
        return y

    @staticmethod
    def backward(ctx, grad):
        x, gate_up, down, hidden_pair, hidden = ctx.saved_tensors
        sizes, width = ctx.sizes, down.shape[2]
        grad = grad.contiguous()
        grad_hidden = torch.empty_like(hidden)
        grad_down = torch.zeros_like(down) if 0 in sizes else torch.empty_like(down)
        for e, part in slices(sizes):
            torch.mm(grad[part], down[e], out=grad_hidden[part])
            torch.mm(grad[part].T, hidden[part], out=grad_down[e])
        gate, up = hidden_pair[:, :width], hidden_pair[:, width:]
        grad_pair = torch.empty_like(hidden_pair)
        torch.mul(grad_hidden, F.silu(gate), out=grad_pair[:, width:])
        grad_pair[:, :width] = torch.ops.aten.silu_backward(grad_hidden.mul_(up), gate)
        grad_x = torch.empty_like(x)
        grad_gate_up = torch.zeros_like(gate_up) if 0 in sizes else torch.empty_like(gate_up)
        for e, part in slices(sizes):
            torch.mm(grad_pair[part], gate_up[e], out=grad_x[part])
            torch.mm(grad_pair[part].T, x[part], out=grad_gate_up[e])
        return grad_x, grad_gate_up, grad_down, None


def slices(sizes):
    """(expert, its slice of the sorted rows) of every expert that has rows."""
    first = 0
    for e, size in enumerate(sizes):
        if size:
            yield e, slice(first, first + size)
        first += size


def swiglu(pair):
    gate, up = pair.chunk(2, dim=-1)
    return F.silu(gate) * up


def experts_slices(x, gate_up, down, counts):
    """One product per expert on contiguous slices, left to autograd."""
    sizes = counts.tolist()
    pair = torch.cat([part @ w.T for part, w in zip(x.split(sizes), gate_up.unbind(0))])
    return torch.cat([part @ w.T for part, w in zip(swiglu(pair).split(sizes), down.unbind(0))])


def experts_grouped_mm(x, gate_up, down, counts):
    offsets = counts.cumsum(0).to(torch.int32)
    pair = F.grouped_mm(x, gate_up.transpose(1, 2), offs=offsets)
    return F.grouped_mm(swiglu(pair), down.transpose(1, 2), offs=offsets)


class Moe(nn.Module):
    def __init__(self, shape, form):
        super().__init__()
        self.shape, self.form = shape, form
        d, w = shape.hidden, shape.width
        self.router = matrix(shape.routed, d)
        self.gate_up, self.down = matrix(shape.routed, 2 * w, d), matrix(shape.routed, d, w)
        self.shared_gate_up, self.shared_down = matrix(2 * w * shape.shared, d), matrix(d, w * shape.shared)

    def forward(self, x, rows):
        """x [T, D] -> (the layer's output [T, D], its balance loss: sequence form, `rows` sequences)."""
        e, k = self.shape.routed, self.shape.top_k
        scores = (x @ self.router.T).float().softmax(-1)
        gates, ids = scores.topk(k, dim=-1)
        flat = ids.view(-1)
        ones = torch.ones(rows, flat.numel() // rows, device=x.device)
        counts = torch.zeros(rows, e, device=x.device).scatter_add_(1, ids.view(rows, -1), ones)
        f = counts * (e * rows / flat.numel())
        balance = self.shape.alpha * (f * scores.view(rows, -1, e).mean(1)).sum() / rows
        y = F.silu(x @ self.shared_gate_up[: self.shared_down.shape[1]].T)
        y = (y * (x @ self.shared_gate_up[self.shared_down.shape[1] :].T)) @ self.shared_down.T
        if self.form == "loop":
            return self.loop(x, y, ids, gates), balance
        order = flat.argsort(stable=True)
        inverse = torch.empty_like(order)
        inverse[order] = torch.arange(order.numel(), device=x.device)
        total = counts.sum(0).long()
        sorted_x = Reorder.apply(x, order, inverse, k)
        if self.form == "function":
            out = ExpertFfn.apply(sorted_x, self.gate_up, self.down, total.tolist())
        else:
            compute = experts_slices if self.form == "slices" else experts_grouped_mm
            out = compute(sorted_x, self.gate_up, self.down, total)
        out = Permute.apply(out, inverse, order).view(-1, k, x.shape[1])
        return y + torch.bmm(gates[:, None, :].to(out.dtype), out)[:, 0], balance

    def loop(self, x, y, ids, gates):
        """The form most models are published in: each expert looks for its tokens and adds its part."""
        for expert in range(self.shape.routed):
            token, slot = (ids == expert).nonzero(as_tuple=True)
            part = swiglu(x[token] @ self.gate_up[expert].T) @ self.down[expert].T
            y = y.index_add(0, token, part * gates[token, slot, None])
        return y


class Attention(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.heads = shape.heads
        self.qkv, self.out = matrix(3 * shape.hidden, shape.hidden), matrix(shape.hidden, shape.hidden)

    def forward(self, x, rows, cos, sin):
        t, d = x.shape
        q, k, v = (x @ self.qkv.T).view(rows, t // rows, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v, is_causal=True)
        return mixed.transpose(1, 2).reshape(t, d) @ self.out.T


def rotate(x, cos, sin):
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class Layer(nn.Module):
    def __init__(self, shape, form):
        super().__init__()
        self.attention_norm = nn.RMSNorm(shape.hidden, eps=shape.eps)
        self.attention = Attention(shape)
        self.ffn_norm = nn.RMSNorm(shape.hidden, eps=shape.eps)
        self.moe = Moe(shape, form)

    def forward(self, x, rows, cos, sin):
        x = x + self.attention(self.attention_norm(x), rows, cos, sin)
        y, balance = self.moe(self.ffn_norm(x), rows)
        return x + y, balance


class Model(nn.Module):
    def __init__(self, shape, form):
        super().__init__()
        self.shape = shape
        self.embedding = matrix(shape.vocab, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape, form) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.hidden, eps=shape.eps)
        self.head = matrix(shape.vocab, shape.hidden)

    def forward(self, tokens, targets, head_rows):
        """(mean cross-entropy, sum of balance losses) of tokens [B, S]; head in chunks of `head_rows` (0: whole)."""
        rows, length = tokens.shape
        half = self.shape.hidden // self.shape.heads // 2
        step = torch.arange(half, device=tokens.device)
        angle = torch.arange(length, device=tokens.device)[:, None] * self.shape.theta ** (-step / half)
        cos, sin = angle.cos().to(self.head.dtype), angle.sin().to(self.head.dtype)
        x = F.embedding(tokens.view(-1), self.embedding)
        balance = 0.0
        for layer in self.layers:
            x, one = layer(x, rows, cos, sin)
            balance = balance + one
        x, flat = self.norm(x), targets.view(-1)
        if not head_rows:
            return F.cross_entropy((x @ self.head.T).float(), flat), balance
        loss = sum(
            checkpoint(self.head_chunk, part, target, use_reentrant=False)
            for part, target in zip(x.split(head_rows), flat.split(head_rows))
        )
        return loss / flat.numel(), balance

    def head_chunk(self, x, targets):
        return F.cross_entropy((x @ self.head.T).float(), targets, reduction="sum")


def matrix(*shape):
    return nn.Parameter(torch.randn(*shape) * 0.006)
