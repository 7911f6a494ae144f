#!/usr/bin/env python3
"""Writes the files beside it with the Python safetensors library; test_safetensors.c knows their values.
Needs the packages torch, numpy and safetensors. The tests need no Python."""
import os

import numpy
import safetensors.numpy
import safetensors.torch
import torch

here = os.path.dirname(os.path.abspath(__file__))

# Element i of every tensor is i - 2 (or i where the type has no sign, i % 2 for BOOL).
signed, unsigned = torch.arange(6) - 2, torch.arange(6)
safetensors.torch.save_file(
    {
        "f64": signed.double(), "f32": signed.float().reshape(2, 3), "f16": signed.half().reshape(1, 2, 3, 1),
        "bf16": signed.bfloat16(), "i64": signed, "i32": signed.int(), "i16": signed.short(), "i8": signed.to(torch.int8),
        "u8": unsigned.to(torch.uint8), "bool": unsigned % 2 == 1, "scalar": torch.tensor(7.25),
        "empty": torch.zeros(0, 3), "größe/\"quoted\"": torch.tensor([1.5]),
    },
    os.path.join(here, "types.safetensors"), metadata={"made by": "Python", "über": "\n\t\"\\"})

torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3))
with torch.no_grad():
    net[0].weight.copy_(torch.arange(54).reshape(3, 2, 3, 3) / 8)
safetensors.torch.save_file(net.state_dict(), os.path.join(here, "state_dict.safetensors"))

safetensors.numpy.save_file({"u16": numpy.arange(3, dtype=numpy.uint16), "u32": (numpy.arange(3) + 2**32 - 3).astype(numpy.uint32),
                             "u64": numpy.array([0, 2**63 - 1], dtype=numpy.uint64),
                             "too large": numpy.array([2**63], dtype=numpy.uint64)},
                            os.path.join(here, "unsigned.safetensors"))
