#!/bin/sh
# search.sh SECONDS [TARGET...]: fuzz each target for so long, with address and undefined sanitizers, and say how many inputs
# were tried. Needs clang with libFuzzer; $CLANG names another one. Builds in build-fuzz; what is found lies there as TARGET-*.
set -eu
cd "$(dirname "$0")/../.."
seconds=${1:?seconds}
shift
[ $# -gt 0 ] || set -- safetensors png jpeg config tuning arguments
build=build-fuzz
if [ ! -e $build/build.ninja ]; then
    CC=${CLANG:-clang} meson setup $build -Dfuzz=true -Dopencl=disabled -Db_sanitize=address,undefined -Db_lundef=false \
        -Doptimization=1 -Ddebug=true -Dc_args=-fsanitize=fuzzer-no-link >/dev/null
fi
failed=0
for target; do
    ninja -C $build tests/fuzz/fuzz-"$target" >/dev/null
    mkdir -p $build/found-"$target"
    set -- $build/found-"$target"
    [ ! -d tests/fuzz/corpus/"$target" ] || set -- "$@" tests/fuzz/corpus/"$target"
    case $target in
    png | jpeg) set -- "$@" tests/unit/pictures ;;
    safetensors) set -- "$@" tests/unit/safetensors ;;
    esac
    # One process: the count of executions is its own.
    if $build/tests/fuzz/fuzz-"$target" -max_total_time="$seconds" -max_len=65536 -rss_limit_mb=2560 -timeout=20 -print_final_stats=1 \
        -artifact_prefix=$build/"$target"- "$@" >$build/"$target".log 2>&1; then
        echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' $build/"$target".log) inputs in $seconds s, nothing found"
    else
        echo "$target: FOUND something: $build/$target.log"
        failed=1
    fi
done
exit $failed
