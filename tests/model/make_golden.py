#!/usr/bin/env python3
"""Make the PyTorch files of the model tests.

    make_golden.py golden           the committed files (tests/model/golden), a few minutes on one core
    make_golden.py --full FOLDER    the full network: model.safetensors, in.safetensors, expected.safetensors

Needs torch and safetensors. Every number is computed in float64 from weights and inputs that are float32 numbers, and stored rounded to
float32; the same in float32 gives PyTorch's own error, which goes into the metadata as a decimal number. Seeds are searched until no
value that goes into a ReLU is so near zero that float32 could take the other side, and no batch norm sees a nearly dead channel.
"""
import argparse, math, os
import torch
from torch import nn
from safetensors.torch import save_file

T = 300
CLEAR = 1e-5  # the least |value before a ReLU|, some fifty times float32's error there
LIVELY = 1e-3  # the least variance of a channel: a nearly dead one has its rounding errors multiplied by up to 1 / sqrt(1e-5)


class Embedding(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, t):
        half = self.dim // 2
        freq = torch.exp(torch.arange(half, dtype=torch.float64) * -(math.log(10000) / (half - 1)))
        angle = t.double()[:, None] * freq[None]
        return torch.cat((angle.sin(), angle.cos()), -1)


class Block(nn.Module):
    def __init__(self, cin, cout, time_dim, up):
        super().__init__()
        self.time_mlp = nn.Linear(time_dim, cout)
        if up:
            self.conv1 = nn.Conv2d(2 * cin, cout, 3, padding=1)
            self.transform = nn.ConvTranspose2d(cout, cout, 4, 2, 1)
        else:
            self.conv1 = nn.Conv2d(cin, cout, 3, padding=1)
            self.transform = nn.Conv2d(cout, cout, 4, 2, 1)
        self.conv2 = nn.Conv2d(cout, cout, 3, padding=1)
        self.bnorm1, self.bnorm2 = nn.BatchNorm2d(cout), nn.BatchNorm2d(cout)
        self.relu = nn.ReLU()

    def forward(self, x, t):
        h = self.bnorm1(self.relu(self.conv1(x)))
        h = h + self.relu(self.time_mlp(t))[..., None, None]
        h = self.bnorm2(self.relu(self.conv2(h)))
        return self.transform(h)


class Unet(nn.Module):
    """The tutorial's network."""

    def __init__(self, channels=(64, 128, 256, 512, 1024), image_channels=3, time_dim=32):
        super().__init__()
        up = channels[::-1]
        self.time_mlp = nn.Sequential(Embedding(time_dim), nn.Linear(time_dim, time_dim), nn.ReLU())
        self.conv0 = nn.Conv2d(image_channels, channels[0], 3, padding=1)
        self.downs = nn.ModuleList(Block(a, b, time_dim, False) for a, b in zip(channels, channels[1:]))
        self.ups = nn.ModuleList(Block(a, b, time_dim, True) for a, b in zip(up, up[1:]))
        self.output = nn.Conv2d(up[-1], image_channels, 1)

    def forward(self, x, t):
        e = self.time_mlp[2](self.time_mlp[1](self.time_mlp[0](t).to(x.dtype)))
        x, skips = self.conv0(x), []
        for down in self.downs:
            x = down(x, e)
            skips.append(x)
        for up in self.ups:
            x = up(torch.cat((x, skips.pop()), 1), e)
        return self.output(x)


def relative(a, b):
    a, b = a.double().flatten(), b.double().flatten()
    return ((a - b).norm() / b.norm()).item() if b.norm() > 0 else (a - b).norm().item()


def clone(net, dtype):
    twin = Unet(net.channels, 3, net.time_dim)
    twin.load_state_dict(net.state_dict())
    twin.channels, twin.time_dim = net.channels, net.time_dim
    return twin.to(dtype)


def clearance(net, run):
    """While `run` runs: the least |value before a ReLU|, and the least variance of a batch norm's channel."""
    least = {nn.ReLU: math.inf, nn.BatchNorm2d: math.inf}

    def look(module, args, out):
        x = args[0].detach()
        value = x.abs() if isinstance(module, nn.ReLU) else x.var((0, 2, 3), unbiased=False)
        least[type(module)] = min(least[type(module)], value.min().item())

    hooks = [m.register_forward_hook(look) for m in net.modules() if type(m) in least]
    run()
    for h in hooks:
        h.remove()
    return least[nn.ReLU], least[nn.BatchNorm2d]


