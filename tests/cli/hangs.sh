#!/bin/sh
# hangs.sh LUNETTE SHIM: disks that do not answer. The file that is waited for is named (after a minute: here the clock goes a hundred
# times as fast); a signal ends what cannot go on, saved where there is something to save; a second one leaves at once.
shim=$(realpath "$2")
. "$(dirname "$0")/lib.sh"
options="--device cpu --threads 2 --sample-every 0 --checkpoint-every 0 --log-every 1 --tune off --no-doctor"
net="--preset notebook --size 16 --channels 4,8 --batch 4"
steps=40
succeeds craters pictures --count 12 --size 16
succeeds train pictures --out whole $net $options --steps $steps

fresh=env
env --default-signal=TERM true 2>/dev/null && fresh="env --default-signal=TERM"

clock=fast

# begin PATH AT ARGUMENTS...: in the background, with the AT-th reading of such a path never coming back
begin()
{
    path=$1
    at=$2
    shift 2
    rm -f report out err
    $fresh FAULT_KIND=hang FAULT_PATH="$path" FAULT_AT=$at FAULT_FROM=all FAULT_CLOCK=$clock FAULT_REPORT=$DIR/report LD_PRELOAD=$shim \
        "$LUNETTE" "$@" >out 2>err </dev/null &
    pid=$!
}

# ended CODE SECONDS: by itself, that soon
ended()
{
    checks=$((checks + 1))
    (sleep 60 && kill -KILL $pid) >/dev/null 2>&1 &
    guard=$!
    from=$(date +%s%N)
    wait $pid 2>/dev/null
    code=$?
    kill $guard 2>/dev/null
    took=$((($(date +%s%N) - from) / 1000000))
    [ $code = $1 ] || fail "exit $code, not $1"
    [ $took -le $(($2 * 1000)) ] || fail "it took $took ms to end"
}

# While pictures are looked for, looked at, decoded: there is nothing to save.
for at in 1 2 3 4 5 6; do
    begin 0003.png $at train pictures --out early $net $options --steps $steps --no-cache
    checks=$((checks + 1))
    wait_for_line 'still waiting for .*0003.png in pictures, after [0-9]* s: its disk may hang' err || fail "reading $at: no word of it"
    kill -TERM $pid
    ended 143 2
    check "reading $at: it hung there" grep -q '^fired .*0003.png' report
done
succeeds train pictures --out early $net $options --steps 1
# The folder itself (before it is opened, one look says whether it is there)
begin pictures 2 train pictures --out none --device cpu
wait_for_line 'still waiting for \. in pictures' err || fail "a folder: no word of it"
kill -TERM $pid
ended 143 2

# While training: the decoded pictures are read ahead. How often, a run that is not disturbed tells.
checks=$((checks + 1))
FAULT_KIND=hang FAULT_PATH=pictures- FAULT_REPORT=$DIR/report LD_PRELOAD=$shim "$LUNETTE" train pictures --out counted $net $options --steps $steps --cache decoded \
    >out 2>err </dev/null || fail "counting"
calls=$(sed -n 's/^calls //p' report)
check "it reads them" [ "${calls:-0}" -gt 100 ]
for second in no yes; do
    # At the usual speed there are some seconds between the saving and the end, in which the hanging thread is waited for.
    [ $second = no ] || clock=usual
    begin pictures- $((calls - 60)) train pictures --out late-$second $net $options --steps $steps --cache decoded
    checks=$((checks + 1))
    if [ $second = yes ]; then
        wait_for_line '^fired pread' report || fail "the cache: it does not hang"
        sleep 0.5
        kill -TERM $pid
        sleep 1
        check "it waits for its thread" kill -TERM $pid
        ended 143 1
        check "it does not claim an end" [ "$(grep -c '^stopped' out)" = 0 ]
    else
        wait_for_line 'no pictures for [0-9]* s: the disk of decoded/pictures-[0-9a-f]* may hang' err || fail "the cache: no word of it"
        kill -TERM $pid
        ended 143 10
        check "it says that it saved" grep -q '^stopped at step [0-9]* by signal 15 and saved' out
        step=$(sed -n 's/^stopped at step \([0-9]*\) .*/\1/p' out)
        check "what was trained" [ "${step:-0}" -gt 10 ]
        check "every file is sound" "$LUNETTE" info --verify late-$second
    fi
    check "no half file" [ -z "$(find late-$second -name '*.tmp.*')" ]
    succeeds train pictures --out late-$second --resume $options --steps $steps
    check "the weights" cmp whole/checkpoints/step-00000040.safetensors late-$second/checkpoints/step-00000040.safetensors
done
finish
