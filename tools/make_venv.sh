#!/usr/bin/env bash
# Makes a Python environment with the packages of a requirements file: tools/make_venv.sh [--required] FOLDER REQUIREMENTS
# Nothing is done while the requirements are those of the last time. Without --required a failure is a warning: tests that
# need the environment then skip and say so.
set -euo pipefail
cd "$(dirname "$0")/.."

required=
if [ "$1" = --required ]; then required=1; shift; fi
readonly folder=$1 requirements=$2 stamp=$1/requirements.txt log=$1.log

cmp -s "$requirements" "$stamp" && [ -x "$folder/bin/python" ] && exit 0
echo "making the Python environment $folder" >&2
mkdir -p "$(dirname "$folder")"
if rm -rf "$folder" && python3 -m venv "$folder" >"$log" 2>&1 &&
   "$folder/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements" >>"$log" 2>&1; then
  cp "$requirements" "$stamp"
  exit 0
fi
rm -rf "$folder"
tail -n 5 "$log" >&2
if [ -n "$required" ]; then
  echo "make_venv: $folder could not be made from $requirements (the whole log: $log)" >&2
  exit 1
fi
echo "make_venv: $folder could not be made from $requirements (the whole log: $log); tests that need it will skip" >&2
