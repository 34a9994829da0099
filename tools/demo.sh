#!/usr/bin/env bash
# From nothing to a model that writes: corpus, tokenizer, shards, training, samples and a score beside xz. `make demo` runs it.
# Arguments go to `moe train`, e.g. tools/demo.sh --set train.steps=100. A run that was stopped continues where it was.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly moe=build/moe corpus=build/corpus work=build/demo run=runs/demo
readonly domains=(bible dictionary python handbook chinese)
# bf16 where the processor multiplies it (about twice as fast), else f32: the same model within rounding.
dtype=f32
if grep -qw avx512_bf16 /proc/cpuinfo; then dtype=bf16; fi

say() { printf '\n== %s\n' "$*" >&2; }
files() { printf "$corpus/%s/$1.jsonl\n" "${domains[@]}"; }

say "Corpus: real text of ${#domains[@]} domains from Debian packages"
if [ ! -f "$corpus/manifest.json" ] || [ tools/make_corpus.py -nt "$corpus/manifest.json" ] ||
   [ tools/corpus_text.py -nt "$corpus/manifest.json" ]; then
  python3 tools/make_corpus.py --out "$corpus"
  rm -rf "$work"
else
  echo "$corpus is there already" >&2
fi
mapfile -t train_files < <(files train)
mapfile -t valid_files < <(files valid)

say "Tokenizer: byte-level BPE, trained on the corpus"
if [ ! -f "$work/tokenizer/tokenizer.json" ]; then
  "$moe" tokenizer train --vocab-size 4096 --pattern qwen2 --out "$work/tokenizer" "${train_files[@]}"
fi

say "Shards: the corpus as tokens"
[ -d "$work/train" ] || "$moe" data --tokenizer "$work/tokenizer" --out "$work/train" "${train_files[@]}"
[ -d "$work/valid" ] || "$moe" data --tokenizer "$work/tokenizer" --out "$work/valid" "${valid_files[@]}"

say "Training: a small DeepSeekMoE in $dtype, at most five minutes on two cores that multiply bf16, else about twice that"
resume=()
if [ -e "$run/latest" ]; then resume=(--resume); fi
started=$SECONDS
"$moe" train configs/demo.toml "${resume[@]}" --set "train.dtype=$dtype" "$@"
echo "training took $((SECONDS - started)) s" >&2

say "What it writes: one text for each domain"
for prompt in "And it came to pass" "Abrasion, n." "def read(self" "The package manager" "该选项"; do
  printf '\n--- %s' "$prompt"
  "$moe" generate "$run/latest" --prompt "$prompt" --max-new-tokens 80 --temperature 0.8 --top-p 0.9 --seed 1 --device cpu --quiet
  echo
done

say "How well it predicts text that it has not seen, and which experts took which domain"
"$moe" eval loss "$run/latest" "${valid_files[@]}" --analyse --json "$run/eval.json"

say "Beside xz -9 on the same text, each domain compressed alone"
python3 tools/demo_report.py "$corpus/manifest.json" "$run/eval.json"

say "Every expert masked in turn: which ones matter (docs/looking.md); the page shows it"
"$moe" eval causal "$run/latest" "${valid_files[@]}" --json - > "$run/causal.json"

say "All of it as a page"
"$moe" report "$run" --out "$run/report.html"
