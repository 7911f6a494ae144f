#!/usr/bin/env python3
"""Make the files of the sampling and objective tests.

    make_sampling.py golden         tests/model/golden, which make_golden.py has filled; about a minute on one core

Needs torch, numpy, safetensors and diffusers. Trajectories are diffusers' schedulers driving the small network of make_golden.py in
float64, with the start and the noise of path.safetensors; where a scheduler keeps constants in float32 it is given float64 ones. The
schedules and the objective are restated here from their papers in float64.
"""
import argparse, importlib.util, math, os
import numpy as np
import torch
from safetensors.torch import load_file, save_file
import diffusers
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, HeunDiscreteScheduler
from diffusers.schedulers import scheduling_ddpm

T = 300
F64 = torch.float64


def load_make_golden():
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "make_golden.py")
    spec = importlib.util.spec_from_file_location("make_golden", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---- schedules

def linear(steps, scaled=False):
    k = 1000 / steps if scaled else 1
    return np.linspace(1e-4 * k, 0.02 * k, steps, dtype=np.float64)


def cosine(steps):
    f = lambda u: math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2
    return np.array([min(1 - f((i + 1) / steps) / f(i / steps), 0.999) for i in range(steps)])


def sigmoid(steps, start=-3, end=3, tau=1):
    s = lambda x: 1 / (1 + math.exp(-x))
    lo, hi = s(start / tau), s(end / tau)
    abar = np.array([(hi - s((i / steps * (end - start) + start) / tau)) / (hi - lo) for i in range(steps + 1)])
    abar = abar / abar[0]
    return np.clip(1 - abar[1:] / abar[:-1], 0, 0.999)


def constants(beta):
    abar = np.cumprod(1 - beta)
    before = np.append(1.0, abar[:-1])
    variance = beta * (1 - before) / (1 - abar)
    return {"beta": beta, "abar": abar, "variance": variance,
            "mean_x0": beta * np.sqrt(before) / (1 - abar), "mean_xt": (1 - before) * np.sqrt(1 - beta) / (1 - abar),
            "small": np.log(np.append(variance[1], variance[1:])), "large": np.log(np.append(variance[1], beta[1:]))}


def space_timesteps(steps, text):
    """respace.py of guided-diffusion, said again."""
    if text.startswith("ddim"):
        wanted = int(text[4:])
        for stride in range(1, steps):
            if len(range(0, steps, stride)) == wanted:
                return list(range(0, steps, stride))
        raise ValueError(text)
    counts = [int(x) for x in text.split(",")]
    size, extra, start, kept = steps // len(counts), steps % len(counts), 0, []
    for i, count in enumerate(counts):
        length = size + (1 if i < extra else 0)
        stride = 1 if count <= 1 else (length - 1) / (count - 1)
        at = 0.0
        for _ in range(count):
            kept.append(start + round(at))
            at += stride
        start += length
    return sorted(set(kept))


def make_schedules(folder):
    out = {}
    for name, beta in (("linear.300", linear(300)), ("scaled.250", linear(250, True)), ("cosine.400", cosine(400)), ("cosine.50", cosine(50)),
                       ("sigmoid.200", sigmoid(200)), ("sigmoid.40", sigmoid(40))):
        out |= {f"{key}.{name}": torch.from_numpy(np.ascontiguousarray(v)) for key, v in constants(beta).items()}
    for steps, text in ((1000, "250"), (1000, "10,10,15,20,20,20"), (1000, "90,60,60,20,20"), (300, "10,15,20"), (300, "7,7,7,7"), (300, "1,1"),
                        (1000, "ddim25"), (1000, "ddim50"), (1000, "ddim250"), (300, "ddim25"), (300, "ddim300"), (11, "2,3,1"), (300, "0,5")):
        out[f"steps.{steps}.{text}"] = torch.tensor(space_timesteps(steps, text))
    for steps, count in ((300, 10), (300, 20), (1000, 20), (1000, 25), (50, 49)):
        out[f"steps.{steps}.linspace{count}"] = torch.from_numpy(np.linspace(0, steps - 1, count + 1).round()[1:].astype(np.int64))
    abar = constants(linear(T))["abar"]
    snr = abar / (1 - abar)
    least = np.minimum(snr, 5)
    out |= {"snr.eps": torch.from_numpy(least / snr), "snr.x0": torch.from_numpy(least), "snr.v": torch.from_numpy(least / (snr + 1))}
    save_file(out, f"{folder}/schedules.safetensors", {"numpy": np.__version__})


# ---- the objective

def cdf(z):
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z ** 3)))


