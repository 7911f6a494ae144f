#!/bin/sh
# From craters to pictures: every file that a run promises, and what sampling, info and resume make of it.
golden=$(cd "$(dirname "$0")/../model/golden" && pwd)
. "$(dirname "$0")/lib.sh"

succeeds craters pictures --count 17 --size 16 --seed 3
check "17 pictures" [ "$(ls pictures | wc -l)" = 17 ]
succeeds craters again --count 17 --size 16 --seed 3
check "craters repeat" diff -r pictures again
succeeds craters others --count 5 --size 16 --seed 4
cmp -s others/crater-0000.png pictures/crater-0000.png && fail "another seed, the same craters"

succeeds train pictures --out run --preset notebook --device cpu --threads 1 --size 16 --channels 8,16 --batch 4 --epochs 2 --sample-every 1 --log-every 1
for file in config.json log.jsonl loss.png data.png forward.png samples/epoch-00001.png samples/epoch-00002.png \
    checkpoints/step-00000008.safetensors checkpoints/step-00000008.optimizer.safetensors; do
    check "the run's files" [ -s run/$file ]
done
check "a line a step" [ "$(wc -l <run/log.jsonl)" = 8 ]
check "what a line says" grep -q '"step": 8.*"epoch": 1.*"loss": .*"images_per_s": .*"elapsed_s": ' run/log.jsonl
check "plain lines in a pipe" grep -q '^step 8/8  epoch 2  loss 0\.' out
check "where things are" grep -q 'run/checkpoints/step-00000008.safetensors' out
check "no escape codes in a pipe" [ "$(tr -d -c '\033\r' <out | wc -c)" = 0 ]

# The same run, quietly
succeeds train pictures --out quiet --preset notebook --device cpu --threads 1 --size 16 --channels 8,16 --batch 4 --steps 8 --sample-every 0 --quiet
check "quiet is one line" [ "$(cat out err | wc -l)" = 1 ]
check "steps are epochs" cmp run/checkpoints/step-00000008.safetensors quiet/checkpoints/step-00000008.safetensors

# Samples
succeeds sample run --out grid.png --count 5 --steps 10 --device cpu --threads 1
check "a PNG" [ "$(head -c 4 grid.png | tail -c 3)" = PNG ]
for word in model step-00000008.safetensors 'seed' 0..4 sampler ancestral 'norm mode'; do
    check "text chunk $word" grep -a -q "$word" grid.png
done
succeeds sample run/checkpoints/step-00000008.safetensors --out same.png --count 5 --steps 10 --device cpu --threads 1
check "a run is its newest checkpoint" cmp grid.png same.png
succeeds sample run --out other.png --count 5 --steps 10 --seed 1 --device cpu --threads 1
cmp -s grid.png other.png && fail "another seed, the same pictures"
succeeds sample run --out strip.png --count 2 --strip --steps 20 --device cpu --threads 1
succeeds sample run --out folder/ --count 5 --steps 10 --norm-mode eval --device cpu --threads 1
check "a file a picture" [ "$(ls folder | tr '\n' ' ')" = '000000.png 000001.png 000002.png 000003.png 000004.png ' ]
# In evaluation mode a picture depends on its seed alone, not on how the batches fall.
succeeds sample run --out folder2/ --count 5 --steps 10 --norm-mode eval --batch 2 --device cpu --threads 1
check "batches change nothing in evaluation mode" diff -r folder folder2
succeeds sample run --out folder3/ --count 2 --seed 3 --steps 10 --norm-mode eval --device cpu --threads 1
check "picture k has the seed S + k" cmp folder/000003.png folder3/000000.png
for clip in none x0; do
    succeeds sample run --out $clip.png --count 1 --clip $clip --steps 5 --device cpu
done
succeeds sample run --out big.png --count 1 --size 32 --steps 2 --device cpu
for sampler in ddim dpm heun; do
    succeeds sample run --out $sampler.png --count 2 --sampler $sampler --steps 5 --strip --device cpu --threads 1
    check "text chunk sampler $sampler" grep -a -q $sampler $sampler.png
done
succeeds sample run --out eta.png --count 1 --sampler ddim --eta 0.5 --steps ddim25 --device cpu --threads 1
succeeds sample run --out list.png --count 1 --steps 2,3,4 --variance large --device cpu --threads 1
succeeds sample run --out way.png --count 3 --sampler ddim --steps 5 --interpolate 3 9 --device cpu --threads 1
check "text chunk of both seeds" grep -a -q '3 to 9' way.png
refuses 2 'must be a number, numbers separated by commas' sample run --out g.png --steps ddimx --device cpu
refuses 2 'no whole stride' sample run --out g.png --steps ddim299 --device cpu
refuses 2 'takes no labels' sample run --out g.png --steps 2 --class 1 --device cpu
refuses 2 'takes no labels' sample run --out g.png --steps 2 --guidance 2 --device cpu
refuses 2 'learned no variance' sample run --out g.png --steps 2 --variance learned --device cpu
refuses 2 'not the picture' sample run --out g.png --sampler dpm --clip xt --device cpu

