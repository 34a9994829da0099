#!/usr/bin/env bash
# Packs build/moe with the shared libraries that a plain Debian 12 does not have: tools/make_archive.sh BUILD_FOLDER OUT_FOLDER
# writes OUT_FOLDER/moe-VERSION-x86_64.tar.gz. Unpacked anywhere, bin/moe runs; it looks for its libraries in ../lib.
set -euo pipefail
build=$(realpath "$1") out=$(realpath "$2")
version=$("$build/moe" --version | awk 'NR == 1 {print $2}')
readonly build out version name=moe-$version-x86_64

stage=$(mktemp -d "$out/archive-XXXXXX")
trap 'rm -rf "$stage"' EXIT
cmake --install "$build" --prefix "$stage/$name" >"$stage/install.log" || { cat "$stage/install.log" >&2; exit 1; }
mkdir -p "$stage/$name/lib"
strip "$stage/$name/bin/moe"

# What every Debian has, and CUDA's driver, are left to the machine.
ldd "$build/moe" | awk '$3 ~ /^\// {print $3}' |
  { grep -Ev '/(libc|libm|libdl|librt|libpthread|libstdc\+\+|libgcc_s|libcuda)\.so' || true; } |
  xargs -r -I{} cp -L {} "$stage/$name/lib/"

tar -C "$stage" --owner=0 --group=0 --sort=name -czf "$stage/$name.tar.gz" "$name"
mv "$stage/$name.tar.gz" "$out/$name.tar.gz"
echo "$out/$name.tar.gz"
