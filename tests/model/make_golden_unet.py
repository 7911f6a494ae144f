#!/usr/bin/env python3
"""Make the PyTorch files of the UNets' tests.

    make_golden_unet.py golden                   the committed files (tests/model/golden), seconds
    make_golden_unet.py golden --no-diffusers    without the package diffusers, and without its files

Needs torch and safetensors. The networks are written out here once more, from the papers and the layouts of the weights that are in
use: Ho's in the names of its PyTorch port, OpenAI's in the names of guided-diffusion. Where diffusers is there, its UNet2DModel of the
same configuration must give the same numbers to float64's precision, and its state_dict becomes a file of its own.

Weights and inputs are float32 numbers, everything is computed in float64 and stored rounded to float32; the same in float32 gives
PyTorch's own error, which goes into the metadata as a decimal number.
"""
import argparse, json, math, os
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

# Members of lun_model_config under their own names.
DDPM = dict(kind="ddpm", image_channels=3, channels=[8, 16], time_dim=8, steps=1000, blocks=2, attention=[1], heads=1, head_width=0,
            qkv_order="heads", groups=4, norm_eps=1e-6, scale_shift=False, resample_blocks=False, asymmetric_pad=True, learned_sigma=False,
            classes=0, null_class=False, dropout=0.1, time_cos_first=False, time_shift=1, time_rescale=False, start="fan-avg")
ADM = dict(kind="adm", image_channels=3, channels=[8, 16, 16], time_dim=8, steps=1000, blocks=1, attention=[1, 2], heads=0, head_width=8,
           qkv_order="split", groups=4, norm_eps=1e-5, scale_shift=True, resample_blocks=True, asymmetric_pad=False, learned_sigma=True,
           classes=5, null_class=True, dropout=0.0, time_cos_first=True, time_shift=0, time_rescale=False, start="zero-last")
IDDPM = ADM | dict(channels=[8, 12], blocks=2, attention=[0, 1], heads=2, head_width=0, qkv_order="heads", resample_blocks=False,
                   steps=4000, classes=0, null_class=False, time_rescale=True, image_channels=1)
PLAIN = IDDPM | dict(channels=[8, 16], blocks=1, attention=[1], heads=4, scale_shift=False, resample_blocks=True, learned_sigma=False,
                     classes=3, image_channels=4, steps=50)
#       name: configuration, batch, height, width
CASES = {"ddpm": (DDPM, 2, 8, 16), "adm": (ADM, 3, 8, 8), "iddpm": (IDDPM, 2, 8, 8), "plain": (PLAIN, 2, 12, 8)}


class Names:
    """Where a layer's tensors are, in the family's own naming."""

    def __init__(self, c):
        self.guided = c["kind"] == "adm"
        self.c = c

    def of(self, guided, port):
        return guided if self.guided else port

    def entry(self, way, level, index):
        """guided-diffusion's numbers: the first convolution is input 0, every resampler on the way down has one of its own."""
        n = self.c["blocks"]
        return 1 + level * (n + 1) + index if way == "down" else (len(self.c["channels"]) - 1 - level) * (n + 1) + index

    def block(self, way, level, index):
        if way == "mid":
            return self.of(f"middle_block.{2 * index}", f"mid.block_{index + 1}")
        side = {"down": "input", "up": "output"}[way]
        return self.of(f"{side}_blocks.{self.entry(way, level, index)}.0", f"{way}.{level}.block.{index}")

    def attention(self, way, level, index):
        if way == "mid":
            return self.of("middle_block.1", "mid.attn_1")
        side = {"down": "input", "up": "output"}[way]
        return self.of(f"{side}_blocks.{self.entry(way, level, index)}.1", f"{way}.{level}.attn.{index}")

    def resampler(self, way, level):
        n = self.c["blocks"]
        if way == "down":
            return self.of(f"input_blocks.{self.entry(way, level, n)}.0", f"down.{level}.downsample")
        place = 2 if level in self.c["attention"] else 1
        return self.of(f"output_blocks.{self.entry(way, level, n)}.{place}", f"up.{level}.upsample")


