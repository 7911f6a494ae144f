#!/bin/sh
# doctor.sh LUNETTE TEXTS: what computes wrongly is found, named and not used. TEXTS: the folder of kernel texts.
texts=$2
. "$(dirname "$0")/lib.sh"
net="--preset notebook --size 16 --channels 8,16 --batch 4"

succeeds doctor --device cpu --threads 2 $net
check "the verdict" grep -q '^cpu: all [0-9]* kernels of these ops are right' out
check "ops of training" grep -q '^  conv2d_wgrad  *[a-z0-9_]* ' out
check "ops of sampling" grep -q '^  sample_step ' out
succeeds doctor --device cpu --threads 2 $net --all --json
check "every kernel" python3 -c 'import json; d = json.load(open("out")); k = {o["kernel"] for o in d["ops"]}
assert {"panel", "direct", "winograd_2x2"} <= k and d["wrong"] == 0 and d["complete"] and 0 < d["worst"] <= 1'
succeeds doctor --device cpu --threads 2 $net --for sample --candidate direct
grep -q 'wgrad\|panel' out && fail "more than was asked for"
refuses 2 "no op has a kernel named fast" doctor --device cpu $net --candidate fast
refuses 2 "leave out --preset" doctor --model run --channels 8,16
refuses 2 "null" doctor --device null

# Remembered: the second run examines nothing.
succeeds craters pictures --count 8 --size 16
succeeds train pictures --out one $net --device cpu --threads 2 --steps 1 --sample-every 0
check "train checks" grep -q 'kernels checked against plain C in .*, 0 wrong' err
check "and remembers" grep -q "^right$(printf '\t')[a-z0-9_]*$(printf '\t')conv2d 4x3x16x16" cache/doctor-*.txt
succeeds train pictures --out two $net --device cpu --threads 2 --steps 1 --sample-every 0
grep -q 'checked against' err && fail "checked again"
succeeds train pictures --out three $net --device cpu --threads 1 --steps 1 --sample-every 0 --no-doctor
grep -q 'checked against' err && fail "checked although it was not to be"

"$LUNETTE" devices 2>/dev/null | grep -q ^opencl || { echo "no OpenCL device: the rest is skipped"; finish; }
succeeds doctor --device opencl $net

# A driver that adds wrongly: there is one kernel for that.
cp -r "$texts" wrong
sed -i 's/a\[i\] + b\[i\]/a[i] - b[i]/' wrong/elementwise.cl
cmp -s wrong/elementwise.cl "$texts/elementwise.cl" && fail "the text was not changed"
LUNETTE_KERNELS=$DIR/wrong
export LUNETTE_KERNELS
run doctor --device opencl $net
check "exit 5" [ "$code" = 5 ]
check "the op" grep -q '^WRONG: add 4x16x8x8 .* by plain' out
check "how to see it again" grep -q "^  again: lunette doctor --device opencl:0 --channels 8,16 --batch 4 --size 16 --candidate plain" out
check "the verdict" grep -q 'of .* kernels of these ops are WRONG' out
run train pictures --out bad $net --device opencl --steps 1 --sample-every 0
check "train refuses" [ "$code" = 5 ]
check "and says why" grep -q 'error: opencl:0 computes add .* wrongly by every kernel it has' err
check "there is no run" [ ! -e bad/config.json ]

# One bit of one element.
rm -r wrong
cp -r "$texts" wrong
sed -i 's/a\[i\] + b\[i\]/bits_to_float(float_to_bits(a[i] + b[i]) ^ (i == 37 ? 0x400000u : 0u))/' wrong/elementwise.cl
cmp -s wrong/elementwise.cl "$texts/elementwise.cl" && fail "the text was not changed"
run doctor --device opencl $net
check "exit 5 for one bit" [ "$code" = 5 ]
check "the op of the bit" grep -q '^WRONG: add 4x16x8x8 .* by plain' out
run train pictures --out bit $net --device check:cpu,opencl --steps 1 --sample-every 0 --no-doctor
check "the check device sees it" [ "$code" = 5 ]
check "and says where" grep -q 'error: check: add .* differs at stored element 37 of' err

# One that convolves wrongly by one kernel: another is taken.
rm -r wrong
cp -r "$texts" wrong
sed -i 's/acc##i##0 = lane_madd(x, b0, acc##i##0);/acc##i##0 = lane_madd(x, b1, acc##i##0);/' wrong/cpu/conv2d.cl
cmp -s wrong/cpu/conv2d.cl "$texts/cpu/conv2d.cl" && fail "the text was not changed"
succeeds train pictures --out around $net --device opencl --steps 1 --sample-every 0 --tune off
check "it says so" grep -q 'warning: opencl:0 computes conv2d .* wrongly by the kernel panel; [a-z0-9_]* is used in its place' err
grep -q '"panel"' around/config.json && fail "the wrong kernel is used"
finish
