#!/usr/bin/env python3
"""Does PyTorch take our model files?  check_torch.py FILE.safetensors [OTHER.safetensors]

Loads FILE with strict=True into the tutorial's network of the file's own widths, and reports the largest difference to OTHER's tensors
when there is one. Run by hand: `test_model GOLDEN cpu FOLDER` leaves FOLDER/saved.safetensors, whose OTHER is
golden/small.model.safetensors; and any checkpoint of a run folder will do.
"""
import sys
import torch
from safetensors.torch import load_file
from make_golden import Unet

state = load_file(sys.argv[1])
channels = [state["conv0.weight"].shape[0]]
while f"downs.{len(channels) - 1}.conv1.weight" in state:
    channels.append(state[f"downs.{len(channels) - 1}.conv1.weight"].shape[0])
net = Unet(tuple(channels), state["conv0.weight"].shape[1], state["time_mlp.1.weight"].shape[0])
print(net.load_state_dict(state, strict=True), "channels", channels, "parameters", sum(p.numel() for p in net.parameters()))
with torch.no_grad():
    y = net.eval()(torch.zeros(1, net.output.out_channels, 2 ** (len(channels) - 1), 2 ** (len(channels) - 1)), torch.tensor([0]))
print("output finite:", bool(y.isfinite().all()))
if len(sys.argv) > 2:
    other = load_file(sys.argv[2])
    assert set(other) == set(state), set(other) ^ set(state)
    pairs = [(k, (state[k].double() - v.double()).abs().max().item()) for k, v in other.items() if "num_batches_tracked" not in k]
    print("largest difference:", max(d for _, d in pairs))
