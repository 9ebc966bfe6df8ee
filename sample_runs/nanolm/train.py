"""nanolm: a byte-level GPT and its training, in one file that reads from top to bottom.

    python train.py --seed 0 --steps 300 --data DIR --out RUN_DIR --metrics RUN_DIR/metrics.jsonl

Notable choices
- Bytes are the tokens, so that there is no tokenizer to argue about and losses are bits per byte.
- Pre-norm transformer: LayerNorm, GELU, learned positions, separate input and output embeddings, biases everywhere.
- AdamW written out in ten lines, one learning rate for everything, the same weight decay for everything.
- A budget is a number of steps; the schedule stretches to it. Equal steps are equal tokens.
- Every parameter is initialised by a generator keyed on its name and the seed. A change that adds a layer leaves all
  other parameters as they were, and the data order too (data.py): pairs of runs with one seed stay comparable.
- With one seed, one machine and one thread count, the loss is the same to the last bit.

What the lab relies on: the arguments above; metrics as JSON lines; `half.safetensors` and `final.safetensors` in --out;
`load` and `log_probs` for the referee; exit code 3 when the loss is no longer finite.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import json
import math
import os
import resource
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

import data  # isort: skip (the lab's own, whatever directory the linter starts from)

NONFINITE_EXIT = 3


@dataclass(frozen=True)
class Config:
    """Everything that a run can be told, apart from its seed and its budget."""

    vocabulary: int = data.VOCABULARY
    context: int = data.CONTEXT  # bytes; longest window the model takes
    width: int = 64  # residual stream
    layers: int = 2
    heads: int = 4
    mlp_ratio: int = 4  # hidden width of the MLP over the width
    init_std: float = 0.02  # of every matrix

    batch: int = 8  # windows a step
    rate: float = 5e-4  # peak learning rate
    warmup: float = 0.1  # share of the steps over which the rate rises from 0
    final_rate: float = 1.0  # rate at the last step over the peak rate
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.1
    clip: float = 1.0  # largest norm of the whole gradient


# --- the model


class Attention(nn.Module):
    """Causal self-attention with several heads."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(batch, length, width))


class MLP(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.up = nn.Linear(config.width, config.mlp_ratio * config.width)
        self.down = nn.Linear(config.mlp_ratio * config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x)))


class Block(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.width)
        self.attention = Attention(config)
        self.mlp_norm = nn.LayerNorm(config.width)
        self.mlp = MLP(config)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class GPT(nn.Module):
    """Bytes in, logits of the next byte out: [batch, length] to [batch, length, vocabulary]."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Embedding(config.context, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.final_norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) + self.positions.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.final_norm(x))

    def flops_per_token(self) -> int:
        """Floating point operations of a forward and backward pass, a token (Kaplan et al., 2020; with attention)."""
        looked_up = self.embedding.weight.numel() + self.positions.weight.numel()
        multiplied = sum(parameter.numel() for parameter in self.parameters()) - looked_up
        attention = 2 * self.config.layers * self.config.context * self.config.width
        return 6 * (multiplied + attention)


@contextlib.contextmanager
def unfilled() -> Iterator[None]:
    """Layers that are made inside draw no random numbers: every parameter is filled afterwards, and a layer more or less
    must not shift what is drawn later."""
    kinds = {kind: kind.reset_parameters for kind in (nn.Linear, nn.Embedding)}
    for kind in kinds:
        kind.reset_parameters = lambda self: None
    try:
        yield
    finally:
        for kind, own in kinds.items():
            kind.reset_parameters = own


def initialise(model: nn.Module, seed: int, config: Config) -> None:
    """Fill every parameter from a generator of its own, keyed on its name and the seed."""
    for name, parameter in model.named_parameters():
        key = hashlib.sha256(f"{seed} {name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(key[:7], "big"))
        with torch.no_grad():
            parameter.copy_(initial(name, parameter.shape, config, generator))


def initial(name: str, shape: torch.Size, config: Config, generator: torch.Generator) -> Tensor:
    """The first value of one parameter: matrices normal, gains 1, biases 0."""
    if len(shape) >= 2:
        return torch.randn(shape, generator=generator) * config.init_std
    return torch.zeros(shape) if name.endswith("bias") else torch.ones(shape)


# --- the optimizer


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019), over parameters by name."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], config: Config) -> None:
        self.config = config
        self.parameters = dict(parameters)
        self.mean = {name: torch.zeros_like(parameter) for name, parameter in self.parameters.items()}
        self.square = {name: torch.zeros_like(parameter) for name, parameter in self.parameters.items()}
        self.steps = 0

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One update with learning rate `rate`; gradients are used up."""
        config = self.config
        self.steps += 1
        for name, parameter in self.parameters.items():
            gradient = parameter.grad
            if gradient is None:
                continue
            mean = self.mean[name].lerp_(gradient, 1 - config.beta1)
            square = self.square[name].lerp_(gradient.square(), 1 - config.beta2)
            scale = (square / (1 - config.beta2**self.steps)).sqrt() + config.epsilon
            parameter.mul_(1 - rate * config.weight_decay)
            parameter.sub_(rate / (1 - config.beta1**self.steps) * mean / scale)
            parameter.grad = None


