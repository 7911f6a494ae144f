#!/bin/sh
# signals.sh LUNETTE: what each signal does to a run, and what is left of it.
. "$(dirname "$0")/lib.sh"
options="--preset notebook --device cpu --threads 2 --size 16 --channels 8,16 --batch 4 --sample-every 0 --no-doctor --tune off"

# What started this test may have silenced signals; so does a shell with interrupts, for what runs in the background.
fresh=env
env --default-signal=INT,TERM,HUP,USR1 true 2>/dev/null && fresh="env --default-signal=INT,TERM,HUP,USR1"

succeeds craters pictures --count 18 --size 16

# begin FOLDER COMMAND...: a long run in the background, started by COMMAND.
begin()
{
    folder=$1
    shift
    checks=$((checks + 1))
    "$@" "$LUNETTE" train pictures --out $folder $options --steps 1000000 --checkpoint-every 5 >out 2>err &
    pid=$!
    wait_for $folder/checkpoints/step-00000005.safetensors || fail "$folder: no checkpoint was written"
}

# ended CODE: within a minute
ended()
{
    checks=$((checks + 1))
    (sleep 60 && kill -KILL $pid) 2>/dev/null &
    guard=$!
    wait $pid 2>/dev/null
    code=$?
    kill $guard 2>/dev/null
    [ $code = $1 ] || fail "$folder: exit $code, not $1"
}

newest()
{
    ls $1/checkpoints/step-????????.safetensors | tail -1
}

# saved FOLDER: the step that the last line names is the newest, is sound, and can be gone on with
saved()
{
    step=$(sed -n 's/^stopped at step \([0-9]*\) by signal.*/\1/p' out)
    check "$1: it says where it stopped" [ -n "$step" ]
    check "$1: that step is the newest" [ "$(newest $1)" = "$1/checkpoints/step-$(printf %08d "$step").safetensors" ]
    check "$1: it is sound" "$LUNETTE" info "$(newest $1)"
    succeeds train pictures --out $1 --resume --device cpu --threads 2 --steps $((step + 2)) --sample-every 0
}

for case in TERM:143 HUP:129; do
    begin ${case%:*} $fresh
    kill -${case%:*} $pid
    ended ${case#*:}
    saved ${case%:*}
done

begin ignored sh -c 'trap "" INT; exec "$@"' sh
kill -INT $pid
sleep 0.3
check "an interrupt that a parent silenced" kill -0 $pid
kill -TERM $pid
ended 143
if [ "$fresh" != env ]; then
    begin INT $fresh
    kill -INT $pid
    ended 130
    saved INT
fi

begin nohup nohup
kill -HUP $pid
sleep 0.3
check "a hang-up under nohup" kill -0 $pid
kill -TERM $pid
ended 143

# USR1: a checkpoint although none is due, and the run goes on.
checks=$((checks + 1))
$fresh "$LUNETTE" train pictures --out usr1 $options --steps 1000000 --checkpoint-every 0 --log-every 1 >out 2>err &
pid=$!
folder=usr1
wait_for usr1/config.json || fail "usr1: no run"
kill -USR1 $pid
wait_for_line '^lunette: saved step [0-9]* as asked' err || fail "usr1: it does not say so"
first=$(newest usr1)
check "USR1 saves" [ -n "$first" ]
check "it is sound" "$LUNETTE" info "$first"
check "and the run goes on" kill -0 $pid
lines=$(wc -l <usr1/log.jsonl)
wait_for_line "\"step\": $((lines + 3))," usr1/log.jsonl || fail "usr1: it does not go on"
kill -TERM $pid
ended 143
check "the end is saved too" [ "$(newest usr1)" != "$first" ]

# A second signal leaves at once: in a step of seconds, before what the first one asks for is done.
options="--preset notebook --device cpu --threads 1 --size 96 --channels 64,128,128 --batch 18 --sample-every 0 --no-doctor --tune off"
checks=$((checks + 1))
$fresh "$LUNETTE" train pictures --out twice $options --steps 1000000 --checkpoint-every 1 >out 2>err &
pid=$!
folder=twice
wait_for twice/checkpoints/step-00000001.optimizer.safetensors || fail "twice: no checkpoint was written"
kill -TERM $pid
sleep 0.05
kill -HUP $pid
ended 129
check "it does not claim to have saved" [ "$(grep -c '^stopped' out)" = 0 ]
check "the last checkpoint is sound" "$LUNETTE" info "$(newest twice)"
succeeds train pictures --out twice --resume --device cpu --threads 2 --sample-every 0 --steps 2
finish
