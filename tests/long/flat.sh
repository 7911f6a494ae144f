#!/bin/sh
# flat.sh LUNETTE DEVICE STEPS: a long training of a tiny model, whose memory must not grow.
device=$2
steps=$3
. "$(dirname "$0")/../cli/lib.sh"
need_device "$device"
succeeds craters pictures --count 16 --size 8
"$LUNETTE" train pictures --out run --preset notebook --device "$device" --threads 1 --size 8 --channels 4,8 --batch 4 --steps "$steps" --sample-every 100 \
    --checkpoint-every 500 >out 2>err </dev/null &
pid=$!
rss() { sed -n 's/^VmRSS:[[:space:]]*\([0-9]*\) kB/\1/p' /proc/$pid/status 2>/dev/null; }
step() { tail -n 1 run/log.jsonl 2>/dev/null | sed -n 's/^{"step": \([0-9]*\),.*/\1/p'; }
first=
while kill -0 $pid 2>/dev/null; do
    now=$(rss)
    at=$(step)
    if [ -n "$now" ] && [ "${at:-0}" -gt $((steps / 5)) ]; then
        [ -n "$first" ] || first=$now
        last=$now
    fi
    sleep 0.2
done
wait $pid
code=$?
checks=$((checks + 2))
[ $code = 0 ] || fail "exit $code"
echo "resident: ${first:-0} kB after a fifth of $steps steps, ${last:-0} kB at the end"
[ -n "$first" ] && [ "$last" -le $((first + 512)) ] || fail "resident memory grew"
finish
