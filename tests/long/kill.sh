#!/bin/sh
# kill.sh LUNETTE DEVICE KILLS [SEED]: training killed at random moments as often as that; whatever moment it was, the run goes on,
# and ends with the bytes of one that was never killed.
kills=$3
seed=${4:-1}
device=$2
. "$(dirname "$0")/../cli/lib.sh"
need_device "$device"
options="--device $device --threads 2 --sample-every 25 --checkpoint-every 3"
steps=150
last=checkpoints/step-00000150

succeeds craters pictures --count 12 --size 16
# All runs with the same kernels: on a busy machine one start may not have the time to measure all of them.
succeeds tune --device $device --threads 2 --preset notebook --size 16 --channels 8,16 --batch 4 --seconds 1000
succeeds train pictures --out whole --preset notebook --size 16 --channels 8,16 --batch 4 $options --steps $steps
awk -v n="$kills" -v seed="$seed" 'BEGIN { srand(seed); for (i = 0; i < 2 * n; i++) printf "%.3f\n", rand() * rand() * 1.5 }' >delays

done=0 runs=0 fresh=1
while read -r delay; do
    [ $done -lt $kills ] || break
    if [ $fresh = 1 ]; then
        rm -rf run
        set -- --preset notebook --size 16 --channels 8,16 --batch 4
        fresh=0
    elif [ -e run/config.json ]; then
        set -- --resume
    else # killed before there was a run: it begins again
        set -- --preset notebook --size 16 --channels 8,16 --batch 4
        rm -rf run
    fi
    "$LUNETTE" train pictures --out run "$@" $options --steps $steps >out 2>err </dev/null &
    pid=$!
    sleep "$delay"
    if kill -9 $pid 2>/dev/null; then
        wait $pid 2>/dev/null
        done=$((done + 1))
        continue
    fi
    wait $pid
    code=$?
    checks=$((checks + 1))
    [ $code = 0 ] || fail "after $done kills: exit $code"
    check "the weights" cmp whole/$last.safetensors run/$last.safetensors
    check "the optimiser" cmp whole/$last.optimizer.safetensors run/$last.optimizer.safetensors
    check "one line an epoch" [ "$(grep -c . run/log.jsonl)" = "$(grep -c . whole/log.jsonl)" ]
    runs=$((runs + 1))
    fresh=1
done <delays
if [ $fresh = 0 ]; then
    [ -e run/config.json ] && set -- --resume || { rm -rf run; set -- --preset notebook --size 16 --channels 8,16 --batch 4; }
    succeeds train pictures --out run "$@" $options --steps $steps
    check "the weights" cmp whole/$last.safetensors run/$last.safetensors
    runs=$((runs + 1))
fi
echo "$done kills in $runs runs"
checks=$((checks + 1))
[ $done = $kills ] || fail "only $done of $kills came in time"
finish
