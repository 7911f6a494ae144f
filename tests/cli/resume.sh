#!/bin/sh
# resume.sh LUNETTE DEVICE: a run that was killed, and one that was stopped, go on to the bytes of one that never was.
. "$(dirname "$0")/lib.sh"
device=$2
need_device "$device"
options="--device $device --threads 2 --preset notebook --size 16 --channels 8,16 --batch 4"
steps=300
last=checkpoints/step-00000300

succeeds craters pictures --count 18 --size 16
succeeds train pictures --out whole $options --steps $steps --sample-every 0 --checkpoint-every 0

# interrupted FOLDER SIGNAL EXIT: start, wait for a checkpoint, send the signal in mid-run
interrupted()
{
    checks=$((checks + 1))
    # sampling on the way and another rhythm of saving change nothing
    "$LUNETTE" train pictures --out $1 $options --steps $steps --sample-every 20 --checkpoint-every 7 >out 2>err &
    pid=$!
    wait_for $1/checkpoints/step-00000014.safetensors || fail "$1: no checkpoint was written"
    "$LUNETTE" train pictures --out $1 --resume --device $device >out2 2>err2
    [ $? = 2 ] && grep -q "^lunette: error: $1: process $pid is working in this run folder$" err2 || fail "$1: two at once: $(cat err2)"
    kill -$2 $pid
    wait $pid 2>/dev/null
    code=$?
    [ $code = $3 ] || fail "$1: exit $code, not $3"
    [ -e $1/$last.safetensors ] && fail "$1: it ended before the signal came"
}

goes_on()
{
    succeeds train pictures --out $1 --resume --device $device --threads 2 --steps $steps --sample-every 0
    check "$1: the weights" cmp whole/$last.safetensors $1/$last.safetensors
    check "$1: the optimiser" cmp whole/$last.optimizer.safetensors $1/$last.optimizer.safetensors
    check "$1: the log is one" [ "$(grep -c '"step": 300,' $1/log.jsonl)" = 1 ]
}

interrupted killed KILL 137
goes_on killed

interrupted stopped TERM 143
check "it says so" grep -q '^stopped at step' out
goes_on stopped

# The same with everything that may surround the optimiser's step.
options="$options --optimizer adamw --betas 0.9,0.99 --weight-decay 0.01 --warmup 20 --decay cosine --decay-steps 280 --lr-end 1e-5
    --clip-norm 0.5 --ema 0.99,0.999 --ema-warmup power --accumulate 2"
succeeds train pictures --out whole-rich $options --steps $steps --sample-every 0 --checkpoint-every 0
interrupted rich KILL 137
succeeds train pictures --out rich --resume --device $device --threads 2 --steps $steps --sample-every 0
for part in '' .optimizer .ema-0.99 .ema-0.999; do
    check "rich: $part" cmp whole-rich/$last$part.safetensors rich/$last$part.safetensors
done
check "the log is one" [ "$(grep -c '"step": 300,' rich/log.jsonl)" = 1 ]

options="--device $device --threads 2 --preset notebook --size 16 --channels 8,16 --batch 4"
# A newest checkpoint that is damaged is passed over with a warning.
interrupted damaged KILL 137
newest=$(ls damaged/checkpoints/step-????????.safetensors | tail -1)
# Two are kept; a third is there where the signal came before the oldest went.
check "another checkpoint" [ "$(ls damaged/checkpoints/step-????????.safetensors | wc -l)" -ge 2 ]
printf 'x' | dd of="$newest" bs=1 seek=20000 conv=notrunc 2>/dev/null
goes_on damaged
check "the warning" grep -q 'warning: .*checkpoint' err

# A record that does not name the kernel of an op, as older builds leave, is gone on with and said.
interrupted unnamed TERM 143
awk '!gone && /^ *"conv2d .*,$/ { gone = 1; next } { print }' unnamed/config.json >out && cp out unnamed/config.json
succeeds train pictures --out unnamed --resume --device $device --threads 2 --steps $steps --sample-every 0
check "the warning of it" grep -q 'warning: config.json names no kernel for 1 op of this run' err
finish
