#!/bin/sh
# install.sh BUILD INCLUDE_DIR PREFIX VERSION PROGRAM.c COMPILER...
# Installs BUILD into a scratch folder; builds and runs PROGRAM.c with what pkg-config says, shared and static; compares the
# shared library's symbols with the functions that the headers declare.
set -u
build=$1 include=$2 prefix=$3 version=$4 program=$5
shift 5
for tool in meson pkg-config nm; do
    command -v "$tool" >/dev/null 2>&1 || { echo "SKIP: no $tool"; exit 77; }
done
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
fail() {
    echo "FAIL: $*"
    exit 1
}

DESTDIR=$scratch/root meson install -C "$build" --no-rebuild --quiet >"$scratch/log" 2>&1 || { cat "$scratch/log"; fail "meson install"; }
pc=$(find "$scratch/root" -name lunette.pc)
[ -n "$pc" ] || fail "no lunette.pc"
PKG_CONFIG_PATH=$(dirname "$pc")
export PKG_CONFIG_PATH
ask() { pkg-config --define-variable=prefix="$scratch/root$prefix" "$@" lunette || fail "pkg-config $*"; }
[ "$(ask --modversion)" = "$version" ] || fail "lunette.pc says version $(ask --modversion), not $version"
[ -x "$scratch/root$prefix/bin/lunette" ] || fail "no bin/lunette"

library=$(find "$scratch/root" -name 'liblunette.so')
if [ -n "$library" ]; then
    # shellcheck disable=SC2046
    "$@" -std=c11 -Wall -Wextra -Wpedantic -Werror "$program" -o "$scratch/shared" $(ask --cflags --libs) || fail "does not link"
    LD_LIBRARY_PATH=$(dirname "$library") "$scratch/shared" "$version" || fail "the program on the shared library"

    nm -D --defined-only "$library" | awk '{ print $3 }' | sort >"$scratch/exported"
    # LUN_API TYPE NAME(...: the first name before a parenthesis
    cat "$include"/lunette/*.h | grep '^LUN_API' | sed -E 's/^LUN_API [^(]*[ *](lun_[a-z0-9_]+)\(.*/\1/' | sort >"$scratch/declared"
    [ -s "$scratch/declared" ] || fail "no declaration was found"
    private=$(grep -v '^lun_' "$scratch/exported") && fail "exported without lun_: $private"
    diff "$scratch/declared" "$scratch/exported" || fail "what the headers declare (<) is not what is exported (>)"
    echo "$(wc -l <"$scratch/exported") functions exported"
fi
archive=$(find "$scratch/root" -name 'liblunette.a')
if [ -n "$archive" ]; then
    mkdir "$scratch/static"
    cp "$archive" "$scratch/static/"
    # The archive in the shared library's place; the libraries it needs as pkg-config lists them.
    # shellcheck disable=SC2046
    "$@" -std=c11 "$program" -o "$scratch/linked" $(ask --cflags) "$archive" $(ask --static --libs | sed 's/-llunette\b//') ||
        fail "does not link statically"
    "$scratch/linked" "$version" || fail "the program on the static library"
fi
[ -n "$library$archive" ] || fail "no library was installed"