def bound_bits(x0, xt, pred, t, prediction, c):
    """(N): the step's part of the bound in bits a dimension, the mean detached."""
    m, v = pred[:, :3].detach(), pred[:, 3:]
    at = lambda a: torch.from_numpy(a)[t][:, None, None, None]
    abar = at(c["abar"])
    end = {"eps": lambda: xt / abar.sqrt() - (1 / abar - 1).sqrt() * m, "x0": lambda: m, "v": lambda: abar.sqrt() * xt - (1 - abar).sqrt() * m}[prediction]()
    share = (v + 1) / 2
    lv = share * torch.log(at(c["beta"])) + (1 - share) * at(c["small"])
    true_mean, mean = (at(c["mean_x0"]) * e + at(c["mean_xt"]) * xt for e in (x0, end))
    low = at(c["small"])
    kl = 0.5 * (-1 + lv - low + torch.exp(low - lv) + (true_mean - mean) ** 2 * torch.exp(-lv))
    inverse = torch.exp(-0.5 * lv)
    up, down = cdf(inverse * (x0 - mean + 1 / 255)), cdf(inverse * (x0 - mean - 1 / 255))
    log = lambda p: torch.log(p.clamp(min=1e-12))
    nll = -torch.where(x0 < -0.999, log(up), torch.where(x0 > 0.999, log(1 - down), log(up - down)))
    mean_flat = lambda a: a.mean((1, 2, 3)) / math.log(2)
    return torch.where(t == 0, mean_flat(nll), mean_flat(kl))


def make_objective(folder):
    torch.manual_seed(21)
    c = constants(linear(T))
    shape = (5, 3, 4, 4)
    x0 = (torch.rand(shape) * 2.2 - 1.1).clamp(-1, 1)
    eps, t = torch.randn(shape), torch.tensor([0, 1, 7, 120, T - 1])
    abar = torch.from_numpy(c["abar"])[t][:, None, None, None]
    xt = (abar.sqrt() * x0 + (1 - abar).sqrt() * eps).float()
    weights = torch.tensor([1.0, 0.5, 2.0, 1.5, 0.25])
    out = {"x0": x0, "eps": eps, "t": t, "xt": xt, "weights": weights}
    losses = {"l1": lambda a, b: (a - b).abs(), "l2": lambda a, b: (a - b) ** 2,
              "huber": lambda a, b: torch.nn.functional.huber_loss(a, b, reduction="none", delta=0.7)}
    for prediction in ("eps", "x0", "v"):
        d0, de, dx = x0.double(), eps.double(), xt.double()
        target = {"eps": de, "x0": d0, "v": abar.sqrt() * de - (1 - abar).sqrt() * d0}[prediction]
        # A network near the truth, the nearer the less noise there is, so that the mass of t = 0 stays inside the doubles.
        near = target + 0.3 * torch.randn(shape).double() * (0.02 if prediction == "x0" else 1)
        pred = torch.cat((near, 0.8 * torch.randn(shape).double()), 1).float()
        out[f"pred.{prediction}"] = pred
        for kind, loss in losses.items():
            for variance in (False, True):
                for gamma in (0, 5):
                    p = (pred if variance else pred[:, :3]).double().requires_grad_()
                    each = loss(p[:, :3], target).mean((1, 2, 3))
                    if gamma:
                        snr = torch.from_numpy(c["abar"] / (1 - c["abar"]))[t]
                        each = each * snr.clamp(max=gamma) / {"eps": snr, "x0": 1, "v": snr + 1}[prediction]
                    if variance:
                        each = each + bound_bits(d0, dx, p, t, prediction, c) * T / 1000
                    total = (each * weights.double()).mean()
                    total.backward()
                    name = f"{prediction}.{kind}.{'learned' if variance else 'fixed'}.{gamma}"
                    out |= {f"each.{name}": each.detach().float(), f"loss.{name}": total.detach().float(), f"grad.{name}": p.grad.float()}
    save_file({k: v.contiguous() for k, v in out.items()}, f"{folder}/objective.safetensors", {"torch": torch.__version__})