def lively(channels, size, time_dim=32):
    """A network whose norms have something to say: affine numbers and running statistics far from their start."""
    net = Unet(channels, 3, time_dim)
    net.channels, net.time_dim = channels, time_dim
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.weight, 0.5, 1.5)
            nn.init.uniform_(m.bias, -0.5, 0.5)
        elif isinstance(m, (nn.Conv2d, nn.ConvTranspose2d)):
            m.weight.data *= 2  # PyTorch's start lets the signal fade
    net.train()
    with torch.no_grad():
        for _ in range(7):
            net(torch.randn(8, 3, size, size), torch.randint(0, T, (8,)))
    return net


LOSSES = {"l1": nn.functional.l1_loss, "l2": nn.functional.mse_loss, "huber": nn.functional.huber_loss}


def forward_all(net, x, t, target, losses, dtype):
    """Everything the forward test compares, by name."""
    out = {}
    x, target = x.to(dtype), target.to(dtype)
    for mode in ("eval", "train"):
        for kind in losses:
            twin = clone(net, dtype).train(mode == "train")
            y = twin(x, t)
            loss = LOSSES[kind](y, target)
            loss.backward()
            out[f"y.{mode}"] = y.detach()
            out[f"loss.{mode}.{kind}"] = loss.detach()
            if mode == "eval" and kind != "l2":
                continue
            for name, p in twin.named_parameters():
                out[f"grad.{mode}.{kind}.{name}"] = p.grad
            if mode == "train":
                for name, b in twin.named_buffers():
                    if not name.endswith("num_batches_tracked"):
                        out[f"after.{name}"] = b.detach()
    return out


def whole(tensors, prefix):
    return torch.cat([v.double().flatten() for k, v in sorted(tensors.items()) if k.startswith(prefix)])


def make_forward(folder, name, channels, size, batch, losses, families):
    for seed in range(1000):
        torch.manual_seed(seed)
        net = lively(channels, size)
        x, target = torch.randn(batch, 3, size, size), torch.randn(batch, 3, size, size)
        t = torch.randint(0, T, (batch,))
        t[0], t[-1] = T - 1, 0
        seen = [clearance(twin := clone(net, torch.float64).train(mode), lambda: twin(x.double(), t)) for mode in (False, True)]
        least, variance = min(s[0] for s in seen), min(s[1] for s in seen)
        if least > CLEAR and variance > LIVELY:
            break
    else:
        raise SystemExit("no seed is clear of the kinks")
    truth = forward_all(net, x, t, target, losses, torch.float64)
    single = forward_all(net, x, t, target, losses, torch.float32)
    kinds = ("y.", "grad.train.l2", "grad.eval.l2")
    metadata = {"torch": torch.__version__, "seed": str(seed), "clearance": f"{least:.3g}", "variance": f"{variance:.3g}", "batches": "7"}
    metadata |= {f"float32.{k}": f"{relative(whole(single, k), whole(truth, k)):.3g}" for k in kinds}
    worst = max((relative(single[k], truth[k]), k) for k in truth if k.startswith("grad."))
    metadata["float32.worst"] = f"{worst[0]:.3g} {worst[1]}"
    print(name, metadata)
    state = {k: v.contiguous() for k, v in net.state_dict().items()}
    save_file(state, f"{folder}/{name}.model.safetensors")
    if families:
        other = {k.replace("downs.", "downstream.").replace("ups.", "upstream."): v for k, v in state.items()}
        save_file(other, f"{folder}/{name}.stream.safetensors")
    save_file({"x": x, "t": t, "target": target}, f"{folder}/{name}.in.safetensors")
    save_file({k: v.float().contiguous() for k, v in truth.items()}, f"{folder}/{name}.out.safetensors", metadata)
    return net


def schedule(steps=T, first=1e-4, last=0.02):
    beta = torch.linspace(first, last, steps, dtype=torch.float64)
    return beta, torch.cumprod(1 - beta, 0)


def variance(beta, abar):
    before = torch.cat((torch.ones(1, dtype=torch.float64), abar[:-1]))
    return beta * (1 - before) / (1 - abar)


