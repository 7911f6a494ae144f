#!/bin/sh
# lunette convert: round trips, what it says, what it refuses; the other commands on a folder that diffusers saved.
golden=$(cd "$(dirname "$0")/../model/golden" && pwd) || exit 1
. "$(dirname "$0")/lib.sh"

# Folders and files
succeeds convert "$golden/hf-ho" ho.safetensors --to lunette
grep -q '^ho.safetensors: ddpm, .* parameters, as lunette has them$' out || fail "convert does not say what it wrote"
succeeds convert ho.safetensors ho --to diffusers
succeeds convert ho ho-back.safetensors --to=lunette
check "round trip" cmp ho.safetensors ho-back.safetensors
succeeds convert ho/unet/diffusion_pytorch_model.safetensors ho-file.safetensors --to lunette
check "round trip by the file" cmp ho.safetensors ho-file.safetensors
succeeds convert "$golden/hf-adm" adm.safetensors --to lunette
succeeds convert adm.safetensors adm/ --to diffusers
grep -q 'class_labels' out || fail "convert does not say how classes are run"
succeeds convert adm adm-back.safetensors --to lunette
check "round trip with classes" cmp adm.safetensors adm-back.safetensors
[ "$(ls ho | tr '\n' ' ')" = "model_index.json scheduler unet " ] || fail "the folder holds $(ls ho)"
# The others read a folder too.
succeeds info "$golden/hf-ho"
grep -q 'names       of diffusers$' out && grep -q '^pictures    16x8, 3 channels$' out || fail "info of a folder"
succeeds info ho/unet
succeeds sample ho --out grid.png --count 1 --batch 1 --size 8 --steps 2 --device cpu --quiet
# What is there stays; nothing is left over.
refuses 2 'exists already' convert ho.safetensors ho-back.safetensors --to lunette
refuses 2 'exists already' convert ho.safetensors ho --to diffusers
refuses 2 'exists already' convert ho.safetensors ho.safetensors --to lunette
refuses 7 '' convert ho.safetensors no/such/file --to lunette
refuses 7 '' convert ho.safetensors no/such/folder --to diffusers
refuses 7 '' convert ho.safetensors ho.safetensors/folder --to diffusers
mkdir .late.tmp.999999999 .late.tmp.4194305 .late.tmp.4194305/unet
: >.late.tmp.4194305/unet/file
succeeds convert ho.safetensors late --to diffusers
[ -e .late.tmp.4194305 ] && fail "a dead process' folder stays"
checks=$((checks + 1))
(ulimit -f 8 && GCOV_PREFIX=$DIR/counts exec "$LUNETTE" convert ho.safetensors full --to diffusers >out 2>err)
code=$?
[ $code = 7 ] && [ ! -e full ] && grep -q '^lunette: error: ' err || fail "a full disk: exit $code"
rm -rf .late.tmp.999999999
[ -z "$(find . -name '.*.tmp.*')" ] || fail "left $(find . -name '.*.tmp.*')"
# Usage
refuses 2 'to is missing' convert ho.safetensors x
refuses 2 '' convert ho.safetensors x --to keras
refuses 2 '' convert ho.safetensors --to lunette
refuses 2 'exclude each other' convert ho.safetensors x --to lunette --heads 2 --head-width 8
refuses 2 'says itself' convert ho.safetensors x --to lunette --heads 2
refuses 2 'no such' convert none.safetensors x --to lunette
# What a layout cannot hold
refuses 2 'guided-diffusion: group norms of 4 groups (always 32 there); norm_eps 1e-06' convert ho.safetensors x --to guided
refuses 2 'DDPM port: group norms of 4' convert ho.safetensors x --to ddpm
refuses 2 "no layout but lunette's" convert "$golden/small.model.safetensors" x --to diffusers
refuses 2 "no layout but lunette's" convert "$golden/small.model.safetensors" x --to guided
# The tutorial's other names
succeeds convert "$golden/small.stream.safetensors" small.safetensors --to lunette
succeeds info small.safetensors
# A run folder: its newest checkpoint
succeeds craters pictures --count 4 --size 8
succeeds train pictures --out run --preset notebook --device cpu --threads 1 --size 8 --batch 4 --steps 2 --sample-every 0 --channels 4,4 --tune off
succeeds convert run model.safetensors --to lunette
check "a checkpoint" cmp model.safetensors run/checkpoints/step-00000002.safetensors
refuses 2 "no layout but lunette's" convert run x --to diffusers
# Damage
size=$(wc -c <ho.safetensors)
head -c $((size - 5)) ho.safetensors >cut.safetensors
refuses 4 'cut.safetensors' convert cut.safetensors x --to diffusers
cp ho.safetensors bent.safetensors
printf '\125\252' | dd of=bent.safetensors bs=1 seek=$((size - 6)) conv=notrunc 2>/dev/null
refuses 4 'damaged' convert bent.safetensors x --to diffusers
# Pickles, told by what they hold and never read
printf 'PK\003\004\000\000\010\010\000\000\000\000' >zip.pt
printf '\200\002}q\000X\001\000\000\000aq\001K\001s.' >old.safetensors
mkdir pickled
cp "$golden/hf-ho/unet/config.json" pickled
cp zip.pt pickled/diffusion_pytorch_model.bin
for file in zip.pt old.safetensors pickled; do
    refuses 4 'a PyTorch pickle.*python3 -c .*torch.load.*save_file' convert $file x --to lunette
    refuses 4 'a PyTorch pickle' info $file
    refuses 4 'a PyTorch pickle' sample $file --out g.png --device cpu
done
# JSON of strangers
lie()
{
    rm -rf lie
    cp -r "$golden/hf-ho" lie && chmod -R u+w lie
    sed "$2" "lie/$1" >text && ! cmp -s text "lie/$1" && mv text "lie/$1" || fail "no lie: $1 $2"
}
lie unet/config.json 's/"layers_per_block": 1/"layers_per_block": 2/'
refuses 4 'resnets.1.norm1.weight is missing; .*; and [0-9]* more$' convert lie x --to lunette
lie unet/config.json 's/"norm_num_groups": 4/"norm_num_groups": 1e300/'
refuses 4 "config.json: 'norm_num_groups' must be an integer" convert lie x --to lunette
lie unet/config.json 's/"in_channels": 3/"in_channels": 2000000000/'
refuses 4 'in_channels' convert lie x --to lunette
succeeds info lie
grep -q '^network     none that lunette knows: .*in_channels' out || fail "info does not say why"
lie model_index.json 's/UNet2DModel/UNet2DConditionModel/'
refuses 4 'is a UNet2DConditionModel' sample lie --out g.png --device cpu
lie scheduler/scheduler_config.json 's/"linear"/"laplace"/'
refuses 4 'laplace' convert lie x --to lunette
head -c 100000 /dev/zero | tr '\0' '[' >lie/unet/config.json
refuses 4 'nested' convert lie x --to lunette
: >lie/unet/config.json
refuses 4 'config.json' convert lie x --to lunette
rm lie/unet/config.json
mkdir lie/unet/config.json
refuses 4 'config.json' convert lie x --to lunette
[ -e x ] && fail "a refused conversion left a file"
finish
