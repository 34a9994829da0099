#!/usr/bin/env python3
"""Prints the demo's result: loss and bits per byte per domain beside `xz -9`: demo_report.py MANIFEST.json EVAL.json

xz compresses the same validation text of each domain, alone; the last line is over all bytes.
"""

import json
import sys


def main():
    manifest = json.load(open(sys.argv[1], encoding="utf-8"))["domains"]
    scores = json.load(open(sys.argv[2], encoding="utf-8"))["domains"]
    print(f"{'domain':12}{'bytes':>9}{'loss':>9}{'bits per byte':>15}{'xz -9':>9}")
    total_bytes = model_bits = xz_bits = 0
    for domain, entry in manifest.items():
        size, packed = entry["valid"]["text_bytes"], entry["valid"]["xz_9_bytes"]
        score = scores[domain]
        if score["bytes"] != size:
            sys.exit(f"demo_report: {domain} was evaluated on {score['bytes']} bytes, but its validation text has {size}")
        print(f"{domain:12}{size:9}{score['loss']:9.3f}{score['bits_per_byte']:15.3f}{8 * packed / size:9.3f}")
        total_bytes += size
        model_bits += score["bits_per_byte"] * size
        xz_bits += 8 * packed
    print(f"{'all':12}{total_bytes:9}{'':9}{model_bits / total_bytes:15.3f}{xz_bits / total_bytes:9.3f}")
    word = "less" if model_bits < xz_bits else "more"
    print(f"over all of it the model needs {abs(1 - model_bits / xz_bits):.1%} {word} than xz")


if __name__ == "__main__":
    main()
