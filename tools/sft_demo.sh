#!/usr/bin/env bash
# From the demo's model to a small chat model: conversations, dataset, fine-tuning, and the loss on held-out answers before and
# after. `make sft-demo` runs it. Arguments go to `moe train`. A run that was stopped continues where it was.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly moe=build/moe corpus=build/corpus work=build/sft base=runs/demo run=runs/sft-demo
dtype=f32
if grep -qw avx512_bf16 /proc/cpuinfo; then dtype=bf16; fi

say() { printf '\n== %s\n' "$*" >&2; }

if [ ! -e "$base/latest" ] || [ ! -f "$corpus/manifest.json" ]; then
  echo "$base and $corpus are not there yet: run make demo first" >&2
  exit 1
fi

say "Conversations: questions about the demo's corpus"
python3 tools/make_questions.py --corpus "$corpus" --out "$work"

say "Dataset: answers are learned, each with its EOS"
if [ ! -d "$work/data" ] || [ "$work/train/bible.jsonl" -nt "$work/data/train/dataset.json" ]; then
  rm -rf "$work/data"
  for part in train valid; do
    "$moe" data --chat --tokenizer "$base/latest" --max-tokens 256 --out "$work/data/$part" "$work/$part"/*.jsonl
  done
fi

say "Fine-tuning in $dtype"
resume=()
if [ -e "$run/latest" ]; then resume=(--resume); fi
started=$SECONDS
"$moe" train configs/sft-demo.toml "${resume[@]}" --set "train.dtype=$dtype" "$@"
echo "fine-tuning took $((SECONDS - started)) s" >&2

say "The loss on held-out answers, before and after"
for model in "$base/latest" "$run/latest"; do
  echo "$model"
  "$moe" eval loss "$model" "$work/data/valid" --device cpu
done

say "What it answers"
python3 tools/ask.py "$moe" "$run/latest" "$work/valid"
