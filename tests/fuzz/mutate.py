"""Damage to files: what a broken disk, a careless export or a hostile sender makes of a valid folder.

Every change is drawn from one random generator, so that a seed is a reproduction.
"""

import gzip
import json
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hescribe.data.untrusted import open_h5

HUGE = 10**9
ESCAPED = "escaped"  # a name that must never appear where nothing was to be written

WORDS = [
    "",
    "nan",
    "inf",
    "-inf",
    "-1",
    "0",
    "1e308",
    "1e-320",
    "99999999999999999999",
    "9" * 5000,
    "0x10",
    "1_000",
    "true",
    "null",
    "None",
    "\x00",
    "\t",
    "\ud7ff",
    "\u202e",
    "é",
    "💥",
    "a" * 3000,
    "<script>alert(1)</script>",
    "{{7*7}}",
    f"../{ESCAPED}",
    f"../../../{ESCAPED}",
    f"a/../../{ESCAPED}",
    "/dev/zero",
    "/proc/self/mem",
    "file:///etc/passwd",
    "con",
    ".",
    "..",
    "*",
    "'",
    '"',
    "[",
    "{" * 50,
    "[" * 20_000,
    "%s%n",
    "=1+1",
]
NUMBERS: list[Any] = [
    0, 1, -1, 2**31 - 1, 2**31, -(2**31), 2**63 - 1, -(2**63), 2**64, HUGE, 10**400, 0.0, -0.0, 1e308, 5e-324,
    float("nan"), float("inf"), float("-inf"), True, None, "", "1", [], {}, [[]], "nan",
]  # fmt: skip


def mutate_tree(root: Path, rng: random.Random) -> str:
    """Change one thing in a folder, and return what was done."""
    files = sorted(p for p in root.rglob("*") if p.is_file() and not p.is_symlink())
    if not files:
        return "nothing"
    path = rng.choice(files)
    done = _mutate_place(path, root, rng) if rng.random() < 0.1 else mutate_file(path, rng)
    return f"{path.relative_to(root)}: {done}"


def mutate_file(path: Path, rng: random.Random) -> str:
    """Change the content of a file: as bytes, or as what its format makes of it."""
    content = path.read_bytes()
    kinds: list[Callable[[Path, bytes, random.Random], str]] = [_mutate_bytes]
    if content[:2] == b"\x1f\x8b":
        kinds += [_mutate_packed] * 4
    elif content[:8] == b"\x89HDF\r\n\x1a\n":
        kinds += [_mutate_h5] * 4
    elif content[:6] == b"\x93NUMPY":
        kinds += [_mutate_npy] * 2
    elif _is_text(content):
        kinds += [_mutate_json if path.suffix in {".json", ".xenium", ".geojson"} else _mutate_text] * 4
        kinds += [_mutate_text]
    elif path.suffix == ".safetensors":
        kinds += [_mutate_safetensors] * 3
    chosen = rng.choice(kinds)
    return f"{chosen.__name__.removeprefix('_mutate_')}, {chosen(path, content, rng)}"


