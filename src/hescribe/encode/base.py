"""What an image encoder is, where they are registered, and the check of their input."""

import importlib
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from hescribe.cards import EncoderCard
from hescribe.data.section import Section
from hescribe.errors import InputError
from hescribe.registry import Registry


class ImageEncoder(Protocol):
    """Turns patches into vectors. A registered encoder is a keyword-only dataclass with ``Params``."""

    name: ClassVar[str]

    @property
    def card(self) -> EncoderCard:
        """Facts about the encoder."""
        ...

    def encode(self, patches: np.ndarray) -> np.ndarray:
        """Return one vector per patch; normalising the pixels is the encoder's own business.

        Parameters
        ----------
        patches
            Shape ``(n, card.px, card.px, 3)`` uint8.

        Returns
        -------
        Shape ``(n, card.n_dims)`` float32.

        Raises
        ------
        InputError
            If the patches have another type or shape.
        """
        ...

    def get_params(self) -> dict[str, Any]:
        """Return the hyper-parameters."""
        ...


@runtime_checkable
class SectionEncoder(Protocol):
    """Turns the spots of a section into vectors, and needs more than their patches: a fitted aligner."""

    @property
    def card(self) -> EncoderCard:
        """Facts about the encoder."""
        ...

    def embed_section(self, section: Section) -> np.ndarray:
        """Return one vector a spot, shape ``(n_spots, card.n_dims)`` float32."""
        ...


encoders: Registry[ImageEncoder] = Registry(
    "encoder",
    "hescribe.encode",
    besides=("features", "blocks", "accelerate", "trainable", "spot_inputs", "frozen_images", "patch_images"),
)

ALIGNERS = "hescribe.bench.aligner_folder"  # reads folders; above this layer, so it is found by name, as a component is


def create_encoder(name: str) -> ImageEncoder | SectionEncoder:
    """Return an encoder by its name, by ``name:model`` for the generic ones, or from the folder of a fitted aligner.

    Raises
    ------
    UnknownNameError
        If no encoder has that name.
    InputError
        If the encoder holds one model only.
    DataAccessError
        If it is a path that holds no fitted aligner.
    FormatError
        If that aligner is damaged.

    Examples
    --------
    >>> create_encoder("hub_model:uni").card.n_dims
    1024
    """
    kind, colon, model = name.partition(":")
    if kind not in encoders and ("/" in kind or Path(name).is_dir()):
        aligned: SectionEncoder = importlib.import_module(ALIGNERS).read_encoder(Path(name))
        return aligned
    return encoders.create(kind, model=model) if colon else encoders.create(kind)


def check_patches(patches: np.ndarray, card: EncoderCard) -> np.ndarray:
    """Return the patches if they are what the encoder reads.

    Raises
    ------
    InputError
        If they are not uint8 of shape ``(n, card.px, card.px, 3)``.
    """
    shape = (card.px, card.px, 3)
    if getattr(patches, "dtype", None) != np.uint8 or patches.shape[1:] != shape:
        got = f"{getattr(patches, 'dtype', type(patches).__name__)} {getattr(patches, 'shape', '')}".strip()
        raise InputError(f"encoder {card.name} reads uint8 patches of shape (n, {card.px}, {card.px}, 3), got {got}")
    return patches
