#!/bin/sh
# What train makes of pictures, and compare: flips, crops, channels, sizes, held-out pictures, distances.
. "$(dirname "$0")/lib.sh"
net="--preset notebook --channels 4,8 --batch 4 --device cpu --threads 1 --sample-every 0 --tune off"

succeeds craters pictures --count 15 --size 16 --seed 3
succeeds train pictures --out plain --size 16 $net --steps 6
succeeds train pictures --out said --size 16x16 --crop stretch --channels-in rgb --holdout 0 $net --steps 6
check "the defaults said" cmp plain/checkpoints/step-00000006.safetensors said/checkpoints/step-00000006.safetensors
# different RUN ARGUMENTS...: other weights than those of RUN
different()
{
    base=$1
    shift
    rm -rf other
    succeeds train pictures --out other $net --steps 6 "$@"
    checks=$((checks + 1))
    cmp -s $base/checkpoints/step-00000006.safetensors other/checkpoints/step-00000006.safetensors && fail "$* changes nothing"
}
different plain --size 16 --flip
different plain --size 16 --channels-in grey
different plain --size 16 --holdout 5
succeeds train pictures --out low $net --steps 6 --size 16x8
different low --size 16x8 --crop centre
succeeds train pictures --out middle $net --steps 6 --size 16x8 --crop centre
different middle --size 16x8 --crop random

# A picture that is wider than high, cropped, mirrored, in parts and whole
net="$net --size 16x8 --crop random --flip --channels-in grey --holdout 5"
succeeds train pictures --out whole $net --steps 8 --holdout-every 2
check "what is done is said" grep -q '^data: 15 pictures at 16x8, grey' out
check "crop and flip are said" grep -q '^pictures: random, mirrored by chance' out
check "what is held out is said" grep -q '^held out: 3 pictures (--holdout 5)' out
check "its loss is shown" grep -q 'held out 0\.' out
check "its loss is logged" [ "$(grep -c holdout_loss whole/log.jsonl)" = 2 ]
check "3 steps an epoch" grep -q '"step": 6, .*holdout_loss' whole/log.jsonl
check "it is recorded" grep -q '"crop": "random"' whole/config.json
succeeds train pictures --out parts $net --steps 3
succeeds train pictures --out parts --resume --steps 8 --device cpu --threads 1 --sample-every 0
check "resumed to the same bits" cmp whole/checkpoints/step-00000008.safetensors parts/checkpoints/step-00000008.safetensors
succeeds train pictures --out parts --resume --steps 8 --device cpu --size 16x8 --crop random --flip --channels-in grey --holdout 5
refuses 2 '--crop centre.*random' train pictures --out parts --resume --crop centre
refuses 2 '--channels-in rgb.*grey' train pictures --out parts --resume --channels-in rgb
refuses 2 '--holdout 4.*5' train pictures --out parts --resume --holdout 4
refuses 2 '--size 16.*16x8' train pictures --out parts --resume --size 16
refuses 2 '--flip.*without' train pictures --out plain --resume --flip
refuses 4 '--channels-in' train pictures --out unfit --preset notebook --size 16x8 --channels 4,8 --channels-in rgb --device cpu --init whole/checkpoints/step-00000008.safetensors
succeeds info whole
check "size and channels" grep -q '^pictures    16x8, 1 channels' out
succeeds sample whole --out grey.png --count 3 --steps 4 --norm-mode eval --device cpu --threads 1
check "a grey PNG" [ "$(od -An -tu1 -j25 -N1 grey.png | tr -d ' ')" = 0 ]