# ---- trajectories

class Wide:
    """The small network with three channels behind its prediction, and with labels that shift its input."""

    def __init__(self, net, weight, table):
        self.net, self.weight, self.table = net, weight.double(), table.double()

    def __call__(self, x, t, labels=None, wide=False):
        shifted = x if labels is None else x + self.table[labels][:, :, None, None]
        with torch.no_grad():
            y = self.net(shifted, t)
            return torch.cat((y, torch.nn.functional.conv2d(shifted, self.weight)), 1) if wide else y


def times(x, t):
    return torch.full((len(x),), float(t), dtype=F64)


def exact(scheduler, steps):
    """Constants in float64."""
    scheduler.betas = torch.from_numpy(linear(steps))
    scheduler.alphas = 1 - scheduler.betas
    scheduler.alphas_cumprod = torch.cumprod(scheduler.alphas, 0)
    return scheduler


def follow(scheduler, steps, count, predict, start, noise, step):
    """The states after every step. Times are whole numbers or lie between."""
    exact(scheduler, steps).set_timesteps(count)
    x, states = start.double(), []
    for k, t in enumerate(scheduler.timesteps):
        x = step(scheduler, predict(x, times(x, t)), t, x, noise[k].double())
        states.append(x)
    return states


def ddpm_step(scheduler, out, t, x, z):
    scheduling_ddpm.randn_tensor = lambda *args, **kwargs: z
    return scheduler.step(out, t, x).prev_sample