class Unet:
    """The network as a function of a dictionary of tensors, which the first call fills (make) and later ones use."""

    def __init__(self, config):
        self.c, self.names, self.p, self.make = config, Names(config), {}, True
        size = 2 ** (len(config["channels"]) - 1)
        zeros = torch.zeros(1, config["image_channels"], size, size)
        self(zeros, torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.long))
        self.make = False

    def to(self, dtype):
        twin = object.__new__(Unet)
        twin.__dict__ = dict(self.__dict__)
        twin.p = {k: v.detach().to(dtype).requires_grad_() for k, v in self.p.items()}
        return twin

    # Weights are normal with a deviation that keeps the signal's size, so that no part of the network is silent.
    def tensor(self, name, *shape, fan=None):
        if self.make:
            assert name not in self.p, name
            self.p[name] = torch.randn(*shape) / math.sqrt(fan) if fan else torch.rand(*shape) - 0.5
        return self.p[name]

    def conv(self, name, x, out, kernel=3, stride=1, pad=1):
        w = self.tensor(f"{name}.weight", out, x.shape[1], kernel, kernel, fan=x.shape[1] * kernel * kernel)
        return F.conv2d(x, w, self.tensor(f"{name}.bias", out), stride, pad)

    def linear(self, name, x, out):
        return F.linear(x, self.tensor(f"{name}.weight", out, x.shape[1], fan=x.shape[1]), self.tensor(f"{name}.bias", out))

    def norm(self, name, x):
        if self.make:
            self.p[f"{name}.weight"] = torch.rand(x.shape[1]) + 0.5
        weight = self.p[f"{name}.weight"]
        return F.group_norm(x, self.c["groups"], weight, self.tensor(f"{name}.bias", x.shape[1]), self.c["norm_eps"])

    def pointwise(self, name, x, out):
        """On pixels x (N, C, L); Conv1d in guided-diffusion, Conv2d in the port."""
        tail = (1,) if self.names.guided else (1, 1)
        w = self.tensor(f"{name}.weight", out, x.shape[1], *tail, fan=x.shape[1])
        return torch.einsum("ocl,ncp->nop", w.flatten(2), x) + self.tensor(f"{name}.bias", out)[None, :, None]

    def time(self, t):
        c, half = self.c, self.c["time_dim"] // 2
        told = t.double() * (1000 / c["steps"] if c["time_rescale"] else 1)
        angle = told[:, None] * torch.exp(-math.log(10000) * torch.arange(half).double() / (half - c["time_shift"]))[None]
        return torch.cat((angle.cos(), angle.sin()) if c["time_cos_first"] else (angle.sin(), angle.cos()), 1)

    def residual(self, name, x, out, resample=None):
        layer = lambda guided, port: f"{name}.{self.names.of(guided, port)}"
        h = F.silu(self.norm(layer("in_layers.0", "norm1"), x))
        if resample:
            h, x = resample(h), resample(x)
        h = self.conv(layer("in_layers.2", "conv1"), h, out)
        e = self.linear(layer("emb_layers.1", "temb_proj"), F.silu(self.embedding), 2 * out if self.c["scale_shift"] else out)[..., None, None]
        norm2 = layer("out_layers.0", "norm2")
        if self.c["scale_shift"]:
            scale, shift = e.chunk(2, 1)
            h = self.norm(norm2, h) * (1 + scale) + shift
        else:
            h = self.norm(norm2, h + e)
        h = self.conv(layer("out_layers.3", "conv2"), F.silu(h), out)
        return h + (x if x.shape[1] == out else self.conv(layer("skip_connection", "nin_shortcut"), x, out, 1, 1, 0))

    def attention(self, name, x):
        n, c, height, width = x.shape
        h = self.norm(f"{name}.norm", x).flatten(2)
        heads = self.c["heads"] or c // self.c["head_width"]
        if self.names.guided:
            qkv = self.pointwise(f"{name}.qkv", h, 3 * c)
            if self.c["qkv_order"] == "heads":  # [head 0: q k v | head 1: q k v | ...]
                q, k, v = qkv.reshape(n * heads, 3 * c // heads, -1).chunk(3, 1)
            else:  # [q of all heads | k | v]
                q, k, v = (part.reshape(n * heads, c // heads, -1) for part in qkv.chunk(3, 1))
        else:
            q, k, v = (self.pointwise(f"{name}.{part}", h, c).reshape(n * heads, c // heads, -1) for part in "qkv")
        weight = torch.softmax(q.transpose(1, 2) @ k / math.sqrt(c // heads), -1)
        h = (v @ weight.transpose(1, 2)).reshape(n, c, -1)
        return x + self.pointwise(f"{name}.proj_out", h, c).reshape(x.shape)

    def down(self, level, x):
        name = self.names.resampler("down", level)
        if self.c["resample_blocks"]:
            return self.residual(name, x, x.shape[1], lambda x: F.avg_pool2d(x, 2))
        name = f"{name}.{self.names.of('op', 'conv')}"
        if self.c["asymmetric_pad"]:
            return self.conv(name, F.pad(x, (0, 1, 0, 1)), x.shape[1], 3, 2, 0)
        return self.conv(name, x, x.shape[1], 3, 2, 1)

    def up(self, level, x):
        name, twice = self.names.resampler("up", level), lambda x: F.interpolate(x, scale_factor=2, mode="nearest")
        return self.residual(name, x, x.shape[1], twice) if self.c["resample_blocks"] else self.conv(f"{name}.conv", twice(x), x.shape[1])

    def __call__(self, x, t, labels=None):
        c, of = self.c, self.names.of
        width, last = 4 * c["time_dim"], len(c["channels"]) - 1
        e = self.linear(of("time_embed.0", "temb.dense.0"), self.time(t).to(x.dtype), width)
        e = self.linear(of("time_embed.2", "temb.dense.1"), F.silu(e), width)
        if c["classes"]:
            e = e + self.tensor("label_emb.weight", c["classes"] + c["null_class"], width, fan=1)[labels]
        self.embedding = e
        h = self.conv(of("input_blocks.0.0", "conv_in"), x, c["channels"][0])
        skips = [h]
        for level, channels in enumerate(c["channels"]):
            for index in range(c["blocks"]):
                h = self.residual(self.names.block("down", level, index), h, channels)
                if level in c["attention"]:
                    h = self.attention(self.names.attention("down", level, index), h)
                skips.append(h)
            if level < last:
                h = self.down(level, h)
                skips.append(h)
        h = self.residual(self.names.block("mid", 0, 0), h, h.shape[1])
        h = self.attention(self.names.attention("mid", 0, 0), h)
        h = self.residual(self.names.block("mid", 0, 1), h, h.shape[1])
        for level, channels in reversed(list(enumerate(c["channels"]))):
            for index in range(c["blocks"] + 1):
                h = self.residual(self.names.block("up", level, index), torch.cat((h, skips.pop()), 1), channels)
                if level in c["attention"]:
                    h = self.attention(self.names.attention("up", level, index), h)
            if level:
                h = self.up(level, h)
        h = F.silu(self.norm(of("out.0", "norm_out"), h))
        return self.conv(of("out.2", "conv_out"), h, c["image_channels"] * (1 + c["learned_sigma"]))


# ---- diffusers -----------------------------------------------------------------------------------------------------------------------


def diffusers_model(c):
    from diffusers import UNet2DModel

    kind, levels = "resnet" if c["resample_blocks"] else "conv", len(c["channels"])
    return UNet2DModel(
        sample_size=8, in_channels=c["image_channels"], out_channels=c["image_channels"] * (1 + c["learned_sigma"]), center_input_sample=False,
        time_embedding_type="positional", freq_shift=c["time_shift"], flip_sin_to_cos=c["time_cos_first"],
        down_block_types=tuple("AttnDownBlock2D" if i in c["attention"] else ("ResnetDownsampleBlock2D" if c["resample_blocks"] else "DownBlock2D") for i in range(levels)),
        up_block_types=tuple("AttnUpBlock2D" if i in c["attention"] else ("ResnetUpsampleBlock2D" if c["resample_blocks"] else "UpBlock2D") for i in reversed(range(levels))),
        block_out_channels=tuple(c["channels"]), layers_per_block=c["blocks"], downsample_padding=0 if c["asymmetric_pad"] else 1,
        downsample_type=kind, upsample_type=kind, act_fn="silu", attention_head_dim=c["head_width"] or None, norm_num_groups=c["groups"],
        attn_norm_num_groups=c["groups"] if c["scale_shift"] else None, norm_eps=c["norm_eps"],
        resnet_time_scale_shift="scale_shift" if c["scale_shift"] else "default", add_attention=True,
        class_embed_type=None, num_class_embeds=c["classes"] + c["null_class"] if c["classes"] else None)


def diffusers_state(net):
    """The tensors under UNet2DModel's names: up_blocks counted from the lowest resolution, q, k and v apart, attention in matrices."""
    c, names, p, out, last = net.c, net.names, net.p, {}, len(net.c["channels"]) - 1

    def move(to, frm, view=lambda x: x):
        for part in ("weight", "bias"):
            out[f"{to}.{part}"] = view(p[f"{frm}.{part}"].detach()).clone()

    def block(to, frm):
        layers = [("norm1", "in_layers.0", "norm1"), ("conv1", "in_layers.2", "conv1"), ("time_emb_proj", "emb_layers.1", "temb_proj"),
                  ("norm2", "out_layers.0", "norm2"), ("conv2", "out_layers.3", "conv2"), ("conv_shortcut", "skip_connection", "nin_shortcut")]
        for theirs, guided, port in layers:
            if f"{frm}.{names.of(guided, port)}.weight" in p:
                move(f"{to}.{theirs}", f"{frm}.{names.of(guided, port)}")

    def attention(to, frm):
        move(f"{to}.group_norm", f"{frm}.norm")
        flat = lambda x: x.flatten(1) if x.dim() > 1 else x
        for i, part in enumerate("qkv"):
            if not names.guided:
                move(f"{to}.to_{part}", f"{frm}.{part}", flat)
            elif c["qkv_order"] == "split":
                move(f"{to}.to_{part}", f"{frm}.qkv", lambda x: flat(x.chunk(3)[i]))
            else:
                heads = c["heads"] or p[f"{frm}.norm.weight"].numel() // c["head_width"]
                move(f"{to}.to_{part}", f"{frm}.qkv", lambda x: flat(x.reshape(heads, 3, -1, *x.shape[1:])[:, i].flatten(0, 1)))
        move(f"{to}.to_out.0", f"{frm}.proj_out", flat)

    move("time_embedding.linear_1", names.of("time_embed.0", "temb.dense.0"))
    move("time_embedding.linear_2", names.of("time_embed.2", "temb.dense.1"))
    if c["classes"]:
        out["class_embedding.weight"] = p["label_emb.weight"].detach().clone()
    move("conv_in", names.of("input_blocks.0.0", "conv_in"))
    for way, count in (("down", c["blocks"]), ("up", c["blocks"] + 1)):
        for level in range(last + 1):
            to = f"{way}_blocks.{level if way == 'down' else last - level}"
            for index in range(count):
                block(f"{to}.resnets.{index}", names.block(way, level, index))
                if level in c["attention"]:
                    attention(f"{to}.attentions.{index}", names.attention(way, level, index))
            if level == (last if way == "down" else 0):
                continue
            frm = names.resampler(way, level)
            if c["resample_blocks"]:
                block(f"{to}.{way}samplers.0", frm)
            else:
                move(f"{to}.{way}samplers.0.conv", f"{frm}.{names.of('op', 'conv') if way == 'down' else 'conv'}")
    for index in range(2):
        block(f"mid_block.resnets.{index}", names.block("mid", 0, index))
    attention("mid_block.attentions.0", names.attention("mid", 0, 0))
    move("conv_norm_out", names.of("out.0", "norm_out"))
    move("conv_out", names.of("out.2", "conv_out"))
    return out


def agree_with_diffusers(net, x, t, labels, y):
    """UNet2DModel's state_dict with our weights, or None for what it cannot be."""
    c = net.c
    if c["time_rescale"] or (c["heads"] > 1 and len(c["channels"]) > 1):
        return None  # it has neither: heads by width only
    model, state = diffusers_model(c), diffusers_state(net)
    print(model.load_state_dict(state, strict=True))
    with torch.no_grad():
        theirs = model.double().eval()(x.double(), t, class_labels=labels).sample
    error = relative(theirs, y)
    print("diffusers:", error)
    assert error < 1e-6, error  # its sinusoids are in float32
    return model.float().state_dict()


# ---- Files ---------------------------------------------------------------------------------------------------------------------------


def relative(a, b):
    a, b = a.double().flatten(), b.double().flatten()
    return ((a - b).norm() / b.norm()).item() if b.norm() > 0 else (a - b).norm().item()


def results(net, dtype, x, t, labels, target):
    twin = net.to(dtype)
    y = twin(x.to(dtype), t, labels)
    loss = F.mse_loss(y, target.to(dtype))
    loss.backward()
    # What k's bias adds to a row of scores is the same for all of them, and softmax does not see it: its gradient is rounding.
    grads = {k: v.grad * (not k.endswith(".k.bias")) for k, v in twin.p.items()}
    return {"y.eval": y.detach(), "loss.eval.l2": loss.detach()} | {f"grad.eval.l2.{k}": v for k, v in grads.items()}


def metadata_of(config):
    model = {"network": config["kind"], "model": config, "height": 0, "width": 0, "preset": "", "beta_first": 1e-4, "beta_last": 0.02}
    return {"lunette.model": json.dumps(model)}


def make(folder, name, with_diffusers):
    config, batch, height, width = CASES[name]
    torch.manual_seed(sum(name.encode()))
    net = Unet(config)
    channels = config["image_channels"]
    x, t = torch.randn(batch, channels, height, width), torch.randint(0, config["steps"], (batch,))
    target = torch.randn(batch, channels * (1 + config["learned_sigma"]), height, width)
    labels = torch.randint(0, config["classes"] + config["null_class"], (batch,)) if config["classes"] else None
    truth, single = (results(net, d, x, t, labels, target) for d in (torch.float64, torch.float32))
    metadata = {"torch": torch.__version__, "float32.y": f"{relative(single['y.eval'], truth['y.eval']):.3g}"}
    worst = max((relative(single[k], truth[k]), k) for k in truth if k.startswith("grad."))
    metadata["float32.worst"] = f"{worst[0]:.3g} {worst[1]}"
    print(name, sum(v.numel() for v in net.p.values()), "parameters", metadata)
    inputs = {"x": x, "t": t, "target": target} | ({"labels": labels} if labels is not None else {})
    if with_diffusers:
        theirs = agree_with_diffusers(net, x, t, labels, truth["y.eval"])
        if theirs:
            save_file({k: v.contiguous() for k, v in theirs.items()}, f"{folder}/{name}.diffusers.safetensors", metadata_of(config))
    save_file({k: v.contiguous() for k, v in net.p.items()}, f"{folder}/{name}.model.safetensors", metadata_of(config))
    save_file(inputs, f"{folder}/{name}.in.safetensors")
    save_file({k: v.float().contiguous() for k, v in truth.items()}, f"{folder}/{name}.out.safetensors", metadata)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder")
    p.add_argument("--no-diffusers", action="store_true")
    args = p.parse_args()
    torch.set_num_threads(1)
    os.makedirs(args.folder, exist_ok=True)
    for name in CASES:
        make(args.folder, name, not args.no_diffusers)


if __name__ == "__main__":
    main()
