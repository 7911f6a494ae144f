#!/bin/sh
# neon.sh SOURCE-DIR BUILD-DIR [OPCHECK-ARGUMENT...]: the kernels with lane.h's NEON branch, cross-compiled for 64-bit ARM
# and judged by opcheck on an emulated processor. Exit 77 without a cross compiler or qemu-user: the line says which.
set -eu
source=$1 build=$2
shift 2

skip() {
    echo "SKIP: $1"
    exit 77
}
gcc=aarch64-linux-gnu-gcc
command -v $gcc >/dev/null 2>&1 || skip "no $gcc (Debian: gcc-aarch64-linux-gnu)"
echo 'int main(void) { return 0; }' | $gcc -static -x c - -o /dev/null 2>/dev/null ||
    skip "$gcc has no C library to link with (Debian: libc6-dev-arm64-cross)"
qemu=$(command -v qemu-aarch64 || command -v qemu-aarch64-static) || skip "no qemu-aarch64 (Debian: qemu-user)"
meson=$(command -v meson) || skip "no meson in the path"

mkdir -p "$build"
log=$build/neon-build.log
# Configuring asks for these, but nothing that is built here uses them: opcheck needs the device tier and what is below.
for package in libpng:1.6 zlib:1.2 jansson:2.10 check:0.15; do
    printf 'Name: %s\nDescription: not used\nVersion: %s\n' "${package%%:*}" "${package#*:}" >"$build/${package%%:*}.pc"
done
again=
[ ! -f "$build/build.ninja" ] || again=--reconfigure
{
    "$meson" setup $again "$build" "$source" --cross-file "$source/tests/portability/aarch64.ini" \
        --wrap-mode=nodownload -Dpkg_config_path="$build" -Dopencl=disabled -Dclblast=disabled -Djpeg=disabled -Dtests=true &&
        "$meson" compile -C "$build" tests/opcheck/opcheck
} >"$log" 2>&1 </dev/null || { cat "$log"; echo "FAIL: does not build for aarch64"; exit 1; }
exec "$qemu" "$build/tests/opcheck/opcheck" test --device cpu "$@"
