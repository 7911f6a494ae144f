#!/bin/sh
# family.sh LUNETTE DEVICE: UNets, schedules, predictions and objectives by command: trained, resumed to the same bytes, sampled from.
. "$(dirname "$0")/lib.sh"
device=$2
need_device "$device"
unet="--preset tiny --size 16 --channels 8,16 --groups 8 --head-width 8 --attention 1 --diffusion-steps 5 --batch 4"
on="--device $device --threads 2 --no-doctor"

succeeds craters pictures --count 12 --size 16
mkdir -p classes/day classes/night
cp pictures/crater-000[0-5].png classes/day/
cp pictures/crater-000[6-9].png pictures/crater-001?.png classes/night/

# Everything at once: what is said, recorded and kept
all="--schedule sigmoid --prediction x0 --loss huber --huber-delta 0.5 --min-snr 3 --learned-variance --bound-scale 0.5 --loss-aware --dropout 0.1 --accumulate 2"
succeeds train pictures --out whole $unet $all $on --steps 40 --sample-every 0 --checkpoint-every 0
check "the network is said" grep -q '^model: tiny, channels 8,16, ' out
check "the objective is said" grep -q '^objective: sigmoid of 5 steps, x0, min-SNR weights 3, learned variance (bound times 0.5), time steps by their losses, dropout 0.1, loss huber$' out
check "the preset's optimiser" grep -q '^update: AdamW, .*moving average 0.999, 2 x 2 pictures' out
for text in '"kind": "adm"' '"prediction": "x0"' '"min_snr": 3.0' '"loss_aware": true' '"learned_sigma": true' '"kind": "sigmoid"'; do
    check "recorded: $text" grep -q -e "$text" whole/config.json
done
succeeds info whole
check "info: the schedule" grep -q '^schedule    5 steps, sigmoid' out
check "info: the prediction" grep -q '^prediction  x0, and the variance' out

# Parts, with sampling on the way and another rhythm of saving; the time steps' losses are complete at the second break
succeeds train pictures --out parts $unet $all $on --steps 3 --sample-every 1 --checkpoint-every 2
succeeds train pictures --out parts --resume $on --steps 29 --sample-every 2
check "a strip" [ -s parts/samples/epoch-00002.png ]
succeeds train pictures --out parts --resume $on --steps 40 --sample-every 0
for part in '' .optimizer .ema-0.999; do
    check "the same: $part" cmp whole/checkpoints/step-00000040$part.safetensors parts/checkpoints/step-00000040$part.safetensors
done

# Drawing by what the file says
succeeds sample whole --out a.png --count 2 --device $device --threads 2
check "the learned variance" grep -a -q learned a.png
check "the average" grep -a -q 'moving average' a.png
for sampler in ddim dpm heun; do
    succeeds sample whole --out b.png --count 2 --sampler $sampler --steps 4 --device $device --threads 2
done
succeeds sample parts --out c.png --count 2 --device $device --threads 2
check "the same pictures" cmp a.png c.png
succeeds sample whole --out d.png --count 2 --weights raw --device $device --threads 2
cmp -s a.png d.png && fail "the average and the weights, the same pictures"

# Classes, learned with and without being told
succeeds train classes --out labels $unet $on --labels --label-dropout 0.3 --steps 12 --sample-every 2 --holdout 4 --holdout-every 1
check "classes" grep -q '^classes: 2, day to night; 0.3 ' out
check "held out" grep -q '"holdout_loss"' labels/log.jsonl
succeeds info labels
check "info: classes" grep -q '^classes     2, and none' out
check "info: their names" grep -q '^class names \["day", "night"\]' out
succeeds sample labels --out day.png --count 2 --class 0 --guidance 3 --device $device --threads 2
succeeds sample labels --out night.png --count 2 --class 1 --guidance 3 --device $device --threads 2
cmp -s day.png night.png && fail "two classes, the same pictures"
refuses 2 '--class 2: .*0 to 1' sample labels --out e.png --class 2 --device $device
succeeds train classes --out told $unet $on --labels --label-dropout 0 --steps 3 --sample-every 1
refuses 2 'never trained without a label' sample told --out e.png --class 0 --guidance 3 --device $device --threads 2
check "a strip of a class" [ -s told/samples/epoch-00001.png ]

# Starting from a model's weights
succeeds train pictures --out again $unet $on --steps 1 --sample-every 0 --learned-variance --init whole/checkpoints/step-00000040.safetensors
refuses 4 'of kind adm, the run.s notebook' train pictures --out f --preset notebook --size 16 --channels 8,16 --init whole/checkpoints/step-00000040.safetensors
[ -e f ] && fail "a refused run left a folder"

# What does not go together
refuses 2 'known: .*tiny.*adm-64' train pictures --out f --preset small-
refuses 2 '--learned-variance: .*notebook' train pictures --out f --preset notebook --learned-variance
refuses 2 '--dropout: .*notebook' train pictures --out f --preset notebook --dropout 0.1
refuses 2 'labels: .*notebook takes no classes' train classes --out f --preset notebook --labels
refuses 2 '--attention: .*level 4' train pictures --out f --preset tiny --attention 0,4
refuses 2 '--huber-delta: only' train pictures --out f $unet --huber-delta 2
refuses 2 '--bound-scale: only' train pictures --out f $unet --bound-scale 2
refuses 2 'exclude each other' train pictures --out f --preset tiny --heads 2 --head-width 3
refuses 3 'with labels' train pictures --out f --preset adm-64 --batch 4 --steps 1 --device $device
refuses 2 'do not divide into' train pictures --out f --preset tiny --channels 24,48
refuses 2 '--schedule cosine: .*sigmoid' train pictures --out whole --resume --schedule cosine
refuses 2 '--prediction v: .*x0' train pictures --out whole --resume --prediction v
refuses 2 '--min-snr 5: .*3;' train pictures --out whole --resume --min-snr 5
refuses 2 '--attention 0: .*1;' train pictures --out whole --resume --attention 0
refuses 2 '--loss-aware: .*without it' train classes --out labels --resume --loss-aware
refuses 2 '--preset small: .*tiny' train pictures --out whole --resume --preset small
succeeds train pictures --out whole --resume $unet $all $on --steps 41 --sample-every 0

finish
