"""What a user would pick instead, on the processor: PyTorch (torchscale's pipeline, dense attention, FlexAttention) and onnxruntime.

Driven line by line, JSON in and out, so that every contender runs in the same interleaved rounds (bench/peers.mjs):
  {"op": "versions"}
  {"op": "attention", "id", "n", "heads", "dim", "causal", "segments", "dilations", "offsets", "files": {"q", "k", "v"}}
      -> {"contenders": [{"name", "same", "error"}]}; files hold raw f32 [n, heads, dim]; `same`: computes what heddle computes
  {"op": "run", "id", "contender", "threads"} -> {"ns"}
  {"op": "output", "id", "contender", "path"}: writes raw f32 [n, heads, dim] of the last run
  {"op": "drop", "id"}
Whatever is not installed says so in `error`, once for each contender.
"""

import json
import math
import sys
import time

import numpy as np

try:
    import torch
    import torch.nn.functional as F
except ImportError as error:
    torch = None
    TORCH_ERROR = f"PyTorch: {error}"
try:
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper
except ImportError as error:
    onnxruntime = None
    ORT_ERROR = f"onnxruntime: {error}"


def indices(n, segment, dilation, offset, heads):
    """Rows of each segment's grid for each head, and which of them are tokens: [segments, slots, heads]."""
    w = min(segment, n)
    segments, slots = math.ceil(n / w), math.ceil(w / dilation)
    s = np.arange(segments)[:, None, None]
    m = np.arange(slots)[None, :, None]
    t = m * dilation + np.asarray(offset)[None, None, :heads]
    rows = s * w + t
    return rows, (t < w) & (rows < n)


class TorchPipeline:
    """Gather, attend, scatter, mix: torchscale's dilated_attention.py with the lse of PyTorch's own flash attention for CPUs."""

    def __init__(self, q, k, v, spec):
        self.q, self.k, self.v, self.spec = q, k, v, spec
        self.branches = []
        for b, (w, r) in enumerate(zip(spec["segments"], spec["dilations"])):
            rows, real = indices(spec["n"], w, r, spec["offsets"][b], spec["heads"])
            # [segments, heads, slots]; a slot without a token reads some row, is written to a row of nobody, and no key
            rows, real = (np.ascontiguousarray(x.transpose(0, 2, 1)) for x in (rows, real))
            mask = None
            if not real.all() and not spec["causal"]:
                # Under a causal mask such a slot comes after all others.
                mask = torch.from_numpy(np.where(real, 0, -np.inf).astype(np.float32)[:, :, None, :])
                mask = mask.expand(-1, -1, rows.shape[2], -1).contiguous()
            to = torch.from_numpy(np.where(real, rows, spec["n"]))
            self.branches.append((torch.from_numpy(np.where(real, rows, 0)), to, mask))
        self.head = torch.arange(spec["heads"])[None, :, None]

    def __call__(self):
        outs, lses = [], []
        n, heads, dim = self.q.shape
        for rows, to, mask in self.branches:
            q, k, v = (x[rows, self.head] for x in (self.q, self.k, self.v))
            o, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                q, k, v, 0.0, self.spec["causal"], attn_mask=mask
            )
            out = q.new_zeros(n + 1, heads, dim)
            out[to, self.head] = o
            full = lse.new_full((n + 1, heads), -1e8)
            full[to, self.head] = lse.reshape(rows.shape)
            outs.append(out[:n])
            lses.append(full[:n])
        weights = torch.softmax(torch.stack(lses), 0)
        mixed = torch.zeros_like(self.q)
        for out, weight in zip(outs, weights):
            mixed += out * weight[..., None]
        return mixed


class TorchDense:
    def __init__(self, q, k, v, spec):
        self.args = [x.transpose(0, 1)[None].contiguous() for x in (q, k, v)]
        self.causal = spec["causal"]

    def __call__(self):
        return F.scaled_dot_product_attention(*self.args, is_causal=self.causal)[0].transpose(0, 1)