def make_samplers(folder, golden):
    small = golden.Unet((8, 16, 24))
    small.load_state_dict(load_file(f"{folder}/small.model.safetensors"))
    path = load_file(f"{folder}/path.safetensors")
    start, noise = path["start"], path["noise"]
    torch.manual_seed(31)
    weight, table = 0.6 * torch.randn(3, 3, 1, 1), 0.5 * torch.randn(4, 3)
    net = Wide(small.double().eval(), weight, table)
    out = {"wide.weight": weight, "labels.table": table}
    betas = dict(beta_start=1e-4, beta_end=0.02, beta_schedule="linear")
    plain = lambda x, t: net(x, t)

    def keep(name, states):
        every = 5 if len(states) >= 20 else 1
        out[name] = torch.stack(states[every - 1::every]).float()

    for name, variance, clip, prediction in (("small.x0.eps", "fixed_small", True, "epsilon"), ("small.none.eps", "fixed_small", False, "epsilon"),
                                             ("large.x0.eps", "fixed_large", True, "epsilon"), ("small.x0.v", "fixed_small", True, "v_prediction"),
                                             ("small.none.v", "fixed_small", False, "v_prediction"), ("small.x0.x0", "fixed_small", True, "sample"),
                                             ("large.none.x0", "fixed_large", False, "sample")):
        s = DDPMScheduler(T, **betas, variance_type=variance, clip_sample=clip, prediction_type=prediction)
        keep(f"ancestral.{name}", follow(s, T, 25, plain, start, noise, ddpm_step))
    # diffusers takes the whole process' beta for the upper end whatever the spacing is: no respacing here
    for clip in (True, False):
        s = DDPMScheduler(20, **betas, variance_type="learned_range", clip_sample=clip)
        keep(f"ancestral.learned.{'x0' if clip else 'none'}.eps", follow(s, 20, 20, lambda x, t: net(x, t, wide=True), start, noise, ddpm_step))

    def ddim_step(eta, raw):
        return lambda s, o, t, x, z: s.step(o, t, x, eta=eta, use_clipped_model_output=not raw, variance_noise=z).prev_sample

    for name, eta, raw, clip, prediction in (("0.x0.eps", 0, False, True, "epsilon"), ("0.raw.eps", 0, True, True, "epsilon"), ("0.none.eps", 0, True, False, "epsilon"),
                                             ("0.7.x0.eps", 0.7, False, True, "epsilon"), ("1.none.eps", 1.0, True, False, "epsilon"), ("0.x0.v", 0, False, True, "v_prediction"),
                                             ("0.raw.v", 0, True, True, "v_prediction"), ("0.x0.x0", 0, False, True, "sample"), ("0.raw.x0", 0, True, True, "sample")):
        s = DDIMScheduler(T, **betas, clip_sample=clip, prediction_type=prediction)
        keep(f"ddim.{name}", follow(s, T, 25, plain, start, noise, ddim_step(eta, raw)))

    labels, null = torch.tensor([1, 2]), torch.tensor([3, 3])

    def guided(x, t):
        with_label, without = net(x, t, labels), net(x, t, null)
        return without + 2.5 * (with_label - without)

    s = DDIMScheduler(T, **betas, clip_sample=True)
    keep("ddim.guided", follow(s, T, 25, guided, start, noise, ddim_step(0, False)))
    s = DDIMScheduler(T, **betas, clip_sample=True)
    keep("ddim.labelled", follow(s, T, 25, lambda x, t: net(x, t, labels), start, noise, ddim_step(0, False)))

    def learned_guided(x, t):
        with_label, without = net(x, t, labels, wide=True), net(x, t, null, wide=True)
        mixed = without + 2.5 * (with_label - without)
        return torch.cat((mixed[:, :3], with_label[:, 3:]), 1)

    s = DDPMScheduler(20, **betas, variance_type="learned_range", clip_sample=True)
    keep("ancestral.learned.guided", follow(s, 20, 20, learned_guided, start, noise, ddpm_step))

    for name, count, prediction, clamp in (("10.eps", 10, "epsilon", False), ("20.eps", 20, "epsilon", False), ("10.v", 10, "v_prediction", False),
                                           ("10.x0.eps", 10, "epsilon", True), ("2.eps", 2, "epsilon", False), ("1.eps", 1, "epsilon", False)):
        s = DPMSolverMultistepScheduler(T, **betas, prediction_type=prediction)
        if clamp:
            convert = s.convert_model_output
            s.convert_model_output = lambda *args, convert=convert, **kwargs: convert(*args, **kwargs).clamp(-1, 1)
        keep(f"dpm.{name}", follow(s, T, count, plain, start, noise, lambda s, o, t, x, z: s.step(o, t, x).prev_sample))

    for name, count, prediction in (("8.eps", 8, "epsilon"), ("5.v", 5, "v_prediction")):
        s = exact(HeunDiscreteScheduler(T, **betas, prediction_type=prediction, use_karras_sigmas=True), T)
        s.set_timesteps(count)
        sigma = s.sigmas.double()
        x, states = start.double() * (1 + sigma[0] ** 2).sqrt(), []
        for k, t in enumerate(s.timesteps):
            x = s.step(plain(s.scale_model_input(x, t), times(x, t)), t, x).prev_sample
            if k % 2 == 1 or k == len(s.timesteps) - 1:  # a whole step; the scheduler's levels stand twice but for the ends
                states.append(x / (1 + sigma[k + 1] ** 2).sqrt())
        keep(f"heun.{name}", states)
        print(name, "levels", s.sigmas.tolist(), "times", s.timesteps.tolist())
    save_file({k: v.contiguous() for k, v in out.items()}, f"{folder}/samplers.safetensors", {"torch": torch.__version__, "diffusers": diffusers.__version__})


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder")
    args = p.parse_args()
    torch.set_num_threads(1)
    make_schedules(args.folder)
    make_objective(args.folder)
    make_samplers(args.folder, load_make_golden())


if __name__ == "__main__":
    main()
