# For the tests of the command: sourced by each with the lunette executable as $1. Works in a folder of its own, removed at the end.
set -u
LUNETTE=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
[ -x "$LUNETTE" ] || { echo "no executable $LUNETTE"; exit 1; }
DIR=$(mktemp -d "${TMPDIR:-/tmp}/lunette-cli-XXXXXX") || exit 1
trap 'cd /; rm -rf "$DIR"' EXIT
trap 'exit 1' HUP INT TERM
cd "$DIR" || exit 1
LUNETTE_CACHE=$DIR/cache
export LUNETTE_CACHE
unset LUNETTE_LOG LUNETTE_LAUNCH_MS LUNETTE_PROBE LUNETTE_DECLINE LUNETTE_KERNELS LUNETTE_ISA
failures=0
checks=0

fail()
{
    failures=$((failures + 1))
    echo "FAIL: $*" | cut -c 1-400
    [ -s err ] && sed 's/^/    stderr: /' err | cut -c 1-400 | head -5
}

# Run with the output in the files out and err and the exit code in $code.
run()
{
    "$LUNETTE" "$@" >out 2>err </dev/null
    code=$?
}

# refuses CODE PATTERN ARGUMENTS...: that exit code, nothing on stdout and exactly one line on stderr, which has the pattern.
refuses()
{
    want=$1
    pattern=$2
    shift 2
    checks=$((checks + 1))
    run "$@"
    if [ "$code" != "$want" ]; then
        fail "lunette $*: exit $code, not $want"
    elif [ -s out ]; then
        fail "lunette $*: printed on standard output"
    elif [ "$(grep -c . err)" != 1 ] || ! grep -q '^lunette: error: ' err; then
        fail "lunette $*: not one line of error"
    elif ! grep -q -e "$pattern" err; then
        fail "lunette $*: the error does not say '$pattern'"
    fi
}

# succeeds ARGUMENTS...
succeeds()
{
    checks=$((checks + 1))
    run "$@"
    [ "$code" = 0 ] || fail "lunette $*: exit $code"
}

# check NAME COMMAND...: the command must succeed.
check()
{
    name=$1
    shift
    checks=$((checks + 1))
    "$@" >/dev/null 2>&1 || fail "$name: $*"
}

# Wait at most 60 seconds for a file.
wait_for()
{
    i=0
    while [ ! -e "$1" ] && [ $i -lt 3000 ]; do
        sleep 0.02
        i=$((i + 1))
    done
    [ -e "$1" ]
}

# wait_for_line PATTERN FILE: at most 60 seconds.
wait_for_line()
{
    i=0
    while ! grep -q -e "$1" "$2" 2>/dev/null && [ $i -lt 3000 ]; do
        sleep 0.02
        i=$((i + 1))
    done
    grep -q -e "$1" "$2"
}

# A device that is not there is a skipped test.
need_device()
{
    "$LUNETTE" devices 2>/dev/null | grep -q "^$1" || { echo "SKIP: no device $1 here"; exit 77; }
}

finish()
{
    echo "$checks checks, $failures failed"
    [ "$failures" = 0 ] && [ "$checks" -gt 0 ]
    exit $?
}
