#!/usr/bin/env python3
"""Prints the demo's result: loss and bits per byte per domain beside `xz -9`: demo_report.py MANIFEST.json EVAL.json

xz compresses the same validation text of each domain, alone; the last line is over all bytes. A model that learned less
than the demo's settings reach is told, with what to look at.
"""

import json
import sys

# Bits per byte over all domains that configs/demo.toml reaches with any seed (docs/training.md, "A first small model").
EXPECTED = 1.85


def advice(bits_per_byte, worse_than_xz):
    """What to say of a model that learned too little; "" for one that did not."""
    found = []
    if bits_per_byte > EXPECTED:
        found.append(f"{bits_per_byte:.3f} bits per byte, where {EXPECTED} or less was expected")
    if worse_than_xz:
        found.append(f"more bits than xz in {', '.join(worse_than_xz)}")
    if not found:
        return ""
    return (
        f"the model learned less than it should: {'; '.join(found)}. Was the run stopped before its last step, or were its "
        "settings changed? runs/demo/run.toml has them, runs/demo/log.jsonl every step's loss."
    )


def main():
    manifest = json.load(open(sys.argv[1], encoding="utf-8"))["domains"]
    scores = json.load(open(sys.argv[2], encoding="utf-8"))["domains"]
    print(f"{'domain':12}{'bytes':>9}{'loss':>9}{'bits per byte':>15}{'xz -9':>9}")
    total_bytes = model_bits = xz_bits = 0
    worse_than_xz = []
    for domain, entry in manifest.items():
        size, packed = entry["valid"]["text_bytes"], entry["valid"]["xz_9_bytes"]
        score = scores[domain]
        if score["bytes"] != size:
            sys.exit(f"demo_report: {domain} was evaluated on {score['bytes']} bytes, but its validation text has {size}")
        print(f"{domain:12}{size:9}{score['loss']:9.3f}{score['bits_per_byte']:15.3f}{8 * packed / size:9.3f}")
        total_bytes += size
        model_bits += score["bits_per_byte"] * size
        xz_bits += 8 * packed
        if score["bits_per_byte"] * size >= 8 * packed:
            worse_than_xz.append(domain)
    print(f"{'all':12}{total_bytes:9}{'':9}{model_bits / total_bytes:15.3f}{xz_bits / total_bytes:9.3f}")
    word = "less" if model_bits < xz_bits else "more"
    print(f"over all of it the model needs {abs(1 - model_bits / xz_bits):.1%} {word} than xz")
    if text := advice(model_bits / total_bytes, worse_than_xz):
        print(text)


if __name__ == "__main__":
    main()
