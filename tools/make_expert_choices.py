#!/usr/bin/env python3
"""Writes tests/golden/experts/choices.json: which experts ESFT's two rules choose, from an independent program.

    python3 tools/make_expert_choices.py            # a second, deterministic; needs only Python

Everything is exact: sums and thresholds are fractions. `tables` are sums by hand (the expert that crosses p, equal sums, sums
that meet p exactly, gates that do not add up to 1). `cases` are scores and choices from the routes that the PyTorch program
of tools/make_golden.py stored in tests/golden (route.LAYER.ids and .gates of an evaluation pass).
"""

import json
import random
import struct
from fractions import Fraction
from pathlib import Path

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
CASES = ("moe_basic", "moe_gqa_norm", "moe_k1", "switch", "mixtral", "device_limited", "loss_free_sigmoid")
PARTS = ("0.1", "0.2", "0.35", "0.5", "0.8")
NEAR = Fraction(1, 10000)  # a choice of f32 gates must not hang on rounding


def choose(sums, total, part):
    """The experts of one layer, ascending."""
    aim = Fraction(part) * Fraction(total)
    order = sorted(range(len(sums)), key=lambda expert: (-Fraction(sums[expert]), expert))
    chosen, reached = [], Fraction(0)
    for expert in order:
        if reached >= aim:
            break
        chosen.append(expert)
        reached += Fraction(sums[expert])
    return sorted(chosen)


def is_near(sums, total, part):
    """Whether some sum of the largest is nearly, but not by construction, what `part` asks for."""
    aim, reached = Fraction(part) * Fraction(total), Fraction(0)
    for value in sorted((Fraction(value) for value in sums), reverse=True):
        reached += value
        if abs(reached - aim) < NEAR * Fraction(total):
            return True
    return False


def tables():
    rows = [
        ("the expert that crosses p is among them", [50, 30, 15, 5], 100, "0.6"),
        ("p is met exactly: no further expert", [50, 30, 15, 5], 100, "0.8"),
        ("one expert is enough", [5, 80, 10, 5], 100, "0.2"),
        ("equal sums: the lower expert first", [25, 25, 25, 25], 100, "0.3"),
        ("equal sums behind a larger one", [10, 30, 30, 30], 100, "0.5"),
        ("ten equal parts, p = 0.3: three of them", [1] * 10, 10, "0.3"),
        ("ten equal parts, p = 0.7: seven of them", [1] * 10, 10, "0.7"),
        ("a hundred equal parts, p = 0.07: seven of them", [1] * 100, 100, "0.07"),
        ("p = 1: all with a choice, and none without", [40, 0, 60, 0], 100, "1"),
        ("gates that add up to 0.4: p = 0.1 is a quarter of them", [20, 10, 6, 4], 100, "0.1"),
        ("gates that add up to 0.4: p = 0.2", [20, 10, 6, 4], 100, "0.2"),
        ("gates that never reach p: all experts, also unused ones", [20, 10, 10, 0], 100, "0.5"),
        ("gates above 1 (routed_scaling_factor 2.5)", [150, 60, 40], 100, "0.2"),
        ("only unused experts", [0, 0, 0], 100, "0.2"),
        ("one expert", [7], 7, "0.2"),
        ("a small p takes one", [30, 40, 30], 100, "0.000001"),
    ]
    draw = random.Random(24)
    for number in range(24):
        sums = [draw.choice((0, 1, 2, 3, 5, 8, 13, 21, 34)) * draw.randint(1, 9) for _ in range(draw.randint(2, 24))]
        total = max(1, sum(sums) * draw.choice((1, 1, 2, 3)))
        rows.append((f"drawn {number}", sums, total, draw.choice(PARTS)))
    return [
        {"name": name, "sums": sums, "total": total, "p": float(part), "experts": choose(sums, total, part)}
        for name, sums, total, part in rows
    ]


def read_tensors(path):
    """name -> (shape, values) of the F32 and I32 tensors of a safetensors file."""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + size]).items():
        if name == "__metadata__":
            continue
        begin, end = (8 + size + offset for offset in entry["data_offsets"])
        letter = {"F32": "f", "I32": "i"}[entry["dtype"]]
        tensors[name] = (entry["shape"], struct.unpack(f"<{(end - begin) // 4}{letter}", data[begin:end]))
    return tensors


def case(name):
    config = json.loads((GOLDEN / name / "config.json").read_text())
    tensors = read_tensors(GOLDEN / name / "golden.safetensors")
    experts = config["n_routed_experts"]
    starts = tensors["input.segment_start"][1]
    layers = []
    for layer in range(config["num_hidden_layers"]):
        if f"route.{layer}.ids" not in tensors:
            continue
        (tokens, slots), ids = tensors[f"route.{layer}.ids"]
        gates = tensors[f"route.{layer}.gates"][1]
        sums = {"token": [Fraction(0)] * experts, "gate": [Fraction(0)] * experts}
        for place, expert in enumerate(ids):
            if expert < 0 or starts[place // slots] < 0:
                continue
            sums["token"][expert] += 1
            sums["gate"][expert] += Fraction(gates[place])
        real = sum(1 for start in starts if start >= 0)
        totals = {"token": sum(sums["token"]), "gate": Fraction(real)}
        choices = [
            {"rule": rule, "p": float(part), "experts": choose(sums[rule], totals[rule], part)}
            for rule in ("token", "gate")
            for part in PARTS
            if rule == "token" or not is_near(sums[rule], totals[rule], part)
        ]
        scores = {rule: [float(value / totals[rule]) for value in sums[rule]] for rule in ("token", "gate")}
        layers.append({"layer": layer, **scores, "choices": choices})
    return {"case": name, "layers": layers}


def main():
    document = {"tables": tables(), "cases": [case(name) for name in CASES]}
    (GOLDEN / "experts").mkdir(exist_ok=True)
    (GOLDEN / "experts" / "choices.json").write_text(json.dumps(document, indent=None, separators=(",", ": ")).replace(
        '{"name"', '\n{"name"').replace('{"case"', '\n{"case"').replace('{"layer"', '\n {"layer"') + "\n")


if __name__ == "__main__":
    main()
