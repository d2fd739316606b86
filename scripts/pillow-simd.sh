#!/usr/bin/env bash
# Compiles a wheel of Pillow-SIMD, unless FOLDER has it: `pillow-simd.sh avx2|sse4 FOLDER [PIP]`,
# for the set-up, for the container image, and for those who follow the README.
set -euo pipefail
simd=$1 folder=$2 pip=${3:-pip}
constraints=$(dirname "${BASH_SOURCE[0]}")/../constraints.txt
version=$(sed -n 's/^pillow-simd==//p' "$constraints")
! compgen -G "$folder/pillow_simd-$version-*.whl" >/dev/null || exit 0

# The formats that we open are named, so that the wheel is the same whatever else this machine
# has headers for; what we never open is code that no picture can reach.
features=()
for feature in jpeg zlib webp lcms; do
    features+=(--config-settings "$feature=enable")
done
for feature in tiff jpeg2000 freetype raqm fribidi harfbuzz imagequant xcb avif; do
    features+=(--config-settings "$feature=disable")
done

# SSE4 is what Pillow-SIMD asks for by itself. Pip's cache is not used: a wheel in it does not
# say for which instructions it was compiled.
[ "$simd" = sse4 ] || export CC="${CC:-cc} -m$simd"
# As a variable, because Debian 12's own pip has no such option.
PIP_BUILD_CONSTRAINT=$constraints "$pip" wheel --quiet --no-cache-dir --no-deps \
    --no-binary pillow-simd --constraint "$constraints" \
    --wheel-dir "$folder" "${features[@]}" pillow-simd
