#!/bin/sh
# selftest.sh SEEDED SHIM: the shim fails what it is told to and sees what is left behind.
set -u
seeded=$(realpath "$1") shim=$(realpath "$2")
dir=$(mktemp -d "${TMPDIR:-/tmp}/lunette-faults-XXXXXX") || exit 1
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
failures=0 checks=0

# sees MODE KIND AT EXIT LINE: the program in that mode, that fault, the exit code and a line that the report has.
sees()
{
    checks=$((checks + 1))
    rm -f report
    FAULT_KIND=$2 FAULT_AT=$3 FAULT_REPORT=report LD_PRELOAD=$shim "$seeded" "$1" 2>/dev/null
    code=$?
    if [ $code != "$4" ] || ! grep -q "$5" report; then
        failures=$((failures + 1))
        echo "FAIL: $1, $2 $3: exit $code, $(tr '\n' ';' <report)"
    fi
}

sees tidy alloc 0 0 '^calls 2$'
sees tidy alloc 0 0 '^blocks 0$'
sees tidy alloc 1 0 '^fired malloc'
sees tidy alloc 2 6 '^blocks 0$'
sees leak alloc 0 0 '^blocks 1$'
sees leak alloc 1 0 '^blocks 0$'
sees leak alloc 2 6 '^held .* 100$'
sees crash alloc 0 0 '^blocks 0$'
sees crash alloc 1 139 '^fired malloc'
sees descriptor eio 0 0 '^open /dev/null$'
sees descriptor eio 1 1 '^fired open /dev/null'
sees stream eio 0 0 '^blocks 1$'
sees stream eio 1 1 '^blocks 0$'
sees half eio 0 10 '^calls 3$'
sees half eio 2 255 '^fired write half'
sees half short 1 5 '^fired write half'
sees half enospc 1 255 '^fired open half'
sees half eintr 3 10 '^fired close half'
echo "$checks checks, $failures failed"
[ $failures = 0 ]
