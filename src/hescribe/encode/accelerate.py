"""Run a network on patches by the fastest way that is faithful on this machine and these data.

A way is taken only if its embeddings of a probe batch agree with plain float32: cosine at least 0.9999 on
average and 0.999 for each patch. The order is fixed by what the machine has and not by a race, so that the
same machine always takes the same way.
"""

import importlib.util
import json
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np

from hescribe.cards import EncoderCard

if TYPE_CHECKING:
    import torch

Run = Callable[[np.ndarray], np.ndarray]
N_PROBE = 8  # patches
MEAN_COSINE, MIN_COSINE = 0.9999, 0.999
N_DESCRIBED = 16
N_HELD = 2  # networks held in memory at once


class Network(NamedTuple):
    """A network and the scaling of its pixels.

    Parameters
    ----------
    module
        Maps float32 ``(n, 3, px, px)`` to ``(n, n_dims)``, in evaluation mode.
    px
        Side of its input.
    mean, std
        Per channel, in pixel levels (0 to 255).
    """

    module: "torch.nn.Module"
    px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@runtime_checkable
class NetworkEncoder(Protocol):
    """An encoder that is a network."""

    name: ClassVar[str]

    @property
    def card(self) -> EncoderCard:
        """Facts about the encoder."""
        ...

    def network(self) -> Network:
        """Return the network with its weights loaded."""
        ...

    def get_params(self) -> dict[str, Any]:
        """Return the hyper-parameters."""
        ...


class Trial(NamedTuple):
    """One way and what became of it on the probe batch; it may be used if ``reason`` is empty."""

    backend: str
    run: Run
    reason: str = ""
    cosine_mean: float = math.nan
    cosine_min: float = math.nan


def encode(encoder: NetworkEncoder, patches: np.ndarray) -> np.ndarray:
    """Return the embeddings of the patches.

    Parameters
    ----------
    encoder
        Its network is loaded, and its way chosen on these patches, at the first call in a process.
    patches
        Shape ``(n, px, px, 3)`` uint8.

    Returns
    -------
    Shape ``(n, n_dims)`` float32.
    """
    if not len(patches):
        return np.empty((0, encoder.card.n_dims), np.float32)
    key = _key(encoder)
    with _lock:
        if key not in _chosen:
            trials = try_ways(encoder.network(), probe(patches))
            _chosen[key] = next(trial for trial in trials if not trial.reason)
        _chosen.move_to_end(key)
        while len(_chosen) > N_HELD:
            _chosen.popitem(last=False)
        return _chosen[key].run(patches)


def backend(encoder: object) -> str:
    """Return the way the last embeddings of an encoder took, ``"numpy"`` if it is no network."""
    if not isinstance(encoder, NetworkEncoder):
        return "numpy"
    chosen = _chosen.get(_key(encoder))
    return chosen.backend if chosen else "not chosen yet"


def describe() -> list[dict[str, Any]]:
    """Say of every encoder whether it can run now, by which way, and how fast; nothing is downloaded.

    Returns
    -------
    One dict per encoder and way: ``encoder``, ``backend``, ``used``, ``reason`` (why not, empty if usable),
    ``images_per_s``, ``cosine_mean`` and ``cosine_min`` (None where nothing was run).
    """
    from hescribe.encode.base import encoders  # noqa: PLC0415 - its components import this module

    rows = []
    for name in encoders:
        encoder: Any = encoders.create(name)
        for variant in encoder.variants() if hasattr(encoder, "variants") else [encoder]:
            if hasattr(variant, "missing"):
                said = variant.missing()
                rows.append(_row(f"{name}({variant.model})", "chosen at first use", reason=said))
                continue
            patches = _coarse_noise(N_DESCRIBED, variant.card.px)
            if isinstance(variant, NetworkEncoder):
                rows += describe_ways(variant, patches)
            else:
                rows.append(_row(name, "numpy", used=True, rate=_images_per_s(variant.encode, patches)))
    return rows


def describe_ways(encoder: NetworkEncoder, patches: np.ndarray) -> list[dict[str, Any]]:
    """Try every way of this machine on some patches; rows as in ``describe``, the fastest way first.

    Parameters
    ----------
    patches
        Shape ``(n, px, px, 3)`` uint8; 16 are enough to measure.
    """
    rows: list[dict[str, Any]] = []
    for trial in try_ways(encoder.network(), probe(patches)):
        ran = math.isfinite(trial.cosine_mean)
        used = not trial.reason and not any(row["used"] for row in rows)
        rate = _images_per_s(trial.run, patches) if ran else None
        cosines = (trial.cosine_mean, trial.cosine_min) if ran else (None, None)
        rows.append(_row(encoder.card.name, trial.backend, used=used, reason=trial.reason, rate=rate, cosines=cosines))
    return rows


