#!/bin/sh
# alone.sh INCLUDE_DIR STANDARD COMPILER...    every public header compiles alone, and twice over, without a warning
set -u
include=$1 standard=$2
shift 2
case $standard in c++*) language=c++ ;; *) language=c ;; esac
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
count=0 failures=0
for header in "$include"/lunette/*.h; do
    name=lunette/${header##*/}
    printf '#include <%s>\n#include <%s>\nint main(void);\nint main(void) { return 0; }\n' "$name" "$name" >"$scratch/alone.c"
    "$@" -x "$language" -std="$standard" -Wall -Wextra -Wpedantic -Wshadow -Werror -fsyntax-only -I"$include" "$scratch/alone.c" ||
        { echo "FAIL: $name as $standard"; failures=$((failures + 1)); }
    count=$((count + 1))
done
echo "$count headers as $standard, $failures failed"
[ "$count" -gt 0 ] && [ "$failures" -eq 0 ]
