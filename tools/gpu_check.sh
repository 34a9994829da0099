#!/usr/bin/env bash
# Tests and measures on a machine with a GPU: tools/gpu_check.sh PACKED STAGE...   (PACKED: what tools/gpu_pack.sh made)
# Stages: conformance step methods golden e2e memcheck racecheck machine bench2b bench2b64k
# bench16b peer2b backends train100m study ptx table. Ends with one line per stage.
# study: what fits in STUDY_SECONDS of configs/study/h200.toml, with the datasets in build/study (docs/study.md; that for
# training is made where it is missing); the results are packed into study.tar beside the logs.
# table: what a GPU must reach (bench/gpu_table.py), with the text files in TEXT; PACKED has bench_attention and bench_products.
# ptx: the conformance suite in a build for compute_80's PTX alone, packed in PACKED-ptx.
set -uo pipefail
cd "$(dirname "$0")/.."

readonly packed=$(realpath "$1")
shift
export MOE_SOURCE_DIR=$PWD

# CUDA's own libraries: of the toolkit, or of Python's packages.
cuda_folders() {
  find / -name 'libcublasLt.so.1[0-9]' -not -path '/proc/*' -printf '%h\n' 2>/dev/null
}
export LD_LIBRARY_PATH=$packed/lib:$(cuda_folders | paste -sd:):${LD_LIBRARY_PATH:-}

readonly logs=${OUT:-build/gpu-logs}
mkdir -p "$logs"
summary=()

# stage NAME SECONDS COMMAND...: runs it with its output in a file; the end of a failure is shown.
stage() {
  local name=$1 limit=$2 started=$SECONDS status=0
  shift 2
  timeout "$limit" "$@" >"$logs/$name.log" 2>&1 || status=$?
  local last
  last=$(grep -E '^\[  (PASSED|FAILED)|^Ran |^OK|ERROR SUMMARY' "$logs/$name.log" | tail -n 3 | paste -sd' ')
  summary+=("$(printf '%-14s status %-3s %4d s  %s' "$name" "$status" $((SECONDS - started)) "$last")")
  if [ "$status" -ne 0 ]; then
    echo "== $name failed"
    grep -E -A12 'Failure|^FAIL|Error|error:' "$logs/$name.log" | head -n "${SHOWN:-60}"
  fi
}

for name in "$@"; do
  case $name in
    conformance) stage "$name" 400 "$packed/test_conformance" ;;
    step) stage "$name" 200 "$packed/test_backend_cuda" ;;
    methods) stage "$name" 200 "$packed/test_backend_cuda" '--gtest_filter=*CudaMethods*' ;;
    golden) stage "$name" 100 "$packed/test_train" '--gtest_filter=*cuda*' ;;
    e2e) stage "$name" 300 python3 tests/e2e/cuda_test.py "$packed/moe" ;;
    memcheck) stage "$name" 400 compute-sanitizer --tool memcheck --error-exitcode 9 "$packed/test_backend_cuda" \
      '--gtest_filter=*SameBits*wide*:*SameBits*tiny*' ;;
    racecheck) stage "$name" 400 compute-sanitizer --tool racecheck --error-exitcode 9 "$packed/test_backend_cuda" \
      '--gtest_filter=*SameBits*wide_bf16:*SameBits*tiny_f32' ;;
    machine) stage "$name" 60 "$packed/moe" bench machine --device cuda; cat "$logs/$name.log" ;;
    bench2b64k) stage "$name" 200 "$packed/moe" bench step --device cuda --config configs/deepseekmoe-2b.toml --rows 32 --product 8192; cat "$logs/$name.log" ;;
    bench2b) stage "$name" 200 "$packed/moe" bench step --device cuda --config configs/deepseekmoe-2b.toml --rows "${ROWS:-8}"; cat "$logs/$name.log" ;;
    bench16b) stage "$name" 200 "$packed/moe" bench step --device cuda --config configs/deepseekmoe-16b.toml --layers 4 --rows 4; cat "$logs/$name.log" ;;
    backends) # LOG: what the CPU wrote of the same run, to compare the mean of steps 181 to 200
      stage "$name" 200 "$packed/moe" train tests/e2e/two_backends.toml --device cuda --set train.dtype=bf16 --set run.dir=build/gpu-backends
      cp build/gpu-backends/log.jsonl "$logs/backends-log.jsonl"; tail -n 3 "$logs/$name.log"
      [ -z "${LOG:-}" ] || python3 tools/compare_losses.py "$LOG" build/gpu-backends/log.jsonl --steps 181 200 ;;
    train100m) stage "$name" 300 "$packed/moe" train configs/moe-100m.toml --device cuda --set run.dir=build/gpu-100m
      cp build/gpu-100m/log.jsonl "$logs/100m-log.jsonl"; tail -n 60 "$logs/$name.log" | cut -c1-200 ;;
    study)
      folder=${STUDY_FOLDER:-build/gpu-study}
      [ -d build/study/train ] ||
        "$packed/moe" data --tokenizer build/study/tokenizer --out build/study/train build/study/text/*.jsonl.zst
      stage "$name" "$((${STUDY_SECONDS:-430} + 20))" "$packed/moe" study run configs/study/h200.toml --device cuda \
        --set study.dir="$folder" --max-seconds "${STUDY_SECONDS:-430}"
      tar -C "$folder" -cf "$logs/study.tar" results
      grep -A99 '^| system' "$logs/$name.log" ;;
    peer2b) stage "$name" 300 python3 bench/peers/torch_cuda_step.py --preset 2b --rows "${ROWS:-8}"; tail -n 1 "$logs/$name.log" ;;
    ptx) stage "$name" 400 "$packed-ptx/test_conformance" '--gtest_filter=*gemm*:*attention*' ;;
    table) stage "$name" 600 python3 bench/gpu_table.py --moe "$packed/moe" --bench "$packed" --text ${TEXT:?files of text} \
        --keep "$logs/table.json"; cat "$logs/$name.log" ;;
    *) echo "gpu_check: no stage is called $name" >&2; exit 2 ;;
  esac
done
nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader
printf '%s\n' "${summary[@]}"
