"""The ways to run a network on patches: plain torch, torch in another layout or precision, OpenVINO.

Each builder takes a network and returns a function from patches ``(n, px, px, 3)`` uint8 to embeddings
``(n, n_dims)`` float32. Every call of the network has one fixed shape, so that an embedding does not depend
on how many patches came with it.
"""

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import nn

from hescribe import settings
from hescribe.encode.accelerate import Network

Run = Callable[[np.ndarray], np.ndarray]
CPU_BATCH = 4  # with larger ones the allocator gives memory back to the system after every layer, at 2 times the time
GPU_BATCH = 64


class Scaled(nn.Module):
    """A network that takes uint8 patches ``(n, px, px, 3)``.

    The permuted patches lie in memory as channels_last wants them; ``plain`` copies them to channels first.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: Network, *, plain: bool = False) -> None:
        super().__init__()
        self.module, self.plain = network.module, plain
        self.register_buffer("mean", torch.tensor(network.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(network.std).view(1, 3, 1, 1))

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """Scale the pixels and run the network."""
        x = (patches.permute(0, 3, 1, 2).to(torch.float32) - self.mean) / self.std
        found: torch.Tensor = self.module(x.contiguous() if self.plain else x)
        return found


def plain(network: Network) -> Run:
    """Return the reference: float32 on the processor, channels first."""
    return _torch_run(Scaled(network, plain=True).eval(), CPU_BATCH)


def torch_fp32(network: Network) -> Run:
    """Return float32 on the processor with channels last."""
    return _torch_run(_channels_last(network), CPU_BATCH)


def torch_bf16(network: Network) -> Run:
    """Return bfloat16 on the processor with channels last."""
    return _torch_run(_channels_last(network), CPU_BATCH, lambda: torch.autocast("cpu", dtype=torch.bfloat16))


def cuda_fp16(network: Network) -> Run:
    """Return float16 on the GPU with channels last."""
    return _torch_run(_channels_last(network, "cuda"), GPU_BATCH, lambda: torch.autocast("cuda", dtype=torch.float16))


def cuda_fp32(network: Network) -> Run:
    """Return float32 on the GPU with channels last."""
    return _torch_run(_channels_last(network, "cuda"), GPU_BATCH)


def openvino_bf16(network: Network) -> Run:
    """Return OpenVINO in bfloat16."""
    return _openvino_run(network, "bf16")


def openvino_fp32(network: Network) -> Run:
    """Return OpenVINO in float32."""
    return _openvino_run(network, "f32")


def _channels_last(network: Network, device: str = "cpu") -> nn.Module:
    return Scaled(network).eval().to(torch.device(device)).to(memory_format=torch.channels_last)


def _torch_run(
    module: nn.Module, batch: int, precision: Callable[[], AbstractContextManager[object]] = nullcontext
) -> Run:
    device = next(module.buffers()).device

    def run(patches: np.ndarray) -> np.ndarray:
        rows = []
        with torch.inference_mode(), precision():
            for start in range(0, len(patches), batch):
                x = torch.zeros((batch, *patches.shape[1:]), dtype=torch.uint8)
                n = min(batch, len(patches) - start)
                x[:n] = torch.tensor(patches[start : start + n])
                rows.append(module(x.to(device))[:n].float().cpu().numpy())
        return np.concatenate(rows)

    return run


def _openvino_run(network: Network, precision: str) -> Run:
    """Compile for one patch at a time, on as many parallel streams as OpenVINO finds best.

    The frontend is called directly: ``openvino.convert_model`` takes five times as long and reports the
    conversion to its makers over the network.
    """
    import openvino  # noqa: PLC0415 - heavy
    from openvino.frontend import FrontEndManager  # noqa: PLC0415 - heavy
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder  # noqa: PLC0415 - heavy

    example = torch.zeros((1, network.px, network.px, 3), dtype=torch.uint8)
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing is deprecated in torch; exporting does not reach OpenVINO faster
        traced = torch.jit.trace(Scaled(network).eval().cpu(), example, check_trace=False)
    frontend = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(traced)  # must outlive the conversion, which does not hold it
    model = frontend.convert(frontend.load(decoder))
    model.reshape(list(example.shape))
    workers = settings.n_workers()
    options = {
        "PERFORMANCE_HINT": "THROUGHPUT",
        "INFERENCE_NUM_THREADS": workers,
        "INFERENCE_PRECISION_HINT": precision,
        "ENABLE_CPU_PINNING": False,  # or every worker of a machine would sit on its first core
    }
    compiled = openvino.Core().compile_model(model, "CPU", options)
    n_dims = compiled.output(0).shape[1]
    queue = openvino.AsyncInferQueue(compiled)

    def run(patches: np.ndarray) -> np.ndarray:
        patches, rows = np.ascontiguousarray(patches), np.empty((len(patches), n_dims), np.float32)
        queue.set_callback(lambda request, row: np.copyto(rows[row], request.get_output_tensor(0).data[0]))
        for row in range(len(patches)):
            queue.start_async([patches[row : row + 1]], row, share_inputs=True)
        queue.wait_all()
        return rows

    return run
