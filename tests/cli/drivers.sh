#!/bin/sh
# drivers.sh LUNETTE LIBRARY: an OpenCL driver that crashes when it is asked for its devices; the library is one.
library=$(realpath "$2")
. "$(dirname "$0")/lib.sh"
vendors=${OCL_ICD_VENDORS:-/etc/OpenCL/vendors}
ulimit -c 0

succeeds devices
cp out usual
check "drivers that are sound are not named" [ ! -s err ]

mkdir alone beside
echo "$library" >alone/broken.icd
echo "$library" >beside/broken.icd
for driver in "$vendors"/*.icd; do
    [ -e "$driver" ] && ln -s "$driver" beside/
done

# Twice: found out, and remembered.
for time in first second; do
    OCL_ICD_VENDORS=$DIR/beside
    export OCL_ICD_VENDORS
    succeeds devices
    check "$time: it is named" grep -q '^lunette: warning: the OpenCL driver .*/beside/broken.icd, asked for its devices, crashes (signal 6): it is left out$' err
    check "$time: once" [ "$(wc -l <err)" = 1 ]
    check "$time: the others are there" cmp usual out
    OCL_ICD_VENDORS=$DIR/alone
    succeeds devices
    check "$time: alone it is named too" grep -q 'alone/broken.icd.*crashes (signal 6)' err
    check "$time: no OpenCL" [ "$(grep -c '^opencl' out)" = 0 ]
    check "$time: plain C" grep -q '^cpu' out
    run doctor --device opencl
    check "$time: a device asked for by name" [ "$code" = 5 ]
    check "$time: why" grep -q 'error: no OpenCL device' err
done
check "no folder is left" [ -z "$(ls -d "${TMPDIR:-/tmp}"/lunette-icds-* 2>/dev/null)" ]

# What was found holds for these files only.
echo /nowhere/libnone.so >alone/broken.icd
succeeds devices
check "a driver that is not there crashes nothing" [ "$(grep -c crashes err)" = 0 ]
echo "$library" >alone/broken.icd
checks=$((checks + 1))
(LUNETTE_PROBE=0 "$LUNETTE" devices) >out 2>err
[ $? = 134 ] || fail "LUNETTE_PROBE=0: it was asked in a child all the same"
finish
