#!/usr/bin/env bash
# Configures (once) and builds: tools/build.sh PRESET FOLDER JOBS TARGET. CMake configures again by itself when its files change.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly preset=$1 folder=$2 jobs=$3 target=$4
if [ ! -f "$folder/build.ninja" ]; then
  mkdir -p "$folder"
  cmake --preset "$preset" >"$folder/configure.log" 2>&1 || { cat "$folder/configure.log" >&2; exit 1; }
fi
cmake --build "$folder" --parallel "$jobs" --target "$target"
