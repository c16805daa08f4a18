"""The exact search beside a tuned matmul with top-k and faiss, and what the approximate one gains and loses.

5,000 queries in a bank of a million vectors of 256 numbers, the 50 nearest by cosine; the only argument is another
size of the bank. Each contender runs in its own process, which makes the data, warms up on a small part and runs once:
wall time, processor time of all cores (which neighbours on a busy machine do not change), memory beside the data.
"""

import json
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

N_BANK, N_QUERY, N_DIMS, K = int(float(sys.argv[1])) if len(sys.argv) == 2 else 10**6, 5000, 256, 50
CHUNKS = (4096, 16384, 65536)  # of the rival; the best one counts


def now():
    return time.perf_counter(), time.process_time()


def make(kind, n_bank):
    """Return unit vectors: clustered ones as embeddings are, or without any structure."""
    import numpy as np

    rng = np.random.default_rng(0)
    query, bank = (rng.standard_normal((n, N_DIMS), dtype=np.float32) for n in (N_QUERY, n_bank))
    if kind == "clustered":
        centres = rng.standard_normal((max(1, n_bank // 250), N_DIMS), dtype=np.float32)
        for x in (query, bank):
            np.multiply(x, 0.3, out=x)
            for start in range(0, len(x), 10_000):
                part = x[start : start + 10_000]
                part += centres[rng.integers(0, len(centres), len(part))]
    for x in (query, bank):
        for start in range(0, len(x), 10_000):
            x[start : start + 10_000] /= np.linalg.norm(x[start : start + 10_000], axis=1, keepdims=True)
    return query, bank


def ours(query, bank):
    from hescribe.nearest.search import nearest

    return nearest(query, bank, K).rows


def ours_float32(query, bank):
    from hescribe.nearest import _bfloat16

    _bfloat16.WORTH_IT = float("inf")
    return ours(query, bank)


def matmul(query, bank):
    """Tuned on a part of the bank, then run: products of a chunk, its top k, and the best of both so far."""
    import torch

    q, b = torch.from_numpy(query), torch.from_numpy(bank)

    def search(bank, chunk):
        best, rows = torch.empty(len(q), 0), torch.empty(len(q), 0, dtype=torch.int64)
        for start in range(0, len(bank), chunk):
            values, at = torch.topk(q @ bank[start : start + chunk].T, min(K, len(bank) - start), dim=1)
            best, rows = torch.cat([best, values], 1), torch.cat([rows, at + start], 1)
            best, order = torch.topk(best, min(K, best.shape[1]), dim=1)
            rows = rows.gather(1, order)
        return rows.numpy()

    def seconds(chunk):
        start = time.perf_counter()
        search(b[: 2 * max(CHUNKS)], chunk)
        return time.perf_counter() - start

    chunk = min(CHUNKS, key=seconds)
    start = now()
    return search(b, chunk), start


def faiss_flat(query, bank):
    import faiss

    return faiss.knn(query, bank, K, metric=faiss.METRIC_INNER_PRODUCT)[1]


def ours_ivf(query, bank):
    from hescribe.nearest.ivf import IvfIndex

    index = IvfIndex.build(bank, k=K)
    start = now()
    found = index.search(query, K)
    return found.rows, start


CONTENDERS = {f.__name__: f for f in (ours, ours_float32, matmul, faiss_flat, ours_ivf)}


class Peak(threading.Thread):
    """Watches the memory that the process holds."""

    def __init__(self):
        super().__init__(daemon=True)
        self.mb, self.done = 0.0, threading.Event()

    @staticmethod
    def now():
        """Return the memory held, in MB."""
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**20

    def run(self):
        """Watch until ``done``."""
        while not self.done.wait(0.02):
            self.mb = max(self.mb, self.now())


def measure(name, kind, n_bank, out):
    import numpy as np

    query, bank = make(kind, n_bank)
    CONTENDERS[name](query[:64], bank[:4096].copy())  # loads and compiles
    before, peak = Peak.now(), Peak()
    peak.start()
    start = begun = now()
    rows = CONTENDERS[name](query, bank)
    end = now()
    if isinstance(rows, tuple):
        rows, start = rows
    peak.done.set()
    np.save(out, rows)
    wall, cpu = (b - a for a, b in zip(start, end, strict=True))
    print(json.dumps({"wall": wall, "cpu": cpu, "prepare": start[0] - begun[0], "mb": max(peak.mb - before, 0.0)}))


def main():
    import tempfile

    import numpy as np

    for kind in ("clustered", "unclustered"):
        print(f"\n{N_QUERY} queries, {N_BANK:,} x {N_DIMS} {kind}, k = {K}")
        with tempfile.TemporaryDirectory() as folder:
            rows, found = {}, {}
            for name in CONTENDERS:
                file = Path(folder) / f"{name}.npy"
                done = subprocess.run(
                    [sys.executable, __file__, name, kind, str(N_BANK), str(file)],
                    check=True, capture_output=True, text=True,
                )  # fmt: skip
                found[name], rows[name] = json.loads(done.stdout), np.load(file)
        exact = rows["ours"]
        for name, row in found.items():
            same = np.mean([len(np.intersect1d(a, b)) / K for a, b in zip(rows[name], exact, strict=True)])
            print(
                f"  {name:14s} {row['wall']:7.1f} s  {row['wall'] / found['ours']['wall']:6.2f} x ours  "
                f"processor {row['cpu']:7.1f} s  {row['cpu'] / found['ours']['cpu']:6.2f} x ours  "
                f"{row['mb']:6.0f} MB  prepared in {row['prepare']:5.1f} s  agrees {same:.5f}"
            )


if __name__ == "__main__":
    if len(sys.argv) == 5:
        measure(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
    else:
        main()