# Pictures that are all black, and all one picture: told of, and trained on without a number that is none.
python3 - <<'END'
import os, struct, zlib
def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
noise = bytes(zlib.crc32(bytes([i])) & 255 for i in range(256)) * 3
for folder, pixels in ("black", bytes(768)), ("alike", noise):
    os.mkdir(folder)
    rows = b"".join(b"\0" + pixels[48 * y : 48 * y + 48] for y in range(16))
    for i in range(12):
        open("%s/%02d.png" % (folder, i), "wb").write(
            b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 16, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
END
for folder in black alike; do
    for preset in "notebook --channels 4,8" "tiny --channels 8,8 --groups 4 --heads 2"; do
        trial=$folder-${preset%% *}
        succeeds train $folder --out $trial --preset $preset --size 16 --batch 4 --device cpu --threads 1 --sample-every 5 --tune off --no-doctor --steps 30 --log-every 1 --holdout 4
        check "$trial: it is said" grep -q "^lunette: warning: all 12 pictures in $folder are alike" err
        check "$trial: a single colour" [ "$(grep -c 'of a single colour' err)" = "$([ $folder = black ] && echo 1 || echo 0)" ]
        check "$trial: nothing else is" [ "$(grep -c 'warning' err)" = 1 ]
        check "$trial: every loss is a number" [ "$(grep -c '"loss": [0-9]' $trial/log.jsonl)" = 30 ]
        check "$trial: every weight is" python3 - $trial/checkpoints/step-00000030.safetensors <<'END'
import json, math, struct, sys
data = open(sys.argv[1], "rb").read()
size = struct.unpack("<Q", data[:8])[0]
count = 0
for name, entry in json.loads(data[8 : 8 + size]).items():
    if name != "__metadata__" and entry["dtype"] == "F32":
        begin, end = entry["data_offsets"]
        values = struct.unpack("<%df" % ((end - begin) // 4), data[8 + size + begin : 8 + size + end])
        assert all(map(math.isfinite, values)), name
        count += len(values)
assert count > 1000
END
        succeeds sample $trial --out $trial.png --count 2 --steps 5 --device cpu --threads 1
    done
done
succeeds train pictures --out several --preset notebook --size 16 --channels 4,8 --batch 4 --device cpu --threads 1 --sample-every 0 --tune off --no-doctor --steps 1
check "no word of others" [ "$(grep -c alike err)" = 0 ]

# What cannot be
for value in 1 1.5 2.5 -1 abc ''; do
    refuses 2 '^lunette: error: --holdout' train pictures --out r --preset notebook --size 16 --holdout "$value"
    refuses 2 '^lunette: error: --holdout' compare pictures pictures --holdout "$value"
done
for value in 16x 16x16x16 x16 1x16 16x4097 16X16 '16 x16' 16,16; do
    refuses 2 '^lunette: error: --size' train pictures --out r --preset notebook --size "$value"
done
refuses 2 'must be one of stretch, centre, random' train pictures --out r --preset notebook --crop some
refuses 2 'must be one of auto, grey, rgb, rgba' train pictures --out r --preset notebook --channels-in 3
refuses 2 'only with --labels' train pictures --out r --preset notebook --label-dropout 0.2
refuses 2 'takes no classes' train pictures --out r --preset notebook --labels
refuses 3 'not held out' train pictures --out r --preset notebook --size 16 --channels 4,8 --batch 13 --holdout 5 --device cpu
refuses 3 'none held out' train pictures --out r --preset notebook --size 16 --channels 4,8 --batch 2 --holdout 50 --device cpu
[ -e r ] && fail "a run that could not begin left a folder"

# What the folder holds decides
mkdir grey
cp grey.png grey/a.png
succeeds train grey --out auto --preset notebook --size 16 --channels-in auto --channels 4,8 --batch 1 --steps 1 --device cpu --sample-every 0 --tune off
check "grey is seen" grep -q '^channels: grey; 1 grey pictures, 0 in colour, 0 with alpha' out
cp pictures/crater-0000.png grey/b.png
succeeds train grey --out auto2 --preset notebook --size 16 --channels-in auto --channels 4,8 --batch 1 --steps 1 --device cpu --sample-every 0 --tune off
check "colour is seen" grep -q '^channels: RGB; 1 grey pictures, 1 in colour, 0 with alpha' out

# Comparing: a set with itself, with others, a grid, one picture
succeeds craters others --count 20 --size 32 --seed 4
succeeds compare pictures pictures --json --directions 32
check "a set is itself" python3 -c 'import json; d = json.load(open("out"))
assert d["distance"]["pixels"] == 0 and d["distance"]["patches_mean"] == 0 and d["compared"] == 15
assert all(n["picture"] == n["nearest"] and n["distance"] == 0 and not n["mirrored"] for n in d["nearest"])
assert d["own_median"] > 1 and d["nearest_median"] == 0 and d["trained_on"] is None'
succeeds compare pictures others --json --directions 32 --holdout 5
cp out first
check "held out and trained on" python3 -c 'import json; d = json.load(open("first"))
assert d["compared"] == 4 and d["held_out"] == 4 and d["others"] == 20 and d["width"] == 16 and len(d["nearest"]) == 15
assert d["distance"]["pixels"] > 0 and d["trained_on"]["pixels"] > 0
held = {"crater-%04d.png" % i for i in range(4, 20, 5)}
assert not held & {n["nearest"] for n in d["nearest"]}'
succeeds compare pictures others --json --directions 32 --holdout 5 --threads 3 --no-cache
check "the same on other threads, without a cache" cmp out first
succeeds compare pictures others --size 24x16 --crop centre --channels-in grey --out pairs.png
check "text" grep -q '^sliced Wasserstein distance, 15 of 15 pictures to 15 of 20, 24x16 grey, 512 directions' out
check "levels" grep -q '^  patches 24x16 ' out
check "medians" grep -q '^  median .*own nearest' out
check "a sheet of pairs" [ "$(head -c 4 pairs.png | tail -c 3)" = PNG ]
succeeds sample plain --out grid.png --count 5 --steps 4 --norm-mode eval --device cpu --threads 1
succeeds sample plain --out one/ --count 5 --steps 4 --norm-mode eval --device cpu --threads 1
succeeds compare grid.png one --grid 3x2 --json --directions 8
check "a grid is its pictures" python3 -c 'import json; d = json.load(open("out"))
assert d["width"] == d["height"] == 16 and d["pictures"] == 5 and d["distance"]["pixels"] == 0
assert [n["nearest"] for n in d["nearest"]] == ["%06d.png" % i for i in range(5)]'
succeeds compare one/000003.png one --json --directions 8
check "one picture" python3 -c 'import json; d = json.load(open("out")); assert d["nearest"][0]["nearest"] == "000003.png"'
refuses 2 'no grid of 4 x 2' compare grid.png one --grid 4x2
refuses 2 'is a folder' compare one one --grid 3x2
refuses 2 'no such picture' compare nowhere one
refuses 2 'no such folder' compare one nowhere
refuses 2 'no such folder' compare one grid.png
printf 'not a picture' >junk.png
refuses 3 'junk.png' compare junk.png one
refuses 7 '' compare one one --directions 8 --out no/such/place.png
refuses 2 'exclude each other' compare one one --cache c --no-cache
finish
