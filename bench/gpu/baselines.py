"""PyTorch beside heddle: dense attention (flash, cuDNN), FlexAttention with the union of the branches as its mask, and torchscale's
pipeline (gather, flash attention of each branch, scatter, mix). A contender that cannot run says why in its result."""

import argparse
import json
import math

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

PAPER = dict(name="paper_32k", heads=12, dim=64, segments=[2048, 4096, 8192, 16384, 32768], dilations=[1, 2, 4, 6, 12])
GIGAPATH = dict(
    name="gigapath", heads=16, dim=48, segments=[1024, 5792, 32768, 185363, 1048576], dilations=[1, 2, 4, 8, 16]
)
TINY = dict(name="tiny", heads=2, dim=32, segments=[64, 128], dilations=[1, 2])


def timed(work, rounds):
    for _ in range(3):
        work()
    torch.cuda.synchronize()
    times = []
    for _ in range(rounds):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        work()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return sorted(times)[len(times) // 2]


def dense(backend):
    def make(q, k, v, spec, causal):
        a, b, c = (x.transpose(1, 2) for x in (q, k, v))

        def work():
            with sdpa_kernel(backend):
                F.scaled_dot_product_attention(a, b, c, is_causal=causal)

        return work

    return make


def flex(q, k, v, spec, causal):
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    n, heads = q.shape[1], q.shape[2]

    def union(b, h, i, j):
        held = i < 0
        for w, r in zip(spec["segments"], spec["dilations"]):
            w = min(w, n)
            offset = h // math.ceil(heads / r)
            held = held | ((i // w == j // w) & ((i % w) % r == offset) & ((j % w) % r == offset))
        return held & (i >= j) if causal else held

    mask = create_block_mask(union, 1, heads, n, n, _compile=True)
    call = torch.compile(flex_attention)
    a, b, c = (x.transpose(1, 2) for x in (q, k, v))
    return lambda: call(a, b, c, block_mask=mask)


def branch(q, k, v, w, r, causal):
    """One branch as torchscale does it: rows are gathered, attended and scattered back. Gives out and its log-sum-exp."""
    n, heads, dim = q.shape[1:]
    w = min(w, n)
    segments = math.ceil(n / w)
    per = math.ceil(w / r)
    head = torch.arange(heads, device=q.device)
    offset = head // math.ceil(heads / r)

    def gather(x):
        x = F.pad(x, (0, 0, 0, 0, 0, segments * w - n)).view(segments, w, heads, dim)
        x = F.pad(x, (0, 0, 0, 0, 0, per * r - w)).view(segments, per, r, heads, dim)
        return x[:, :, offset, head].transpose(1, 2).contiguous()

    o, lse = torch.ops.aten._scaled_dot_product_flash_attention(gather(q), gather(k), gather(v), 0.0, causal)[:2]
    out = q.new_zeros(segments, per, r, heads, dim)
    out[:, :, offset, head] = o.transpose(1, 2)
    full = lse.new_full((segments, per, r, heads), -1e8)
    full[:, :, offset, head] = lse.transpose(1, 2)[:, :per]
    out = out.view(segments, per * r, heads, dim)[:, :w].reshape(segments * w, heads, dim)[:n]
    full = full.view(segments, per * r, heads)[:, :w].reshape(segments * w, heads)[:n]
    return out, full


def torchscale(q, k, v, spec, causal):
    def work():
        parts = [branch(q, k, v, w, r, causal) for w, r in zip(spec["segments"], spec["dilations"])]
        lses = torch.stack([lse for _, lse in parts])
        weights = torch.softmax(lses, 0).to(q.dtype)
        out = torch.zeros_like(q[0])
        for (o, _), weight in zip(parts, weights):
            out += o * weight[..., None]
        return out

    return work


CONTENDERS = {
    "dense flash": dense(SDPBackend.FLASH_ATTENTION),
    "dense cuDNN": dense(SDPBackend.CUDNN_ATTENTION),
    "FlexAttention": flex,
    "torchscale": torchscale,
}
# Dense attention over a million tokens takes minutes.
LONGEST = {"dense flash": 131072, "dense cuDNN": 131072, "FlexAttention": 131072}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", required=True)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    works = [(TINY, [200])] if options.quick else [(PAPER, [32768, 131072, 1048576]), (GIGAPATH, [10000, 65536, 1048576])]
    rounds = 3 if options.quick else 15
    results = []
    for spec, lengths in works:
        for n in lengths:
            for name, dtype in (("f16", torch.float16), ("bf16", torch.bfloat16)):
                for causal in (False, True):
                    torch.manual_seed(1)
                    q, k, v = (
                        torch.randn(1, n, spec["heads"], spec["dim"], device="cuda", dtype=dtype) for _ in range(3)
                    )
                    for contender, make in CONTENDERS.items():
                        about = dict(name=spec["name"], length=n, dtype=name, causal=causal, contender=contender)
                        if n > LONGEST.get(contender, n):
                            continue
                        try:
                            with torch.no_grad():
                                results.append(dict(about, ms=timed(make(q, k, v, spec, causal), rounds)))
                        except Exception as error:
                            results.append(dict(about, error=f"{type(error).__name__}: {error}"[:300]))
                            torch.cuda.empty_cache()
                        print(json.dumps(results[-1]), flush=True)
    with open(options.out, "w") as file:
        json.dump(dict(torch=torch.__version__, gpu=torch.cuda.get_device_name(), results=results), file, indent=2)


main()