class TorchFlex:
    """The union of the branches' keys, each with the logarithm of how many branches hold it: the same softmax as heddle's."""

    def __init__(self, q, k, v, spec):
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        n, heads = spec["n"], spec["heads"]
        offsets = torch.tensor(spec["offsets"])
        branches = list(zip(spec["segments"], spec["dilations"]))

        def held(h, i, j):
            count = 0
            for b, (w, r) in enumerate(branches):
                w = min(w, n)
                o = offsets[b][h]
                count = count + ((i // w == j // w) & ((i % w) % r == o) & ((j % w) % r == o)).to(torch.int32)
            return count

        def mask(b, h, i, j):
            some = held(h, i, j) > 0
            return some & (i >= j) if spec["causal"] else some

        def score(s, b, h, i, j):
            return s + torch.log(held(h, i, j).to(torch.float32))

        self.mask = create_block_mask(mask, 1, heads, n, n, device="cpu")
        self.args = [x.transpose(0, 1)[None].contiguous() for x in (q, k, v)]
        self.score = score
        self.call = torch.compile(flex_attention)

    def __call__(self):
        return self.call(*self.args, score_mod=self.score, block_mask=self.mask)[0].transpose(0, 1)


class OnnxPipeline:
    """Gather, plain operators, scatter, mix, as a graph of one session for each number of threads."""

    def __init__(self, q, k, v, spec):
        n, heads, dim = spec["n"], spec["heads"], spec["dim"]
        nodes, constants = [], []

        def constant(name, value):
            constants.append(numpy_helper.from_array(np.asarray(value), name))
            return name

        def op(kind, inputs, output, **attributes):
            nodes.append(helper.make_node(kind, inputs, [output], **attributes))
            return output

        scale = constant("scale", np.float32(1 / math.sqrt(dim)))
        last = constant("last", np.array([3], np.int64))
        outs, lses = [], []
        for b, (w, r) in enumerate(zip(spec["segments"], spec["dilations"])):
            rows, real = indices(n, w, r, spec["offsets"][b], heads)
            segments, slots, _ = rows.shape
            rows, real = rows.transpose(0, 2, 1), real.transpose(0, 2, 1)
            flat = rows * heads + np.arange(heads)[None, :, None]
            at = constant(f"rows{b}", np.where(real, flat, 0).astype(np.int64))
            gathered = {x: op("Gather", [x, at], f"{x}{b}", axis=0) for x in "qkv"}
            keys = op("Transpose", [gathered["k"]], f"kt{b}", perm=[0, 1, 3, 2])
            scaled = op("Mul", [gathered["q"], scale], f"qs{b}")
            s = op("MatMul", [scaled, keys], f"s{b}")
            if spec["causal"]:
                bias = np.triu(np.full((slots, slots), -1e30, np.float32), 1)
                s = op("Add", [s, constant(f"bias{b}", bias)], f"masked{b}")
            elif not real.all():
                bias = np.where(real, 0, -1e30).astype(np.float32)[:, :, None, :]
                s = op("Add", [s, constant(f"real{b}", bias)], f"masked{b}")
            top = op("ReduceMax", [s, last], f"top{b}", keepdims=1)
            weights = op("Exp", [op("Sub", [s, top], f"less{b}")], f"p{b}")
            total = op("ReduceSum", [weights, last], f"sum{b}", keepdims=1)
            o = op("Div", [op("MatMul", [weights, gathered["v"]], f"pv{b}"), total], f"o{b}")
            lse = op("Add", [op("Log", [total], f"log{b}"), top], f"lse{b}")
            # Slots without a token are written to a row of nobody.
            to = constant(f"to{b}", np.where(real, flat, n * heads).reshape(-1, 1).astype(np.int64))
            empty = constant(f"empty{b}", np.zeros((n * heads + 1, dim), np.float32))
            none = constant(f"none{b}", np.full((n * heads + 1, 1), -1e8, np.float32))
            wide, thin = constant(f"wide{b}", np.array([-1, dim], np.int64)), constant(f"thin{b}", np.array([-1, 1], np.int64))
            outs.append(op("ScatterND", [empty, to, op("Reshape", [o, wide], f"of{b}")], f"out{b}"))
            lses.append(op("ScatterND", [none, to, op("Reshape", [lse, thin], f"lf{b}")], f"full{b}"))
        stacked = op("Concat", lses, "lses", axis=1)
        shares = op("Softmax", [stacked], "shares", axis=1)
        parts = []
        for b, out in enumerate(outs):
            share = op("Gather", [shares, constant(f"b{b}", np.array([b], np.int64))], f"share{b}", axis=1)
            parts.append(op("Mul", [out, share], f"part{b}"))
        whole = op("Sum", parts, "whole")
        first, end = constant("first", np.array([0], np.int64)), constant("end", np.array([n * heads], np.int64))
        op("Slice", [whole, first, end], "mixed")
        shape = [n * heads, dim]
        inputs = [helper.make_tensor_value_info(x, TensorProto.FLOAT, shape) for x in "qkv"]
        graph = helper.make_graph(nodes, "dilated", inputs, [helper.make_tensor_value_info("mixed", TensorProto.FLOAT, shape)], constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
        model.ir_version = 9
        self.bytes = model.SerializeToString()
        self.feed = {x: t.reshape(shape) for x, t in zip("qkv", (q, k, v))}
        self.sessions = {}
        self.threads = 1
        self.shape = (n, heads, dim)

    def __call__(self):
        if self.threads not in self.sessions:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = self.threads
            self.sessions[self.threads] = onnxruntime.InferenceSession(self.bytes, options, providers=["CPUExecutionProvider"])
        return self.sessions[self.threads].run(None, self.feed)[0].reshape(self.shape)


CONTENDERS = [
    ("PyTorch, torchscale's pipeline", TorchPipeline, True, "torch"),
    ("PyTorch, FlexAttention", TorchFlex, True, "torch"),
    ("PyTorch, dense attention", TorchDense, False, "torch"),
    ("onnxruntime, plain operators", OnnxPipeline, True, "onnx"),
]
works, last = {}, {}


def attention(line):
    arrays = [np.fromfile(line["files"][x], np.float32).reshape(line["n"], line["heads"], line["dim"]) for x in "qkv"]
    found = []
    for name, kind, same, library in CONTENDERS:
        error = None
        try:
            if library == "torch":
                if torch is None:
                    raise RuntimeError(TORCH_ERROR)
                args = [torch.from_numpy(x) for x in arrays]
            else:
                if onnxruntime is None:
                    raise RuntimeError(ORT_ERROR)
                args = arrays
            if name in line.get("without", []):
                raise RuntimeError("left out at this length")
            with torch.no_grad():
                work = kind(*args, line)
                works[line["id"], name] = work
                work()
        except Exception as problem:
            works.pop((line["id"], name), None)
            error = f"{type(problem).__name__}: {problem}"[:300]
        found.append(dict(name=name, same=same, error=error))
    return dict(contenders=found)


def run(line):
    key = line["id"], line["contender"]
    work = works[key]
    if isinstance(work, OnnxPipeline):
        if work.threads != line["threads"]:
            work.threads = line["threads"]
            work()
    else:
        torch.set_num_threads(line["threads"])
    with torch.no_grad():
        start = time.perf_counter_ns()
        last[key] = work()
        return dict(ns=time.perf_counter_ns() - start)


def main():
    for text in sys.stdin:
        line = json.loads(text)
        try:
            if line["op"] == "versions":
                answer = dict(
                    torch=None if torch is None else torch.__version__,
                    onnxruntime=None if onnxruntime is None else onnxruntime.__version__,
                    missing=([TORCH_ERROR] if torch is None else []) + ([ORT_ERROR] if onnxruntime is None else []),
                )
            elif line["op"] == "attention":
                answer = attention(line)
            elif line["op"] == "run":
                answer = run(line)
            elif line["op"] == "output":
                out = last[line["id"], line["contender"]]
                np.ascontiguousarray(out.numpy() if hasattr(out, "numpy") else out, dtype=np.float32).tofile(line["path"])
                answer = {}
            elif line["op"] == "drop":
                for table in (works, last):
                    for key in [key for key in table if key[0] == line["id"]]:
                        del table[key]
                answer = {}
            else:
                answer = dict(error=f"unknown op {line['op']}")
        except Exception as problem:
            answer = dict(error=f"{type(problem).__name__}: {problem}"[:300])
        print(json.dumps(answer), flush=True)


main()
