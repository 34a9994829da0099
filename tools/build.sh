#!/usr/bin/env bash
# Configures and builds: tools/build.sh PRESET FOLDER JOBS TARGET. Every time, so that a CUDA toolkit installed since is seen.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly preset=$1 folder=$2 jobs=$3 target=$4
mkdir -p "$folder"
cmake --preset "$preset" >"$folder/configure.log" 2>&1 || { cat "$folder/configure.log" >&2; exit 1; }
grep -E -- '^-- (CUDA|Chart.js: not found)' "$folder/configure.log" | cut -c4- >&2
cmake --build "$folder" --parallel "$jobs" --target "$target"