def rate_at(step: int, steps: int, config: Config) -> float:
    """Learning rate of step `step` (from 1) of `steps`: a linear rise, then a line from the peak to the final rate."""
    done = step / steps
    if done < config.warmup:
        return config.rate * done / config.warmup
    left = (1 - done) / (1 - config.warmup)
    return config.rate * (config.final_rate + (1 - config.final_rate) * left)


# --- checkpoints, and what the referee calls


def save(model: GPT, path: Path) -> None:
    """Write all parameters, and the config that shapes them, under a temporary name first."""
    tensors = {name: parameter.detach().cpu().contiguous() for name, parameter in model.named_parameters()}
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={"config": json.dumps(asdict(model.config))})
    partial.replace(path)


def load(checkpoint: Path) -> GPT:
    """The model of a checkpoint, on this machine's device, ready to score. Raises ValueError when it does not fit."""
    with safe_open(checkpoint, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
        with unfilled():
            model = GPT(Config(**json.loads(file.metadata()["config"])))
    parameters = dict(model.named_parameters())
    if parameters.keys() != tensors.keys():
        raise ValueError(f"{checkpoint.name} and train.py differ in {sorted(parameters.keys() ^ tensors.keys())}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])
    return model.to(device()).eval()


@torch.no_grad()
def log_probs(model: GPT, tokens: Tensor) -> Tensor:
    """Log-probabilities (nats) of every next byte after each prefix: [batch, length] to [batch, length, vocabulary]."""
    return F.log_softmax(model(tokens).float(), dim=-1)


# --- measurements


class Metrics:
    """Appends JSON lines, each in one write, so that a reader never sees half a line of ours."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write(self, line: Mapping[str, object]) -> None:
        os.write(self._file, json.dumps(line).encode() + b"\n")


def peak_memory(where: torch.device) -> int:
    """Bytes that this process has held at most: on the accelerator, or else in main memory."""
    if where.type == "cuda":
        return torch.cuda.max_memory_allocated()
    if where.type == "mps":
        return torch.mps.driver_allocated_memory()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def dev_bits_per_byte(model: GPT, folder: Path, windows: int = 32) -> float:
    """Bits per byte on the dev split by the score's weights. Reported by the run itself; the referee's number counts."""
    model.eval()
    total = 0.0
    for source, weight in data.SCORE_WEIGHTS.items():
        tokens = as_tokens(b"".join(data.windows(folder, "dev", source, windows)), data.CONTEXT + 1)
        scores = log_probs(model, tokens[:, :-1]).gather(2, tokens[:, 1:, None])
        total += weight * -scores.cpu().double().mean().item() / math.log(2)
    model.train()
    return total


# --- training


@functools.cache
def device() -> torch.device:
    """The accelerator where there is one. Asked for when first needed, never on import."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def as_tokens(batch: bytes, length: int) -> Tensor:
    """Rows of `length` bytes as a matrix of token ids on the device."""
    return torch.frombuffer(bytearray(batch), dtype=torch.uint8).view(-1, length).to(device(), torch.long)


def train(seed: int, steps: int, folder: Path, out: Path, metrics: Metrics, config: Config) -> None:
    """One run from scratch. Raises FloatingPointError when the loss stops being finite."""
    where = device()
    (torch.default_generator if where.type == "cpu" else torch).manual_seed(
        seed
    )  # torch's own would look for accelerators
    with unfilled():
        model = GPT(config)
    initialise(model, seed, config)
    model.to(where)
    mix = data.load_mix(Path(__file__).with_name("mix.toml"))
    batches = data.Batches(folder, mix, seed, config.batch, config.context)
    optimizer = AdamW(dict(model.named_parameters()), config)
    tokens_a_step = config.batch * config.context
    size = sum(parameter.numel() for parameter in model.parameters())
    declared = {"steps": steps, "tokens": steps * tokens_a_step, "parameters": size, "device": where.type}
    metrics.write({"summary": {**declared, "flops_per_token": model.flops_per_token()}})

    times = []
    probe = None
    for step in range(1, steps + 1):
        if step == 2:  # the first step comes as soon as it can, and needs nobody to look at it
            import probes

            probe = probes.Probe(model, out)
        if probe:
            probe.before(step)
        began = time.perf_counter()
        tokens = as_tokens(batches.next(), config.context + 1)
        logits = model(tokens[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        rate = rate_at(step, steps, config)
        optimizer.step(rate)
        value, norm_value = loss.item(), norm.item()  # waits for the device, so that the time is the step's own
        times.append(time.perf_counter() - began)
        point = {"step": step, "loss": value, "grad_norm": norm_value, "lr": rate}
        looked = probe.after(step) if probe else {}
        metrics.write({**point, "tokens_per_s": round(tokens_a_step / times[-1], 1), **looked})
        if step == 1:
            metrics.write({"summary": {"first_loss": value}})
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss is {value} at step {step} of {steps}")
        if step % 25 == 0 or step == steps:
            print(f"step {step}/{steps} loss {value:.4f} grad_norm {norm_value:.3f} lr {rate:.2e}", flush=True)
        if step == steps // 2:
            save(model, out / "half.safetensors")

    save(model, out / "final.safetensors")
    if probe:
        metrics.write({"summary": probe.summary()})
    seen = {"tokens": steps * tokens_a_step, "data_order": batches.fingerprint, "peak_memory": peak_memory(where)}
    sources = {f"source_tokens.{name}": size for name, size in batches.source_tokens.items()}
    metrics.write({"summary": {**seen, **sources, "step_time": statistics.median(times)}})
    reported = dev_bits_per_byte(model, folder)
    metrics.write({"summary": {"val_bpb": reported}})
    print(f"dev: {reported:.4f} bits per byte (self-reported)", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Train nanolm once.")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True, help="budget: updates of the parameters")
    parser.add_argument("--data", type=Path, required=True, help="what prepare.py wrote to --open")
    parser.add_argument("--out", type=Path, required=True, help="directory for checkpoints")
    parser.add_argument("--metrics", type=Path, required=True, help="file to append JSON lines to")
    parser.add_argument("--rate-scale", type=float, default=1.0, help="what the learning rate is multiplied by")
    parser.add_argument("--threads", type=int, default=int(os.environ.get("OMP_NUM_THREADS") or 1))
    arguments = parser.parse_args()
    if arguments.steps < 1:
        parser.error("--steps must be 1 or more")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it, CUDA's matrix products may vary
    torch.set_num_threads(arguments.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    metrics = Metrics(arguments.metrics)
    try:
        config = Config()
        config = replace(config, rate=config.rate * arguments.rate_scale)
        train(arguments.seed, arguments.steps, arguments.data, arguments.out, metrics, config)
    except FloatingPointError as error:
        print(f"non-finite: {error}", file=sys.stderr, flush=True)
        return NONFINITE_EXIT
    return 0


if __name__ == "__main__":
    sys.exit(main())