def _is_text(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return b"\0" not in content


def _mutate_place(path: Path, root: Path, rng: random.Random) -> str:
    """Remove, replace or duplicate a file as such."""
    kind = rng.choice(
        ["removed", "empty", "folder", "link out", "link to itself", "dead link", "twice", "swapped", "fifo"]
    )
    if kind == "twice":
        shutil.copy(path, path.with_name(f"copy_{path.name}"))
        return kind
    if kind == "swapped":
        other = rng.choice(sorted(p for p in root.rglob("*") if p.is_file()))
        path.write_bytes(other.read_bytes())
        return f"content of {other.name}"
    path.unlink()
    if kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind == "link out":
        path.symlink_to("/etc/hostname")
    elif kind == "link to itself":
        path.symlink_to(path)
    elif kind == "dead link":
        path.symlink_to("/nonexistent/file")
    return "removed" if kind == "fifo" else kind


def mutate_bytes(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Return damaged bytes, and how."""
    at = rng.randrange(len(content) + 1)
    kind = rng.choice(sorted(BYTES))
    return BYTES[kind](content, at, rng.choice([1, 2, 4, 8, 16, 256, 4096]), rng), f"{kind} at {at} of {len(content)}"


def _flip(content: bytes, n: int, rng: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(n if content else 0):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def _number(rng: random.Random) -> bytes:
    return struct.pack(rng.choice("<>") + rng.choice("IQ"), rng.choice([0, 1, HUGE, 2**31, 2**32 - 1]))


# Content, a place in it, a length and the generator, to what becomes of the content.
BYTES: dict[str, Callable[[bytes, int, int, random.Random], bytes]] = {
    "cut": lambda c, at, n, rng: c[:at],
    "flip": lambda c, at, n, rng: _flip(c, 1, rng),
    "flips": lambda c, at, n, rng: _flip(c, rng.randrange(2, 40), rng),
    "zeros": lambda c, at, n, rng: c[:at] + bytes(n) + c[at + n :],
    "ones": lambda c, at, n, rng: c[:at] + b"\xff" * n + c[at + n :],
    "insert": lambda c, at, n, rng: c[:at] + rng.randbytes(min(n, 64)) + c[at:],
    "drop": lambda c, at, n, rng: c[:at] + c[at + n :],
    "repeat": lambda c, at, n, rng: c[:at] + c[at : at + n] * rng.choice([2, 50]) + c[at + n :],
    "number": lambda c, at, n, rng: c[:at] + (number := _number(rng)) + c[at + len(number) :],
    "append": lambda c, at, n, rng: c + rng.choice([bytes(4096), rng.randbytes(64), c[: 1 << 16]]),
}


def _mutate_bytes(path: Path, content: bytes, rng: random.Random) -> str:
    data, done = mutate_bytes(content, rng)
    path.write_bytes(data)
    return done


def _mutate_packed(path: Path, content: bytes, rng: random.Random) -> str:
    try:
        text = gzip.decompress(content)
    except (OSError, EOFError, ValueError):
        return _mutate_bytes(path, content, rng)
    if rng.random() < 0.01:
        path.write_bytes(gzip.compress(bytes(1 << 26), 1))
        return "64 MB of zeros"
    text, done = mutate_text(text, rng)
    path.write_bytes(gzip.compress(text, 1))
    return done


def mutate_text(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Return text with a word, line, field or letter changed, and how."""
    kind = rng.choice(["words", "words", "words", "bytes", *TEXT])
    if kind == "bytes":
        return mutate_bytes(content, rng)
    lines = content.decode("utf-8", "surrogateescape").split("\n")
    at = rng.randrange(len(lines))
    if kind == "words":
        lines[at], kind = _change_word(lines[at], rng)
    else:
        lines = TEXT[kind](lines, at, rng)
    coding = rng.choice(["utf-16", "latin-1"]) if rng.random() < 0.05 else "utf-8"
    on_error = "surrogateescape" if coding == "utf-8" else "replace"
    return "\n".join(lines).encode(coding, on_error), f"{kind}, line {at + 1}"


def _shuffle(line: str, rng: random.Random) -> str:
    mark = next((m for m in "\t,=" if m in line), " ")
    parts = line.split(mark)
    rng.shuffle(parts)
    return mark.join(parts if rng.random() < 0.5 else parts[:-1])


# Lines, the number of one and the generator, to what becomes of the lines.
TEXT: dict[str, Callable[[list[str], int, random.Random], list[str]]] = {
    "line": lambda ls, at, rng: ls[:at] + ls[at + 1 :],
    "twice": lambda ls, at, rng: [*ls[:at], ls[at], *ls[at:]],
    "shuffled": lambda ls, at, rng: rng.sample(ls, len(ls)),
    "fields": lambda ls, at, rng: [*ls[:at], _shuffle(ls[at], rng), *ls[at + 1 :]],
    "cut": lambda ls, at, rng: [*ls[:at], ls[at][: rng.randrange(len(ls[at]) + 1)]],
    "nul": lambda ls, at, rng: [*ls[:at], f"{ls[at]}\x00", *ls[at + 1 :]],
    "old ends of lines": lambda ls, at, rng: ["\r".join(ls)],
    "mark of order": lambda ls, at, rng: [f"\ufeff{ls[0]}", *ls[1:]],
}


def _change_word(line: str, rng: random.Random) -> tuple[str, str]:
    """Replace what stands between two marks by a word that means trouble."""
    marks = [i for i, c in enumerate(line) if c in '\t,= "[]{}:']
    start = rng.choice([-1, *marks]) + 1
    end = next((m for m in marks if m > start), len(line))
    word = rng.choice(WORDS)
    return line[:start] + word + line[end:], f"{line[start:end][:20]!r} to {word[:20]!r}"


def _mutate_text(path: Path, content: bytes, rng: random.Random) -> str:
    data, done = mutate_text(content, rng)
    path.write_bytes(data)
    return done


def _mutate_json(path: Path, content: bytes, rng: random.Random) -> str:
    try:
        tree = json.loads(content)
    except ValueError:
        return _mutate_text(path, content, rng)
    tree, done = mutate_value(tree, rng)
    path.write_text(json.dumps(tree), encoding="utf-8")
    return done


def mutate_value(tree: Any, rng: random.Random) -> tuple[Any, str]:
    """Return a tree of dicts and lists with one place changed, and how."""
    if not isinstance(tree, dict | list) or not tree or rng.random() < 0.05:
        new = rng.choice([*NUMBERS, *WORDS])
        return new, f"{str(tree)[:20]!r} to {str(new)[:20]!r}"
    key: Any = rng.choice(sorted(tree)) if isinstance(tree, dict) else rng.randrange(len(tree))
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    if rng.random() < 0.12:
        del copy[key]
        return copy, f"without {key!r}"
    if isinstance(copy, dict) and rng.random() < 0.05:
        copy[rng.choice(WORDS)] = 1
        return copy, "one more key"
    copy[key], done = mutate_value(copy[key], rng)
    return copy, f"{key!r}: {done}"


def _mutate_npy(path: Path, content: bytes, rng: random.Random) -> str:
    """Change what the head of an array claims."""
    head = content[:128].decode("latin-1")
    start, end = head.find("(") + 1, head.find(")")
    shape = rng.choice([f"{HUGE}, {HUGE}", f"{HUGE},", "0, 3", "-1, 3", "3,", "", "1, 1, 1, 1", "True, 2"])
    kind = rng.choice(["'<f4'", "'|O'", "'<f8'", "'<c16'", "'<U9'", "'>i2'", "[('a', '<f4')]", "'<M8[s]'"])
    head = (
        head[:start] + shape + head[end:] if rng.random() < 0.5 else head.replace("'<f4'", kind).replace("'<f2'", kind)
    )
    body = head.encode("latin-1").rstrip(b"\n").rstrip(b" ")
    path.write_bytes(body.ljust(127)[:127] + b"\n" + content[128:])
    return f"{shape} or {kind}"


def _mutate_safetensors(path: Path, content: bytes, rng: random.Random) -> str:
    size = int.from_bytes(content[:8], "little")
    try:
        head, done = mutate_value(json.loads(content[8 : 8 + size]), rng)
    except ValueError:
        return _mutate_bytes(path, content, rng)
    packed = json.dumps(head).encode()
    path.write_bytes(len(packed).to_bytes(8, "little") + packed + content[8 + size :])
    return done


def _mutate_h5(path: Path, content: bytes, rng: random.Random) -> str:
    """Change a dataset or an attribute of an HDF5 file as its own library writes it."""
    del content
    try:
        with open_h5(path):
            pass  # what an earlier change left may make the library loop
        with h5py.File(path, "r+") as file:
            names: list[str] = []
            file.visit(names.append)
            return _change_node(file, rng.choice(names), rng) if names else "empty"
    except (OSError, ValueError, TypeError, RuntimeError, KeyError) as error:  # what HDF5 itself refuses
        return f"refused: {str(error)[:40]}"


def _change_node(file: h5py.File, name: str, rng: random.Random) -> str:
    node = file[name]
    if rng.random() < 0.2 and node.attrs:
        key = rng.choice(sorted(node.attrs))
        del node.attrs[key]
        if rng.random() < 0.7:
            node.attrs[key] = rng.choice(
                [HUGE, -1, float("nan"), "x", "csr_matrix", "array", np.array([HUGE, HUGE]), b"\xff"]
            )
        return f"attribute {key} of {name}"
    attrs = dict(node.attrs)
    if not isinstance(node, h5py.Dataset) or rng.random() < 0.15:
        kind = rng.choice(["removed", "a group", "a link out", "a link to itself"])
        del file[name]
        if kind == "a group":
            file.create_group(name)
        elif kind == "a link out":
            file[name] = h5py.ExternalLink("/etc/hostname", "/x")
        elif kind == "a link to itself":
            file[name] = h5py.SoftLink(f"/{name}")
        return f"{name} {kind}"
    values = node[()]
    new, kind = _change_array(np.asarray(values), rng)
    del file[name]
    if kind == "huge":
        shape = rng.choice([(HUGE,), (HUGE, 64), (HUGE, HUGE)])
        file.create_dataset(
            name, shape=shape, dtype=new.dtype if new.dtype.kind in "fiu" else "f4", chunks=(1024,) * len(shape)
        )
    else:
        file[name] = new
    for key, value in attrs.items():
        file[name].attrs[key] = value
    return f"{name} {kind}"


def _change_array(values: np.ndarray, rng: random.Random) -> tuple[np.ndarray, str]:
    kind = rng.choice(["value", "value", "dtype", "huge", *ARRAYS])
    if kind == "value" and values.size:
        return _change_value(values, rng), kind
    if kind == "dtype" and values.dtype.kind in "fiub":
        return values.astype(rng.choice(["f2", "f4", "f8", "i1", "i8", "u8", "c16", "?"])), kind
    if kind in ARRAYS and values.ndim and values.size:
        return ARRAYS[kind](values), kind
    return values, "huge" if kind == "huge" and values.ndim else "rewritten"


ARRAYS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "shorter": lambda v: v[:-1],
    "longer": lambda v: np.concatenate([v, v[:1]]),
    "more dims": lambda v: v[None],
    "scalar": lambda v: v.ravel()[:1].reshape(()),
    "empty": lambda v: v[:0],
    "reversed": lambda v: v[::-1],
}


def _change_value(values: np.ndarray, rng: random.Random) -> np.ndarray:
    flat = values.ravel().copy()
    news: list[Any] = [flat[0]]
    if flat.dtype.kind == "f":
        news = [np.nan, np.inf, -1.0, 1e308 if flat.itemsize == 8 else 1e38, 0.5]
    elif flat.dtype.kind in "iu":
        news = [np.iinfo(flat.dtype).max, np.iinfo(flat.dtype).min, flat[0]]
    elif flat.dtype.kind in "OS":
        news = [b"", b"\xff\xfe", flat[0], b"nan", f"../{ESCAPED}".encode()]
    flat[rng.randrange(flat.size)] = rng.choice(news)
    return flat.reshape(values.shape)


def clear(folder: Path) -> None:
    """Remove a folder and all that is in it."""
    if folder.exists():
        shutil.rmtree(folder)
