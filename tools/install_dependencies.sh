#!/usr/bin/env bash
# Installs the Debian packages that are missing for the groups named: build, test, corpus, tidy, format, fuzz.
# What is there already, from apt or from elsewhere, is recognised by its command or header and left alone.
set -euo pipefail

die() { echo "install_dependencies: $*" >&2; exit 1; }

# group  package  command:NAME, header:PATH, file:PATH, python:MODULES or runtime:SANITIZER (of clang) that shows it to be there
readonly table='
build  g++                 command:g++
build  cmake               command:cmake
build  ninja-build         command:ninja
build  pkg-config          command:pkg-config
build  libfmt-dev          header:fmt/format.h
build  nlohmann-json3-dev  header:nlohmann/json.hpp
build  libcli11-dev        header:CLI/CLI.hpp
build  libtomlplusplus-dev header:toml++/toml.h
build  libpcre2-dev        header:pcre2.h
build  libzstd-dev         header:zstd.h
build  libsimdjson-dev     header:simdjson.h
build  zlib1g-dev          header:zlib.h
build  libedit-dev         header:histedit.h
build  libjs-chart.js      file:/usr/share/javascript/chart.js/chart.min.js
build  libgtest-dev        header:gtest/gtest.h
build  libgmock-dev        header:gmock/gmock.h
build  libbenchmark-dev    header:benchmark/benchmark.h
build  python3             command:python3
test   python3-venv        python:ensurepip,venv
corpus python3             command:python3
tidy   clang-tidy          command:clang-tidy
format clang-format        command:clang-format
fuzz   clang               command:clang++
fuzz   libclang-rt-14-dev  runtime:fuzzer
'

compiler=$(command -v g++ || command -v c++ || true)

has_header() {
  local folder
  for folder in /usr/include /usr/local/include "/usr/include/$(uname -m)-linux-gnu"; do
    [ -e "$folder/$1" ] && return 0
  done
  # Elsewhere on the compiler's path, for instance through CPATH.
  [ -n "$compiler" ] && "$compiler" -std=c++20 -E -x c++ -include "$1" /dev/null >/dev/null 2>&1
}

present() {
  case "$1" in
    command:g++) [ -n "$compiler" ] ;;
    command:*) command -v "${1#command:}" >/dev/null ;;
    file:*) [ -e "${1#file:}" ] ;;
    header:*) has_header "${1#header:}" ;;
    python:*) command -v python3 >/dev/null && python3 -c "import ${1#python:}" 2>/dev/null ;;
    runtime:*) command -v clang++ >/dev/null &&
      echo 'extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }' |
        clang++ -x c++ - "-fsanitize=${1#runtime:}" -o /dev/null 2>/dev/null ;;
    *) die "the table has an unknown check '$1'" ;;
  esac
}

[ $# -gt 0 ] || die "name at least one group: build, test, corpus, tidy, format or fuzz"
missing=()
while read -r group package check; do
  [ -n "$group" ] || continue
  case " $* " in *" $group "*) ;; *) continue ;; esac
  present "$check" || missing+=("$package")
done <<<"$table"
[ ${#missing[@]} -gt 0 ] || exit 0

readonly by_hand="apt-get install --no-install-recommends ${missing[*]}"
command -v apt-get >/dev/null ||
  die "these are missing and there is no apt-get to install them with: ${missing[*]} (the names are Debian's)"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    as_root=(sudo -n env DEBIAN_FRONTEND=noninteractive)
  else
    die "packages are missing and only root can install them; run as root: $by_hand"
  fi
fi
export DEBIAN_FRONTEND=noninteractive

update() { "${as_root[@]}" apt-get update -qq >&2; }
install() { "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2; }

echo "installing ${missing[*]}" >&2
updated=
if [ -z "$(find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' -mtime -7 -print -quit 2>/dev/null)" ]; then
  update || die "apt-get update failed (above); when it works, run: $by_hand"
  updated=1
fi
install || { [ -z "$updated" ] && update && install; } || die "apt-get failed (above); to install by hand run: $by_hand"