def try_ways(network: Network, patches: np.ndarray) -> Iterator[Trial]:
    """Yield the ways to run a network on this machine, the fastest first, each tried on a probe batch.

    The order was measured once (benchmarks/encode.py). The last one is the reference and always usable.
    """
    from hescribe.encode import _backends  # noqa: PLC0415 - heavy

    reference = _backends.plain(network)
    expected = reference(patches)
    no_gpu, no_bf16, no_openvino = _missing()
    for name, build, missing in (
        ("cuda fp16", _backends.cuda_fp16, no_gpu),
        ("cuda fp32", _backends.cuda_fp32, no_gpu),
        ("openvino bf16", _backends.openvino_bf16, no_openvino or no_bf16),
        ("torch bf16 channels last", _backends.torch_bf16, no_bf16),
        ("openvino fp32", _backends.openvino_fp32, no_openvino),
        ("torch fp32 channels last", _backends.torch_fp32, ""),
    ):
        yield Trial(name, reference, missing) if missing else _try(name, build, network, patches, expected)
    yield Trial("torch fp32", reference, "", 1.0, 1.0)


def _try(
    name: str, build: Callable[[Network], Run], network: Network, patches: np.ndarray, expected: np.ndarray
) -> Trial:
    try:
        run = build(network)
        mean, least = agreement(run(patches), expected)
    except Exception as error:  # noqa: BLE001 - a compiler may refuse a network in any way, and there are other ways
        said = str(error).strip().splitlines() or [type(error).__name__]
        return Trial(name, _refuse, f"failed: {said[-1]}")
    faithful = mean >= MEAN_COSINE and least >= MIN_COSINE
    return Trial(name, run, "" if faithful else f"cosine to fp32 {mean:.5f}, least {least:.5f}", mean, least)


def _refuse(_: np.ndarray) -> np.ndarray:
    raise AssertionError  # a way that failed is never run


def agreement(found: np.ndarray, expected: np.ndarray) -> tuple[float, float]:
    """Return the mean and the least cosine between the rows of two arrays, nan if one is not finite.

    Examples
    --------
    >>> agreement(np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[3.0, 0.0], [0.0, 1.0]]))
    (1.0, 1.0)
    """
    x, y = found.astype(np.float64), expected.astype(np.float64)
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    cosine = (x * y).sum(axis=1) / np.maximum(norms, np.finfo(np.float64).tiny)
    return float(cosine.mean()), float(cosine.min())


def probe(patches: np.ndarray) -> np.ndarray:
    """Return up to eight of the patches, evenly spread."""
    rows = np.unique(np.linspace(0, len(patches) - 1, N_PROBE).astype(int))
    return np.asarray(patches[rows])


def _missing() -> tuple[str, str, str]:
    """Return why there is no GPU, no bfloat16 on the processor, no OpenVINO; empty where there is."""
    import torch  # noqa: PLC0415 - heavy

    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        flags = set()
    return (
        "" if torch.cuda.is_available() else "no GPU",
        "" if flags & {"avx512_bf16", "amx_bf16", "bf16"} else "the processor has no bfloat16",
        "" if importlib.util.find_spec("openvino") else "not installed (pip install 'hescribe[cpu]')",
    )


def _images_per_s(run: Run, patches: np.ndarray) -> float:
    started = time.perf_counter()
    run(patches)
    return len(patches) / (time.perf_counter() - started)


def _row(
    encoder: str,
    backend: str,
    *,
    used: bool = False,
    reason: str = "",
    rate: float | None = None,
    cosines: tuple[float | None, float | None] = (None, None),
) -> dict[str, Any]:
    return {
        "encoder": encoder,
        "backend": backend,
        "used": used,
        "reason": reason,
        "images_per_s": rate,
        "cosine_mean": cosines[0],
        "cosine_min": cosines[1],
    }


def _coarse_noise(n: int, px: int) -> np.ndarray:
    """Return patches of random blocks in the colours of H&E."""
    blocks = np.random.default_rng(0).normal((200, 150, 190), 30, (n, 14, 14, 3)).clip(0, 255).astype(np.uint8)
    side = -(-px // 14)
    return blocks.repeat(side, axis=1).repeat(side, axis=2)[:, :px, :px]


def _key(encoder: NetworkEncoder) -> str:
    return json.dumps([encoder.name, encoder.get_params()])


_chosen: OrderedDict[str, Trial] = OrderedDict()  # by encoder and parameters, the last used at the end
_lock = Lock()
