#!/usr/bin/env python3
"""Make golden/optimizer.safetensors: what AdamW, clipping, a cosine decay and moving averages do to a small smooth network.

    make_golden_optimizer.py golden

Needs torch, diffusers and safetensors. Ten steps of eight pictures in float64: torch.optim.AdamW, clip_grad_norm_, the learning
rate of diffusers' get_cosine_schedule_with_warmup but for the warm-up, whose first step is not lost here, diffusers' EMAModel with
warm-up and a plain moving average. Stored: the start, the data, each step's loss, gradient norm and learning rate, and what the
weights and the averages are in the end. The same in float32 gives PyTorch's own error, which goes into the metadata.
"""
import argparse
import torch
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from safetensors.torch import save_file
from torch import nn

STEPS, BATCH, SIDE, WARMUP, LR, LIMIT = 10, 8, 5, 3, 3e-3, 0.27


def rates():
    opt = torch.optim.SGD([nn.Parameter(torch.zeros(1))], LR)
    schedule = get_cosine_schedule_with_warmup(opt, WARMUP, STEPS)
    out = []
    for k in range(STEPS):
        out.append(LR * (k + 1) / WARMUP if k < WARMUP else schedule.get_last_lr()[0])
        opt.step()
        schedule.step()
    return out


def run(start, x, target, dtype):
    net = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 3, 1)).to(dtype)
    net.load_state_dict({k: v.to(dtype) for k, v in start.items()})
    opt = torch.optim.AdamW(net.parameters(), LR, (0.9, 0.99), 1e-8, 0.05)
    warm = EMAModel(net.parameters(), decay=0.99, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
    plain = [p.detach().clone() for p in net.parameters()]
    losses, norms = [], []
    for k, lr in enumerate(rates()):
        opt.param_groups[0]["lr"] = lr
        opt.zero_grad()
        loss = nn.functional.mse_loss(net(x[k].to(dtype)), target[k].to(dtype))
        loss.backward()
        norms.append(nn.utils.clip_grad_norm_(net.parameters(), LIMIT).item())
        opt.step()
        warm.step(net.parameters())
        for average, p in zip(plain, net.parameters()):
            average.mul_(0.9).add_(p.detach(), alpha=1 - 0.9)
        losses.append(loss.item())
    names = [k for k, _ in net.named_parameters()]
    final = {f"final.{k}": v.detach() for k, v in net.named_parameters()}
    final |= {f"power.{k}": v for k, v in zip(names, warm.shadow_params)}
    final |= {f"plain.{k}": v for k, v in zip(names, plain)}
    return torch.tensor(losses, dtype=torch.float64), torch.tensor(norms, dtype=torch.float64), final


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder")
    args = p.parse_args()
    torch.manual_seed(11)
    torch.set_num_threads(1)
    start = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 3, 1)).state_dict()
    x, target = torch.randn(STEPS, BATCH, 3, SIDE, SIDE), 0.3 * torch.randn(STEPS, BATCH, 3, SIDE, SIDE)
    losses, norms, final = run(start, x, target, torch.float64)
    single = run(start, x, target, torch.float32)
    # Both sides of the limit must have been met.
    assert (norms > LIMIT).sum() >= 3 and (norms < LIMIT).sum() >= 3, norms
    change = sum(((single[2][k].double() - v) ** 2).sum() for k, v in final.items())
    size = sum(((v - start[k.split(".", 1)[1]].double()) ** 2).sum() for k, v in final.items())
    metadata = {"torch": torch.__version__, "limit": str(LIMIT), "float32.change": f"{(change / size).sqrt().item():.3g}",
                "float32.losses": f"{((single[0] - losses).abs() / losses).max().item():.3g}"}
    print(metadata, norms.tolist(), rates())
    save_file({"losses": losses, "norms": norms, "rates": torch.tensor(rates(), dtype=torch.float64), "x": x, "target": target} |
              {f"start.{k}": v for k, v in start.items()} | {k: v.float().contiguous() for k, v in final.items()},
              f"{args.folder}/optimizer.safetensors", metadata)


if __name__ == "__main__":
    main()
