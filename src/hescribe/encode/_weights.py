"""Find the weights of a network: in a local file, in the cache of downloads, or on the hub."""

from pathlib import Path
from typing import TYPE_CHECKING

from hescribe import settings
from hescribe.errors import DataAccessError, FormatError

if TYPE_CHECKING:
    import torch

NAMES = ("model.safetensors", "pytorch_model.bin")  # in this order


def fetch_weights(repository: str, revision: str = "main", *, names: tuple[str, ...] = NAMES) -> Path:
    """Return the weight file of a hub repository, downloaded unless it is in the cache.

    Parameters
    ----------
    repository, revision
        On the hub.
    names
        Of the file, the first that there is.

    Raises
    ------
    DataAccessError
        With the one thing to do: accept the agreement and log in, allow the network, or try again later.
    """
    import huggingface_hub as hub  # noqa: PLC0415 - heavy
    from huggingface_hub import errors  # noqa: PLC0415 - heavy

    page = f"https://huggingface.co/{repository}"
    if cached := find_weights(repository, revision, names=names):
        return cached
    if settings.is_offline():
        raise DataAccessError(
            f"{names[0]} of {repository} is not on this machine and the network is switched off; "
            f"download it from {page} and give its path with weights="
        )
    for name in names:
        try:
            return Path(hub.hf_hub_download(repository, name, revision=revision))
        except errors.RemoteEntryNotFoundError:
            continue
        except errors.RepositoryNotFoundError as error:  # also what a gated repository answers
            raise DataAccessError(
                f"{repository} does not give you its weights yet: accept its terms at {page}, "
                "then run `hf auth login` or set HF_TOKEN"
            ) from error
        except Exception as error:  # the hub's client has another transport, with errors of its own, every year
            said = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise DataAccessError(
                f"{name} at {page} cannot be downloaded ({said}); try again with a network, "
                "or give its path with weights="
            ) from error
    raise DataAccessError(f"{page} holds none of {', '.join(names)} at revision {revision!r}")


def find_weights(repository: str, revision: str = "main", *, names: tuple[str, ...] = NAMES) -> Path | None:
    """Return the weight file of a hub repository if it was downloaded before."""
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - heavy

    for name in names:
        if isinstance(cached := try_to_load_from_cache(repository, name, revision=revision), str):
            return Path(cached)
    return None


def read_weights(path: Path) -> "dict[str, torch.Tensor]":
    """Return the tensors of a safetensors or torch file; nothing in it is executed.

    Raises
    ------
    DataAccessError
        If the file does not exist.
    FormatError
        If it is neither kind of file, or damaged.
    """
    import torch  # noqa: PLC0415 - heavy
    from safetensors.torch import load_file  # noqa: PLC0415 - heavy

    if not path.is_file():
        raise DataAccessError(f"{path} does not exist; weights= names a .safetensors file or a torch checkpoint")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # damage shows anywhere in a reader
        raise FormatError(f"{path} is damaged or holds no plain weights; download it again") from error
    if not isinstance(found, dict):
        raise FormatError(f"{path} holds a {type(found).__name__}, expected a dict of tensors")
    return found


def load_strictly(module: "torch.nn.Module", state: "dict[str, torch.Tensor]", where: str) -> "torch.nn.Module":
    """Load weights that fit exactly and return the module in evaluation mode.

    Raises
    ------
    FormatError
        If a weight is missing, left over or of another shape.
    """
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()
        raise FormatError(f"{where} does not fit the network: {first}") from error
    return module.eval()


def fingerprint(path: Path) -> str:
    """Return what tells one version of a local file from another: its size and time of change.

    Raises
    ------
    DataAccessError
        If the file does not exist.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise DataAccessError(f"{path} cannot be read: {error.strerror}; weights= names a weight file") from error
    return f"{state.st_size}-{state.st_mtime_ns}"


def fingerprint_folder(folder: Path) -> str:
    """Return what tells one version of a folder of weights from another: the fingerprints of its files.

    Raises
    ------
    DataAccessError
        If it is no folder.
    """
    if not folder.is_dir():
        raise DataAccessError(f"{folder} is no folder; weights= names the folder of a release")
    return " ".join(f"{file.name} {fingerprint(file)}" for file in sorted(folder.iterdir()) if file.is_file())