# Moving averages, a schedule, parts of a batch: what is said, logged, kept and drawn
succeeds train pictures --out ema --preset notebook --device cpu --threads 1 --size 16 --channels 8,16 --batch 4 --steps 8 --sample-every 1 --log-every 1 \
    --optimizer adamw --weight-decay 0.01 --warmup 2 --decay linear --clip-norm 1 --ema 0.5,0.9 --micro-batch 2
check "the update is said" grep -q '^update: AdamW, weight decay 0.01, warm-up of 2 steps, linear decay to 0, gradient clipped at norm 1, moving averages 0.5,0.9, 2 x 2 pictures$' out
check "batch norms are warned of" grep -q 'warning: .*batch norms' err
check "rates and norms are logged" [ "$(grep -c '"lr": .*"grad_norm": ' ema/log.jsonl)" = 8 ]
check "a run without them has no norms" [ "$(grep -c '"grad_norm"' run/log.jsonl)" = 0 ]
check "the decay's end is recorded" grep -q '"steps": 8,' ema/config.json
for part in '' .optimizer .ema-0.5 .ema-0.9; do
    check "the checkpoint's $part" [ -s ema/checkpoints/step-00000008$part.safetensors ]
done
succeeds info ema/checkpoints/step-00000008.ema-0.9.safetensors
check "info knows averages" grep -q '^weights     moving average of rate 0.9$' out
succeeds sample ema --out a.png --count 1 --steps 5 --device cpu --threads 1
check "drawn with the first average" grep -q '^model: ema/checkpoints/step-00000008.ema-0.5.safetensors' out
check "text chunk of it" grep -a -q 'tEXtmoving average' a.png
succeeds sample ema --out b.png --count 1 --steps 5 --weights ema --device cpu --threads 1
check "that is the default" cmp a.png b.png
succeeds sample ema --out c.png --count 1 --steps 5 --weights 0.9 --device cpu --threads 1
succeeds sample ema/checkpoints/step-00000008.ema-0.9.safetensors --out d.png --count 1 --steps 5 --device cpu --threads 1
check "a rate is its file" cmp c.png d.png
succeeds sample ema --out e.png --count 1 --steps 5 --weights raw --device cpu --threads 1
cmp -s a.png c.png && fail "two rates, the same picture"
cmp -s a.png e.png && fail "the average and the weights, the same picture"
refuses 2 'moving averages of 0.5,0.9' sample ema --out f.png --weights 0.99
refuses 2 'no moving average' sample run --out f.png --weights ema
refuses 2 'chooses among' sample ema/checkpoints/step-00000008.safetensors --out f.png --weights raw
refuses 2 '--ema 0.5: .*0.5,0.9' train pictures --out ema --resume --ema 0.5
refuses 2 '--clip-norm 2: .*1;' train pictures --out ema --resume --clip-norm 2
refuses 2 '--micro-batch 1: .*2;' train pictures --out ema --resume --micro-batch 1
refuses 2 '--optimizer adam: .*adamw' train pictures --out ema --resume --optimizer adam
refuses 2 '--decay-steps 9: .*8;' train pictures --out ema --resume --decay-steps 9
succeeds train pictures --out ema --resume --steps 9 --device cpu --threads 1 --optimizer adamw --betas 0.9,0.999 --weight-decay 0.01 \
    --warmup 2 --decay linear --decay-steps 8 --lr-end 0 --clip-norm 1 --ema 0.5,0.9 --accumulate 2
check "past the decay's end" grep -q 'warning: .*reaches its end, 0, at step 8' err
rm -r ema

# UNets: what the file says is what is drawn
succeeds info $golden/adm.model.safetensors
check "a UNet" grep -q '^network     adm UNet, channels 8,16,16' out
check "classes" grep -q '^classes     5, and none' out
check "prediction" grep -q '^prediction  eps, and the variance' out
succeeds sample $golden/adm.model.safetensors --out adm.png --count 2 --size 16 --steps 4 --class 4 --guidance 2 --device cpu --threads 1
for word in learned 'norm mode' eval guidance class; do
    check "text chunk $word" grep -a -q "$word" adm.png
done
succeeds sample $golden/adm.model.safetensors --out adm.png --count 1 --size 16 --steps 4 --variance small --device cpu --threads 1
grep -a -q learned adm.png && fail "--variance small is not heard"
refuses 2 '--class 5.*0 to 4' sample $golden/adm.model.safetensors --out g.png --size 16 --steps 2 --class 5 --device cpu
refuses 2 'never trained without a label' sample $golden/plain.model.safetensors --out g.png --size 16 --steps 2 --class 0 --guidance 2 --device cpu
refuses 2 'learned no variance' sample $golden/ddpm.model.safetensors --out g.png --size 16 --steps 2 --variance learned --device cpu
succeeds sample $golden/iddpm.model.safetensors --out iddpm.png --count 3 --size 16 --sampler dpm --steps 4 --device cpu --threads 1
# Info
succeeds info run
check "schedule" grep -q '^schedule    300 steps, linear from 0.0001 to 0.02$' out
check "parameters" grep -q '^parameters  13723$' out
check "channels" grep -q 'channels 8,16' out
check "steps" grep -q '^trained     8 steps' out
check "tensors" grep -q 'ups.0.transform.weight  *F32  *(8, 8, 4, 4)' out
check "checksums" grep -q 'checksums right' out

