#!/usr/bin/env bash
# Collects what tools/gpu_check.sh needs on a machine that has a GPU and no network: the programs built here and the
# shared libraries that they need beside CUDA's. Usage: tools/gpu_pack.sh [BUILD_FOLDER [OUT [PROGRAM...]]]
# (build build/gpu moe and the tests that gpu_check.sh runs)
set -euo pipefail
cd "$(dirname "$0")/.."

readonly build=${1:-build} out=${2:-build/gpu}
programs=("${@:3}")
[ ${#programs[@]} -gt 0 ] || programs=(moe tests/test_conformance tests/test_train tests/test_backend_cuda)

rm -rf "$out"
mkdir -p "$out/lib"
for program in "${programs[@]}"; do
  [ -x "$build/$program" ] || { echo "gpu_pack: $build/$program is missing; run make build test first" >&2; exit 1; }
  strip -o "$out/$(basename "$program")" "$build/$program"
  ldd "$build/$program" | awk '$3 ~ /^\// {print $3}' |
    grep -Ev '/(libc|libm|libdl|librt|libpthread|libstdc\+\+|libgcc_s|ld-linux.*|libcublas.*|libcuda.*)\.so' || true
done | sort -u | xargs -r -I{} cp -L {} "$out/lib/"
du -sh "$out" >&2
