#!/bin/sh
# clock.sh LUNETTE SHIM: clocks that jump. The wall clock is set a day forth and back at every look (wall); the other one is a quarter of
# an hour further every so often, as after a sleep (leap). Neither changes numbers, ends a run early, hangs it, or blames the device;
# and no time of a file says which checkpoint is the newest.
shim=$(realpath "$2")
. "$(dirname "$0")/lib.sh"
options="--device cpu --threads 2 --sample-every 2 --checkpoint-every 2 --log-every 1 --hang-timeout 20"
net="--preset notebook --size 16 --channels 4,8 --batch 4"
last=checkpoints/step-00000008
succeeds craters pictures --count 12 --size 16
succeeds train pictures --out whole $net $options --steps 8 --tune off --no-doctor

# under CLOCK ARGUMENTS...: within two minutes
under()
{
    clock=$1
    shift
    checks=$((checks + 1))
    rm -f report
    timeout 120 env FAULT_CLOCK=$clock FAULT_REPORT=$DIR/report LD_PRELOAD=$shim "$LUNETTE" "$@" >out 2>err </dev/null
    code=$?
    [ $code = 0 ] || fail "$clock, lunette $*: exit $code"
    [ $clock = wall ] || grep -q '^clock [0-9][0-9]' report || fail "$clock, lunette $1: the clock was not looked at"
}

# check_times FOLDER: elapsed time grows, and a speed is one
check_times()
{
    check "$1: times" python3 - $1/log.jsonl <<'END'
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
elapsed = [line["elapsed_s"] for line in lines]
assert len(lines) == 8 and elapsed == sorted(elapsed) and elapsed[0] >= 0, elapsed
assert all(line["images_per_s"] > 0 for line in lines)
END
}

for clock in wall leap; do
    under $clock train pictures --out $clock $net $options --steps 4 --tune off --no-doctor --cache decoded-$clock
    # What is newest by its time is the oldest.
    touch -d 2040-01-01 $clock/checkpoints/step-00000002.*
    touch -d 1980-01-01 $clock/checkpoints/step-00000004.* $clock/config.json
    under $clock train pictures --out $clock --resume $options --steps 8 --tune off --cache decoded-$clock
    grep -q 'resumed' out || fail "$clock: not resumed"
    check "$clock: the weights" cmp whole/$last.safetensors $clock/$last.safetensors
    check "$clock: the optimiser" cmp whole/$last.optimizer.safetensors $clock/$last.optimizer.safetensors
    check "$clock: the newest two are kept" [ "$(ls $clock/checkpoints/*.optimizer.safetensors | wc -l)" = 2 ]
    # A negative time left, or none that is a number, would be said so.
    check "$clock: no odd time is shown" [ "$(grep -c -e '-[0-9]*s left' -e nan -e inf out)" = 0 ]
    check_times $clock
    # Measuring kernels, and a sampler's progress
    under $clock train pictures --out $clock-tuned $net $options --steps 2 --tune force
    under $clock sample $clock --out $clock.png --count 2 --steps 4 --device cpu
    touch -d 1970-01-01 cache/* 2>/dev/null
    under $clock train pictures --out $clock-known $net $options --steps 2 --tune known
done
# A length in hours goes by the clock that cannot be set.
begun=$(date +%s)
under wall train pictures --out hours $net $options --hours 0.0006 --tune off --no-doctor
check "2 s and not a day" [ $(($(date +%s) - begun)) -lt 60 ]
check "nor nothing" [ "$(sed -n 's/^done: \([0-9]*\) steps.*/\1/p' out)" -gt 1 ]
if command -v script >/dev/null 2>&1; then
    checks=$((checks + 1))
    export FAULT_CLOCK=wall TERM=xterm
    timeout 120 script -qec "env LD_PRELOAD=$shim $LUNETTE train pictures --out live $net $options --steps 60 --tune off --no-doctor" typed >out 2>err </dev/null
    code=$?
    [ $code = 0 ] && grep -q 'step 60/60' typed && ! grep -q -e '-[0-9]*s left' typed || fail "the live line: exit $code"
fi
finish
