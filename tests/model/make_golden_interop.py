#!/usr/bin/env python3
"""Folders that diffusers saved, and what it computes with them.

    make_golden_interop.py golden      the committed files (tests/model/golden/NAME and NAME.*.safetensors), seconds

Needs torch, safetensors and diffusers. Two networks: Ho's, with a schedule and pictures that are not square, and OpenAI's with classes
and a learned variance. in, out: a call in float32 weights and float64 arithmetic, with PyTorch's own error in float32 in the metadata.
picture: a whole DDPMPipeline run in float32 with given noise.
"""
import argparse, json, os, shutil
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from safetensors.torch import save_file

HO = dict(sample_size=(8, 16), in_channels=3, out_channels=3, block_out_channels=(8, 16, 16), layers_per_block=1, norm_num_groups=4,
          down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
          attention_head_dim=None, downsample_padding=0, flip_sin_to_cos=False, freq_shift=1, norm_eps=1e-6)
ADM = dict(sample_size=8, in_channels=1, out_channels=2, block_out_channels=(8, 12), layers_per_block=2, norm_num_groups=4,
           attn_norm_num_groups=4, attention_head_dim=4, down_block_types=("ResnetDownsampleBlock2D", "AttnDownBlock2D"),
           up_block_types=("AttnUpBlock2D", "ResnetUpsampleBlock2D"), downsample_type="resnet", upsample_type="resnet", dropout=0.1,
           resnet_time_scale_shift="scale_shift", num_class_embeds=5)
STEPS = 20
CASES = {"hf-ho": (HO, dict(num_train_timesteps=STEPS, beta_start=0.002, beta_end=0.3)),
         "hf-adm": (ADM, dict(variance_type="learned_range"))}


def relative(a, b):
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


def run_pipeline(folder, start, noise):
    """DDPMPipeline as it is loaded from the folder, its two draws replaced: x_T, then a z for every step but the last."""
    import diffusers.pipelines.ddpm.pipeline_ddpm as pipeline
    import diffusers.schedulers.scheduling_ddpm as scheduling
    given = iter([start, *noise])

    def draw(shape, **_):
        value = next(given)
        assert tuple(shape) == tuple(value.shape), (shape, value.shape)
        return value

    pipe = DDPMPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    former = pipeline.randn_tensor, scheduling.randn_tensor
    pipeline.randn_tensor = scheduling.randn_tensor = draw
    try:
        pictures = pipe(batch_size=start.shape[0], num_inference_steps=pipe.scheduler.config.num_train_timesteps, output_type="np").images
    finally:
        pipeline.randn_tensor, scheduling.randn_tensor = former
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()


def make(folder, name):
    unet_config, scheduler_config = CASES[name]
    torch.manual_seed(sum(name.encode()))
    unet = UNet2DModel(**unet_config).eval()
    # diffusers' start leaves much of the network near nothing; larger weights make every part of it heard.
    with torch.no_grad():
        for p in unet.parameters():
            p.copy_(p + 0.1 * torch.randn_like(p) if p.dim() == 1 else 1.5 * p)
    path = f"{folder}/{name}"
    shutil.rmtree(path, ignore_errors=True)
    DDPMPipeline(unet, DDPMScheduler(**scheduler_config)).save_pretrained(path)
    if name == "hf-adm":  # JSON as others lay it out: nothing between the tokens
        with open(f"{path}/model_index.json", "r+") as file:
            text = json.dumps(json.load(file), separators=(",", ":"))
            file.seek(0)
            file.truncate()
            file.write(text)
    size = unet_config["sample_size"]
    shape = (2, unet_config["in_channels"], *(size if isinstance(size, tuple) else (size, size)))
    x, t = torch.randn(shape), torch.randint(0, scheduler_config.get("num_train_timesteps", 1000), (2,))
    labels = torch.randint(0, unet_config["num_class_embeds"], (2,)) if "num_class_embeds" in unet_config else None
    with torch.no_grad():
        single = unet(x, t, class_labels=labels).sample
        truth = unet.double()(x.double(), t, class_labels=labels).sample
    print(name, sum(p.numel() for p in unet.parameters()), "parameters, float32", relative(single, truth))
    save_file({"x": x, "t": t} | ({} if labels is None else {"labels": labels}), f"{folder}/{name}.in.safetensors")
    save_file({"y.eval": truth.float().contiguous()}, f"{folder}/{name}.out.safetensors",
              {"torch": torch.__version__, "float32.y": f"{relative(single, truth):.3g}"})
    if labels is None:
        start, noise = torch.randn(shape), torch.randn(STEPS, *shape)
        picture = run_pipeline(path, start, noise)
        print(name, "picture", picture.mean().item(), picture.std().item(), "clamped", ((picture == 0) | (picture == 1)).float().mean().item())
        save_file({"start": start, "noise": noise, "picture": picture}, f"{folder}/{name}.picture.safetensors")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder")
    args = p.parse_args()
    torch.set_num_threads(1)
    os.makedirs(args.folder, exist_ok=True)
    for name in CASES:
        make(args.folder, name)


if __name__ == "__main__":
    main()