def adam_run(net, x0, t, noise, dtype):
    net = clone(net, dtype).train()
    opt = torch.optim.Adam(net.parameters(), 1e-3)
    abar = schedule()[1]
    losses = []
    for i in range(len(t)):
        a = abar[t[i]].sqrt().to(dtype)[:, None, None, None]
        b = (1 - abar[t[i]]).sqrt().to(dtype)[:, None, None, None]
        eps = noise[i].to(dtype)
        loss = nn.functional.l1_loss(eps, net(a * x0[i].to(dtype) + b * eps, t[i]))
        opt.zero_grad()
        loss.backward()
        opt.step()
        losses.append(loss.item())
    return torch.tensor(losses, dtype=torch.float64), net


def make_adam(folder, net):
    """Ten steps of the experiment: noising, L1, Adam at 1e-3, running statistics updated."""
    steps, batch, size = 10, 4, 8
    torch.manual_seed(7)
    x0 = torch.rand(steps, batch, 3, size, size) * 2 - 1
    noise, t = torch.randn(steps, batch, 3, size, size), torch.randint(0, T, (steps, batch))
    truth, end = adam_run(net, x0, t, noise, torch.float64)
    single, end32 = adam_run(net, x0, t, noise, torch.float32)
    kept = {k: v for k, v in end.state_dict().items() if not k.endswith("num_batches_tracked")}
    final = {f"final.{k}": v for k, v in kept.items()}
    final32 = {f"final.{k}": v for k, v in end32.state_dict().items() if not k.endswith("num_batches_tracked")}
    # The error of the change, not of the weights, which hardly move in ten steps.
    start = {f"final.{k}": v for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    change = relative(whole(final32, "final") - whole(start, "final"), whole(final, "final") - whole(start, "final"))
    metadata = {"torch": torch.__version__, "lr": "1e-3", "float32.losses": f"{((single - truth).abs() / truth).max().item():.3g}",
                "float32.change": f"{change:.3g}"}
    print("adam", metadata, truth.tolist())
    save_file({"x0": x0, "noise": noise, "t": t, "losses": truth} | {k: v.float().contiguous() for k, v in final.items()},
              f"{folder}/adam.safetensors", metadata)


def respace(steps, count):
    """space_timesteps of improved-diffusion with one section, said again."""
    stride = 1 if count <= 1 else (steps - 1) / (count - 1)
    at, kept = 0.0, []
    for _ in range(count):
        kept.append(round(at))
        at += stride
    return kept


def respaced(steps, count):
    kept = respace(steps, count)
    abar = schedule(steps)[1]
    beta, last = [], torch.tensor(1.0, dtype=torch.float64)
    for i in kept:
        beta.append(1 - abar[i] / last)
        last = abar[i]
    return kept, torch.stack(beta)


def walk(net, start, noise, clip, training, count, dtype, every):
    """Ancestral sampling with given noise; the pictures after every so many steps, by how many remain."""
    net = clone(net, dtype).train(training)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.momentum = 0.0  # sampling must not write the running statistics
    kept, beta = respaced(T, count)
    abar = torch.cumprod(1 - beta, 0)
    sigma = variance(beta, abar).sqrt()
    x, seen = start.to(dtype), {}
    for k, i in enumerate(reversed(range(count))):
        with torch.no_grad():
            eps = net(x, torch.full((len(x),), kept[i]))
        before = abar[i - 1] if i else torch.tensor(1.0, dtype=torch.float64)
        if clip == "x0":
            x0 = ((1 / abar[i].sqrt()).to(dtype) * x - (1 / abar[i] - 1).sqrt().to(dtype) * eps).clamp(-1, 1)
            mean = (beta[i] * before.sqrt() / (1 - abar[i])).to(dtype) * x0 + ((1 - before) * (1 - beta[i]).sqrt() / (1 - abar[i])).to(dtype) * x
        else:
            mean = (1 / (1 - beta[i]).sqrt()).to(dtype) * (x - (beta[i] / (1 - abar[i]).sqrt()).to(dtype) * eps)
        x = mean + sigma[i].to(dtype) * noise[k].to(dtype) if i else mean
        if clip == "xt":
            x = x.clamp(-1, 1)
        if i % every == 0:
            seen[i] = x
    return seen


def make_path(folder, net):
    batch, size = 2, 8
    torch.manual_seed(11)
    start, noise = torch.randn(batch, 3, size, size), torch.randn(T, batch, 3, size, size)
    out, metadata = {"start": start, "noise": noise}, {"torch": torch.__version__}
    for clip in ("none", "x0", "xt"):
        for norm in ("eval", "train"):
            for count in (T, 25):
                every = 50 if count == T else 5
                args = (net, start, noise, clip, norm == "train", count)
                truth, single = walk(*args, torch.float64, every), walk(*args, torch.float32, every)
                name = f"{clip}.{norm}.{count}"
                own = max(relative(single[i], truth[i]) for i in truth)
                metadata[f"float32.{name}"] = f"{own:.3g}"
                out |= {f"x.{name}.{i}": v.float().contiguous() for i, v in truth.items()}
    print("path", metadata)
    save_file(out, f"{folder}/path.safetensors", metadata)


def make_schedule(folder):
    out = {}
    for steps in (300, 1000):
        beta, abar = schedule(steps)
        out |= {f"beta.{steps}": beta, f"abar.{steps}": abar, f"variance.{steps}": variance(beta, abar)}
    for steps, count in ((300, 300), (300, 299), (300, 150), (300, 100), (300, 50), (300, 25), (300, 7), (300, 2), (300, 1), (1000, 250),
                         (1000, 100), (1000, 25), (4, 3), (6, 3), (8, 3), (10, 4), (12, 7), (1, 1)):
        kept, beta = respaced(steps, count)
        out |= {f"respace.{steps}.{count}": torch.tensor(kept), f"respaced_beta.{steps}.{count}": beta}
    save_file(out, f"{folder}/schedule.safetensors", {"torch": torch.__version__})


def make_full(folder, batch, size):
    """The published network with PyTorch's own start, L1 in training mode."""
    torch.manual_seed(0)
    net = Unet()
    net.channels, net.time_dim = (64, 128, 256, 512, 1024), 32
    assert sum(p.numel() for p in net.parameters()) == 62438883
    x, target, t = torch.randn(batch, 3, size, size), torch.randn(batch, 3, size, size), torch.randint(0, T, (batch,))
    results = []
    for dtype in (torch.float64, torch.float32):
        twin = clone(net, dtype).train()
        y = twin(x.to(dtype), t)
        loss = nn.functional.l1_loss(y, target.to(dtype))
        loss.backward()
        out = {"y": y.detach(), "loss": loss.detach()} | {f"grad.{k}": p.grad for k, p in twin.named_parameters()}
        with torch.no_grad():
            out["y.eval"] = clone(net, dtype).eval()(x.to(dtype), t)
        results.append(out)
    truth, single = results
    metadata = {"torch": torch.__version__, "float32.gradient": f"{relative(whole(single, 'grad.'), whole(truth, 'grad.')):.3g}"}
    metadata |= {f"float32.{k}": f"{relative(single[k], truth[k]):.3g}" for k in truth}
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, f"{folder}/model.safetensors")
    save_file({"x": x, "t": t, "target": target}, f"{folder}/in.safetensors")
    save_file({k: v.float().contiguous() for k, v in truth.items()}, f"{folder}/expected.safetensors", metadata)
    print({k: metadata[f"float32.{k}"] for k in ("gradient", "y", "y.eval", "loss")})
    print("the worst parameter:", max((relative(single[k], truth[k]), k) for k in truth if k.startswith("grad.")))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder")
    p.add_argument("--full", action="store_true")
    p.add_argument("--batch", type=int, default=2, help="of the full network")
    p.add_argument("--size", type=int, default=64, help="of the full network")
    p.add_argument("--threads", type=int, default=1)
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    os.makedirs(args.folder, exist_ok=True)
    if args.full:
        make_full(args.folder, args.batch, args.size)
        return
    make_schedule(args.folder)
    small = make_forward(args.folder, "small", (8, 16, 24), 16, 3, ("l1", "l2", "huber"), families=True)
    make_forward(args.folder, "deep", (4, 6, 8, 10, 12), 32, 3, ("l2",), families=False)
    make_adam(args.folder, small)
    make_path(args.folder, small)


if __name__ == "__main__":
    main()
