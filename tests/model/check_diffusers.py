#!/usr/bin/env python3
"""Does diffusers draw our pictures?  check_diffusers.py LUNETTE DRAW_GIVEN MODEL [DEVICE]

`lunette convert MODEL folder --to diffusers`, then DDPMPipeline.from_pretrained(folder) and lunette (tests/model/draw_given) draw with
the same noise through all steps; then what diffusers saves of that pipeline is read by lunette and gives the same picture again. Run by
hand: needs torch, safetensors and diffusers. MODEL is a network that predicts noise, without classes or learned variance.
"""
import pathlib, subprocess, sys, tempfile
import torch
from diffusers import DDPMPipeline
from safetensors.torch import load_file, save_file
from make_golden_interop import run_pipeline

BOUND = 1e-4


def main():
    lunette, draw, model = sys.argv[1:4]
    device = sys.argv[4] if len(sys.argv) > 4 else "cpu"
    with tempfile.TemporaryDirectory() as scratch:
        ours, theirs, given = (str(pathlib.Path(scratch) / name) for name in ("ours", "theirs", "given.safetensors"))
        subprocess.run([lunette, "convert", model, ours, "--to", "diffusers"], check=True)
        pipe = DDPMPipeline.from_pretrained(ours)
        pipe.save_pretrained(theirs)
        size, steps = pipe.unet.config.sample_size or 32, pipe.scheduler.config.num_train_timesteps
        torch.manual_seed(1)
        shape = (2, pipe.unet.config.in_channels, *(size if isinstance(size, (list, tuple)) else (size, size)))
        start, noise = torch.randn(shape), torch.randn(steps, *shape)
        save_file({"start": start, "noise": noise}, given)
        wanted = 2 * run_pipeline(ours, start, noise) - 1
        worst = 0
        for name, source in (("the model", model), ("our folder", ours), ("diffusers' folder", theirs)):
            subprocess.run([draw, source, device, given, f"{scratch}/picture.safetensors"], check=True)
            picture = load_file(f"{scratch}/picture.safetensors")["picture"].clamp(-1, 1)
            off = (picture - wanted).abs().max().item()
            print(f"{name}: {steps} steps of {tuple(shape)}, largest difference {off:.2e}, deviation of the picture {wanted.std().item():.3f}")
            worst = max(worst, off)
        before, after = (load_file(f"{folder}/unet/diffusion_pytorch_model.safetensors") for folder in (ours, theirs))
        assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)
        sys.exit(not worst <= BOUND)


if __name__ == "__main__":
    main()
