import subprocess
import sys

from hescribe.memory import peak_mb


def test_the_memory_of_a_process_is_not_that_of_the_one_that_started_it():
    large = bytearray(b"x") * (300 << 20)
    assert peak_mb() > 300
    command = [sys.executable, "-c", "from hescribe.memory import peak_mb; print(peak_mb())"]
    started = subprocess.run(command, check=True, capture_output=True, text=True)
    assert 1 < float(started.stdout) < 200
    del large