# Going on, and what may not change
succeeds train pictures --out run --resume --epochs 3 --device cpu --threads 1 --sample-every 0
check "the third epoch" [ -s run/checkpoints/step-00000012.safetensors ]
succeeds train pictures --out run --resume --epochs 3 --device cpu --size 16 --batch 4 --lr 0.001 --seed 0 --channels 8,16 --loss l1
check "nothing left" grep -q 'nothing was left to do' out
succeeds train pictures --out run --resume --device cpu
check "the length is remembered" grep -q 'nothing was left to do' out
refuses 2 '--size 32.*16' train pictures --out run --resume --size 32
refuses 2 '--batch 8.*4' train pictures --out run --resume --batch 8
refuses 2 '--lr 0.01.*0.001' train pictures --out run --resume --lr 0.01
refuses 2 '--seed 5.*0' train pictures --out run --resume --seed 5
refuses 2 '--channels 8,16,32.*8,16' train pictures --out run --resume --channels 8,16,32
refuses 2 '--loss l2.*l1' train pictures --out run --resume --loss l2
refuses 2 'exclude' train pictures --out run --resume --init run/checkpoints/step-00000012.safetensors
run train others --out run --resume --epochs 4 --device cpu
check "other pictures are refused" [ $code = 3 ]
check "other pictures are named" grep -q '^lunette: error: .*other pictures' err
succeeds train pictures --out init --preset notebook --init run/checkpoints/step-00000012.safetensors --steps 1 --size 16 --channels 8,16 --batch 4 --device cpu
check "the start is kept" [ -s init/checkpoints/step-00000000.safetensors ]
refuses 4 '8,16.*4,8.*--channels' train pictures --out unfit --preset notebook --init run/checkpoints/step-00000012.safetensors --size 16 --channels 4,8 --batch 4
[ -e unfit ] && fail "an unfit --init left a folder"
for file in loss.png data.png forward.png samples/epoch-00001.png; do
    for word in Software model seed sampler steps; do
        check "$file: text chunk $word" grep -a -q "tEXt$word" run/$file
    done
done

# Bench
succeeds bench ops --batch 2 --size 8 --channels 4,8 --steps 2 --device cpu --threads 1 --clip-norm 1 --ema 0.9,0.99 --accumulate 2
for op in accumulate sum_squares clip_norm adam ema; do
    check "bench ops: $op" grep -q " update  *$op " out
done
for mode in train sample ops; do
    succeeds bench $mode --batch 2 --size 8 --channels 4,8 --steps 2 --device cpu --threads 1 --json
    for key in device images_per_s step_s peak_bytes batch size steps; do
        check "bench $mode: $key" grep -q "\"$key\": " out
    done
    succeeds bench $mode --batch 2 --size 8 --channels 4,8 --steps 2 --device cpu --threads 1
done
tiny="--preset tiny --size 16 --channels 32,32 --batch 2"
succeeds bench ops $tiny --steps 1 --device cpu --threads 2 --tune off
for op in group_norm group_norm_backward attention attention_backward upsample2_filter pool2_filter silu loss_each; do
    check "bench ops: $op" grep -q "  $op [(1-9]" out
done
succeeds bench sample $tiny --steps 1 --device cpu --threads 2
check "bench says the network" grep -q '^sample, tiny, batch 2, 16x16: ' out
succeeds bench ops --batch 2 --size 8 --channels 4,8 --steps 2 --device cpu --threads 1
check "an op's line" grep -q 'conv2d.*\[' out
check "the sum" grep -q '^sum of ops' out
succeeds devices --json
check "cpu is there" grep -q '"spec": "cpu"' out

# A terminal: one line redrawn, erased at the end, no colour where it is not wanted
if command -v script >/dev/null 2>&1 && script -qec true /dev/null >/dev/null 2>&1; then
    command="'$LUNETTE' train pictures --out term --preset notebook --device cpu --threads 1 --size 16 --channels 8,16 --batch 4 --steps 8 --sample-every 0"
    checks=$((checks + 1))
    TERM=xterm NO_COLOR= script -qec "$command" /dev/null >out 2>err </dev/null || fail "on a terminal: $(cat out)"
    check "a live line" grep -q "$(printf '\r\033')\[K.*step 8/8" out
    check "bold" grep -q "$(printf '\033')\[1m" out
    rm -r term
    TERM=xterm NO_COLOR=1 script -qec "$command" /dev/null >out 2>err </dev/null
    check "a live line" grep -q "$(printf '\r\033')\[Kstep 8/8" out
    grep -q "$(printf '\033')\[1m" out && fail "NO_COLOR is not honoured"
    rm -r term
    TERM=dumb script -qec "$command" /dev/null >out 2>err </dev/null
    grep -q "$(printf '\033')" out && fail "escape codes on a dumb terminal"
fi
finish
