#!/usr/bin/env bash
# Runs the tests of a build folder: tools/run_tests.sh FOLDER JOBS [ARGUMENTS OF CTEST]
# Those with the label long only where the arguments are labels (-L, -LE) or names (-R).
# Ends with the reason of every skip and one line 'N passed, N failed, N skipped', also left in FOLDER/test-summary.txt.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly folder=$1 jobs=$2
shift 2
choice=(-LE long)
for argument in "$@"; do
  case $argument in -L* | -R* | --label* | --tests-regex*) choice=() ;; esac
done
rm -f "$folder/test-summary.txt" "$folder/test-results.xml"
status=0
ctest --test-dir "$folder" --parallel "$jobs" --output-on-failure --no-tests=error "${choice[@]}" \
  --output-junit "$PWD/$folder/test-results.xml" "$@" || status=$?
python3 tools/summarise_tests.py "$folder/test-results.xml" >"$folder/test-report.txt" || status=1
cat "$folder/test-report.txt"
tail -n 1 "$folder/test-report.txt" >"$folder/test-summary.txt"
exit "$status"
