#!/bin/sh
# under_oclgrind.sh selftest SEEDED        every seeded fault must be reported, and a sound kernel must not be
# under_oclgrind.sh run COMMAND ARG...     fail unless the command succeeds and Oclgrind has nothing to say
# Exit 77 without oclgrind.
set -u

command -v oclgrind >/dev/null 2>&1 || { echo "SKIP: no oclgrind"; exit 77; }
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
log=$scratch/log
# Binaries compiled elsewhere must not be taken from a cache, nor Oclgrind's be left in one.
LUNETTE_CACHE=$scratch/cache
export LUNETTE_CACHE

# Without optimisation: Oclgrind 21.10 follows uninitialised values through everything but LLVM's freeze instruction. And it
# knows sqrt, but not LLVM's own (see kernel.h).
watch() {
    : >"$log"
    oclgrind --build-options '-cl-opt-disable -Df_sqrt=sqrt' --check-api --data-races --uninitialized --uniform-writes --max-errors 50 --global-mem-size 1073741824 \
        --log "$log" "$@"
}

case ${1-} in
selftest)
    failures=0
    for fault in good barrier:race store:'Invalid write' divergent:divergen uninitialised:ninitialized; do
        name=${fault%%:*} said=${fault#*:}
        watch "$2" "$name" || { echo "FAIL: $name: exit status $?"; failures=$((failures + 1)); }
        if [ "$name" = good ]; then
            [ ! -s "$log" ] || { echo "FAIL: a sound kernel is reported:"; cat "$log"; failures=$((failures + 1)); }
        elif grep -qi "$said" "$log"; then
            echo "reported: $name: $(grep -i -m1 "$said" "$log")"
        else
            echo "FAIL: $name goes unreported (looked for \"$said\")"
            cat "$log"
            failures=$((failures + 1))
        fi
    done
    [ "$failures" -eq 0 ]
    ;;
run)
    shift
    watch "$@"
    code=$?
    [ "$code" -ne 77 ] || exit 77
    if [ -s "$log" ]; then
        echo "FAIL: Oclgrind reports:"
        head -n 60 "$log"
        exit 1
    fi
    [ "$code" -eq 0 ] || { echo "FAIL: exit status $code"; exit 1; }
    ;;
*)
    echo "usage: under_oclgrind.sh selftest SEEDED | run COMMAND ARG..." >&2
    exit 2
    ;;
esac
