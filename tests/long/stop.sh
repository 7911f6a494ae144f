#!/bin/sh
# stop.sh LUNETTE DEVICE STOPS [SEED]: training that gets signals at random moments as often as that: one to four of TERM, hang-up and USR1
# up to 20 ms apart, whatever it is doing (starting, reading, compiling, training, saving, drawing). It ends with the exit code of one of
# them, leaves every file sound, goes on, and ends with the bytes of a run that was never disturbed.
stops=$3
seed=${4:-1}
device=$2
. "$(dirname "$0")/../cli/lib.sh"
need_device "$device"
fresh=env
env --default-signal=TERM,HUP,USR1 true 2>/dev/null && fresh="env --default-signal=TERM,HUP,USR1"
# What a driver compiles lies in the folder too: a start in three finds none of it.
POCL_CACHE_DIR=$DIR/driver
export POCL_CACHE_DIR
options="--device $device --threads 2 --sample-every 5 --checkpoint-every 3"
net="--preset notebook --size 16 --channels 4,8 --batch 4"
steps=60
last=checkpoints/step-00000060

succeeds craters pictures --count 12 --size 16
# All runs with the same kernels: on a busy machine one start may not have the time to measure all of them.
succeeds tune --device $device --threads 2 $net --seconds 1000
succeeds train pictures --out whole $net $options --steps $steps
# A driver compiles for seconds before the first step.
[ "$device" = cpu ] && longest=1.2 || longest=8
awk -v n="$stops" -v seed="$seed" -v longest=$longest 'BEGIN {
    srand(seed); split("TERM HUP USR1", name, " ")
    for (i = 0; i < n; i++) {
        line = sprintf("%.3f", rand() * rand() * longest)
        for (k = int(rand() * 4); k >= 0; k--)
            line = line sprintf(" %s %.3f", name[int(rand() * 3) + 1], rand() * 0.02)
        print line
    }
}' >moments

begun=0 runs=0 met=0 said=0
while read -r delay signals; do
    if [ $begun = 1 ] && [ -e run/config.json ]; then
        set -- --resume
    else
        rm -rf run
        set -- $net
    fi
    begun=1
    met=$((met + 1))
    [ $((met % 3)) != 0 ] || rm -rf driver cache/opencl-*
    $fresh "$LUNETTE" train pictures --out run "$@" $options --steps $steps >out 2>err </dev/null &
    pid=$!
    sleep "$delay"
    set -- $signals
    while [ $# -gt 0 ]; do
        kill -$1 $pid 2>/dev/null
        sleep $2
        shift 2
    done
    # USR1 alone stops nothing.
    case $signals in *TERM* | *HUP*) ;; *) kill -TERM $pid 2>/dev/null ;; esac
    (sleep 120 && kill -KILL $pid) >/dev/null 2>&1 &
    guard=$!
    wait $pid 2>/dev/null
    code=$?
    kill $guard 2>/dev/null
    checks=$((checks + 1))
    # 138: USR1 before it is caught
    case $code in 0 | 129 | 138 | 143) ;; *) fail "stop $met ($delay $signals): exit $code" ;; esac
    grep -q '^lunette: error' err && fail "stop $met ($delay $signals): an error"
    if grep -q '^stopped at step' out; then
        said=$((said + 1))
        check "stop $met: no file is left over" [ "$(find run -name '*.tmp*' | wc -l)" = 0 ]
        check "stop $met: every file is sound" "$LUNETTE" info --verify run
    fi
    if [ $code = 0 ]; then
        check "the weights" cmp whole/$last.safetensors run/$last.safetensors
        check "the optimiser" cmp whole/$last.optimizer.safetensors run/$last.optimizer.safetensors
        check "the strips" diff -r whole/samples run/samples
        runs=$((runs + 1))
        begun=0
    fi
done <moments
if [ $begun = 1 ]; then
    [ -e run/config.json ] && set -- --resume || { rm -rf run; set -- $net; }
    succeeds train pictures --out run "$@" $options --steps $steps
    check "the weights" cmp whole/$last.safetensors run/$last.safetensors
    runs=$((runs + 1))
fi
echo "$met stops in $runs runs, $said of them saved"
checks=$((checks + 1))
[ $said -ge $((stops / 4)) ] || fail "only $said of $stops came while there was something to save"
finish
