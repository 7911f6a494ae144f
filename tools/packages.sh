# For tools/quickstart and tools/test, which source it: packages, and a quiet build. Debian and Ubuntu; elsewhere what is needed must
# be there already.

say() { printf '%s\n' "$*"; }

# quietly WHAT COMMAND...: its output is shown only if it fails, and then the script ends.
quietly() {
    what=$1
    shift
    started=$(date +%s)
    if "$@" >"$log" 2>&1 </dev/null; then
        say "$what: $(($(date +%s) - started)) s"
    else
        code=$?
        cat "$log" >&2
        say "$what failed ($*)" >&2
        exit "$code"
    fi
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

has_package() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }
offered() { LC_ALL=C apt-cache policy "$1" 2>/dev/null | grep 'Candidate:' | grep -qv '(none)'; }

# A package list older than a day may name versions that the mirrors no longer have.
update_lists() {
    if [ -z "${lists_fresh-}" ]; then
        [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null || { say "packages are missing, and there is no sudo: run this as root" >&2; exit 2; }
        quietly "package lists" as_root apt-get -q update
        lists_fresh=1
    fi
}

# need PACKAGE...: install those that are missing.
need() {
    if ! command -v dpkg-query >/dev/null; then
        say "this is no Debian or Ubuntu: going on with what is installed"
        return
    fi
    missing=
    for package; do
        has_package "$package" || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    update_lists
    # shellcheck disable=SC2086
    quietly "installed$missing" as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install $missing
}

# want PACKAGE...: the same, of those that this release has.
want() {
    command -v dpkg-query >/dev/null || return 0
    for package; do
        if ! has_package "$package"; then
            update_lists
            if offered "$package"; then
                wanted="${wanted-} $package"
            else
                say "this release has no $package"
            fi
        fi
    done
    # shellcheck disable=SC2086
    need ${wanted-}
    wanted=
}

# build DIR MESON-OPTION...: configure (again), compile.
build() {
    dir=$1
    shift
    if [ -f "$dir/build.ninja" ]; then
        quietly "configured $dir" meson setup --reconfigure "$dir" "$@"
    else
        quietly "configured $dir" meson setup "$dir" "$@"
    fi
    quietly "compiled $dir" ninja -C "$dir"
}

cd "$(dirname "$0")/.." || exit 1
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
trap 'exit 130' INT TERM

compilers="gcc libc6-dev meson ninja-build pkgconf python3"
libraries="libpng-dev zlib1g-dev libjpeg-dev libjansson-dev ocl-icd-opencl-dev opencl-headers libclblast-dev"
