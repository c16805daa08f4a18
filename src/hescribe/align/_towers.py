"""Two heads trained on pairs: what aligners with a contrastive loss do alike."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np

from hescribe.align.base import to_pairs
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.encode.gene.base import GeneEncoder, encode_section, stack_counts
from hescribe.encode.gene.pca import PCAEncoder
from hescribe.encode.spot_inputs import Standardise, check_images
from hescribe.errors import FormatError, InputError
from hescribe.metrics.pairs import to_unit
from hescribe.metrics.retrieval import score_retrieval
from hescribe.metrics.stats import donor_mean
from hescribe.params import Params
from hescribe.prep.scale import Scale
from hescribe.prep.split import inner_folds

if TYPE_CHECKING:
    from torch import Tensor, nn

    from hescribe.encode.frozen_images import Images, Start
    from hescribe.train.contrastive import Loss, Take, Towers
    from hescribe.train.loop import Recipe

Head = Literal["linear", "mlp", "transformer"]
GENE = "gene_"  # start of the names of what the gene encoder learned
EPOCHS = (2, 5, 10, 20, 40)  # shortest first
LIMITS = (
    ("rank", 1, np.inf), ("jitter", 0, 0.99), ("n_components", 1, np.inf), ("n_dims", 2, np.inf),
    ("dropout", 0, 0.99), ("epochs", 0, np.inf), ("lr", 0, np.inf), ("weight_decay", 0, np.inf),
    ("batch_size", 2, np.inf), ("seed", 0, np.inf),
)  # fmt: skip


@dataclass(kw_only=True)
class TowerAligner(Params):
    """A head on image features and a head on the embedding of expression.

    Parameters
    ----------
    encoder, fov_um, n_rings, standardise
        What is read of the image: see ``SpotInputs``.
    frozen
        Read features of the encoder as it is, which are cached; False trains the encoder with the heads, on patches.
    tuning, rank, jitter
        Of an encoder that is trained: see ``TrainableEncoder``.
    n_components
        Image features are reduced to so many components of unit variance; None takes them scaled.
    gene_encoder
        Fitted on the train cohort, and frozen.
    centre_expression
        Learn from what it gives less the mean of the section. A new section's mean is not asked for: what is embedded
        stays as it is.
    head, gene_head
        ``"linear"``, ``"mlp"`` with one hidden layer of twice ``n_dims``, or ``"transformer"``, attention among pieces
        of what comes in: see ``TransformerHead``.
    n_dims
        Length of an embedding.
    dropout
        Share of the inputs and of the hidden units left out in training.
    epochs
        Passes over the train spots; None chooses among 2 to 40 by retrieval within sections of held-out train donors;
        0 leaves the heads as they were drawn.
    lr, weight_decay, batch_size, seed
        Of the training.
    balance_donors
        Fill batches with equally many spots of every train donor, those of a small one more than once in a pass; else
        each spot comes once.
    """

    encoder: str = "efficientnet_lite0"
    fov_um: tuple[float, ...] | None = None
    n_rings: int = 0
    standardise: Standardise = "train"
    frozen: bool = True
    tuning: Literal["full", "low_rank"] = "full"
    rank: int = 8
    jitter: float = 0.2
    n_components: int | None = 32
    gene_encoder: GeneEncoder = field(default_factory=PCAEncoder)
    centre_expression: bool = False
    head: Head = "mlp"
    gene_head: Head = "mlp"
    n_dims: int = 128
    dropout: float = 0.2
    epochs: int | None = None
    lr: float = 1e-3
    weight_decay: float = 1e-2
    batch_size: int = 256
    seed: int = 0
    balance_donors: bool = False

    @property
    def unit(self) -> bool:
        """Whether embeddings have length 1 in training too, and the temperature is learned."""
        return True

    @abstractmethod
    def loss_of(self, network: "Towers") -> "Loss":
        """Return the loss of a batch; what it learns beside the heads is registered on the network."""

    def group_of(self, train: Cohort) -> "Tensor | None":  # noqa: ARG002 - not of any one spot
        """Return the group of each kept spot, for a loss that reads it; None for one that does not."""
        return None

    def check_donors(self, train: Cohort) -> None:
        """Raise ``InputError`` if donors are to be balanced and all kept spots are of one."""
        donors = sorted({s.donor for s in train if s.kept.any()})
        if self.balance_donors and len(donors) < 2:
            raise InputError(
                f"batches cannot be balanced among donors: every train spot is of donor {donors[0]}; give sections of "
                "more donors, or balance_donors=False"
            )

    def fit(self, train: Cohort, *, val: Cohort | None = None) -> Self:
        """Fit the gene encoder and train both heads.

        Raises
        ------
        InputError
            If a parameter is out of its limits or has no effect, fewer than 2 spots are kept, a section has no image or
            no counts, an encoder gives values that are not finite, or donors are to be balanced and there is one.
        PanelError
            If the gene encoder knows less than half of the panel.
        TrainingError
            If the loss is not finite.
        """
        self.check_params()
        if (n_kept := sum(int(s.kept.sum()) for s in train)) < 2:
            raise InputError(f"an aligner needs at least 2 train spots to tell apart, got {n_kept}")
        self.check_donors(train)
        self.epochs_ = self._choose_epochs(train, val) if self.epochs is None else self.epochs
        (fitted,) = self._learn(train, (self.epochs_,))
        self.genes_ = train.genes
        return self.set_fitted(fitted.state())

    def check_params(self) -> None:
        """Raise ``InputError`` if a parameter is out of its limits or has no effect."""
        for name, low, high in LIMITS:
            self.check_between(name, low, high)
        check_images(self)

    def embed_image(self, section: Section) -> np.ndarray:
        """Return the embedding of every spot by its image, shape ``(n_spots, n_dims)`` float32, length 1."""
        return self.fitted_heads().embed_image(section)

    def embed_expression(self, section: Section) -> np.ndarray:
        """Return the embedding of every spot by its raw counts, shape ``(n_spots, n_dims)`` float32, length 1."""
        return self.fitted_heads().embed_expression(section)

    def images(self) -> "Images":
        """Return what is read of images, and what of it is trained."""
        from hescribe.encode.patch_images import images_of  # noqa: PLC0415 - imports torch

        return images_of(self, self.image_head)

    def expression_head(self, n_in: int) -> "nn.Module":
        """Return an untrained head on the embedding of expression."""
        return _head(self.gene_head, n_in, self.n_dims, self.dropout)

    def expression_of(self, sections: Sequence[Section], y: np.ndarray) -> "Take":  # noqa: ARG002 - of no other spot
        """Return what that head reads of the kept spots of sections: of their embeddings, shape ``(n_spots, n_in)``."""
        import torch  # noqa: PLC0415 - heavy

        values = torch.from_numpy(y)
        return lambda rows: (values[rows],)

    def image_head(self, n_in: int) -> "nn.Module":
        """Return an untrained head on image features."""
        return _head(self.head, n_in, self.n_dims, self.dropout)

    def prepare(self, train: Cohort) -> "Prepared":
        """Return both sides of the kept spots of a train cohort, as the heads read them."""
        return self.prepare_from(self.images().start(train), train)

    def prepare_from(self, start: "Start", train: Cohort) -> "Prepared":
        """Return it from the image side of those spots."""
        _check_finite(f"image features of {self.encoder}", start.x)
        gene_encoder: Any = self.gene_encoder.with_params().fit(train)  # type: ignore[attr-defined]
        y = gene_encoder.encode(stack_counts(train), train.genes)
        _check_finite(f"embeddings of gene encoder {gene_encoder.name}", y)
        learned_from = centre_sections(y, train) if self.centre_expression else y
        overall = Scale.overall(learned_from)  # one sd: the directions of an encoder are not of equal weight
        scale = Scale(y.mean(axis=0), overall.sd)  # of a new section, whose mean is not known
        return Prepared(start, gene_encoder, scale, np.asarray(overall.apply(learned_from), dtype=np.float32))

    def build(self, prepared: "Prepared") -> "tuple[Towers, Loss, Recipe]":
        """Return the network before training, its loss, and how it is trained."""
        from hescribe.train.contrastive import Towers  # noqa: PLC0415 - imports torch
        from hescribe.train.loop import Recipe, seeded  # noqa: PLC0415 - imports torch

        with seeded(self.seed):
            network = Towers(prepared.start.tower(), self.expression_head(prepared.y.shape[1]), unit=self.unit)
            loss = self.loss_of(network)
        return network, loss, Recipe(
            batch_size=self.batch_size, lr=self.lr, weight_decay=self.weight_decay, seed=self.seed,
            shares=self.images().shares,
        )  # fmt: skip

    def keep(self, prepared: "Prepared", network: "Towers", weights: "dict[str, Tensor]") -> "FittedHeads":
        """Return what is left of a training that ended with some weights."""
        from hescribe.encode.trainable import trained_weights  # noqa: PLC0415 - imports torch

        network.cpu().load_state_dict(weights, strict=True)
        return FittedHeads(
            aligner=self,
            image=prepared.start.image,
            image_weights=trained_weights(network.image),
            gene_encoder=prepared.gene_encoder,
            scale=prepared.scale,
            expression_weights=trained_weights(network.expression),
        )

    def refine(self, train: Cohort, parts: Sequence[np.ndarray], *, epochs: int, both: bool = False) -> list[Self]:
        """Return copies that have learned on from here: see ``align.base.Refines`` and ``align._refine``."""
        from hescribe.align._refine import refine_heads  # noqa: PLC0415 - imports torch

        states = refine_heads(self, self.fitted_heads(), train, parts, epochs=epochs, both=both)
        return [self.with_params().set_fitted({**self.get_fitted(), **state}) for state in states]

    def check_weights(self) -> None:
        """Raise ``FormatError`` if the weights are not those of these heads: see ``align.base.ChecksWeights``."""
        from hescribe.encode.trainable import load_trained  # noqa: PLC0415 - imports torch
        from hescribe.train.loop import seeded  # noqa: PLC0415 - imports torch

        self.check_params()
        fitted = self.fitted_heads()
        with seeded(0):
            load_trained(self.expression_head(len(fitted.scale.mean)), fitted.expression_weights)
            if self.frozen:  # else the encoder is among the weights, and is built where it is used
                n_in = fitted.image["basis"].shape[1] if "basis" in fitted.image else len(fitted.image["mean"])
                load_trained(self.image_head(n_in), fitted.image_weights)

    def _learn(self, train: Cohort, epochs: tuple[int, ...]) -> "list[FittedHeads]":
        """Return what is learned after each of some ascending numbers of epochs."""
        from hescribe.train.contrastive import train_towers  # noqa: PLC0415 - imports torch

        prepared = self.prepare(train)
        network, loss, recipe = self.build(prepared)
        states = [{k: v.clone() for k, v in network.state_dict().items()}]
        if epochs != (0,):
            take, group = self.expression_of(train, prepared.y), self.group_of(train)
            donors = np.repeat([s.donor for s in train], [int(s.kept.sum()) for s in train])
            states = train_towers(
                network, prepared.start.x, take, loss, recipe, snapshots=epochs, group=group,
                balance=donors if self.balance_donors else None,
            )  # fmt: skip
        return [self.keep(prepared, network, weights) for weights in states]

    def _choose_epochs(self, train: Cohort, val: Cohort | None) -> int:
        """Return the epochs after which held-out donors find their pairs best within a section."""
        scores: list[list[tuple[str, float]]] = [[] for _ in EPOCHS]
        folds = [(train, val)] if val is not None else inner_folds(train, view_um=self.images().view_um(train))
        for inner, outer in folds:
            if sum(int(s.kept.sum()) for s in inner) < 2 or not any(s.kept.sum() > 1 for s in outer):
                continue
            for of_epochs, fitted in zip(scores, self._learn(inner, EPOCHS), strict=True):
                rows = score_retrieval(to_pairs(fitted, outer), pools=("within_section",), sizes=(None,))
                of_epochs += [(r.donor, r.value) for r in rows if r.metric == "auc"]
        if not scores[0]:
            raise InputError("the train cohort is too small to choose epochs on; give epochs=")
        return EPOCHS[int(np.argmax([donor_mean(s, n_resamples=1).value for s in scores]))]

    def fitted_heads(self) -> "FittedHeads":
        """Return what the fit has left."""
        self.check_fitted()
        state = self.get_fitted()
        if missing := {"image_", "image_weights_", "expression_mean_", "expression_weights_"} - state.keys():
            raise FormatError(f"a fitted {type(self).__name__} lacks {min(missing)}; fit it again")
        of_genes = {k.removeprefix(GENE): v for k, v in state.items() if k.startswith(GENE)}
        gene_encoder: Any = self.gene_encoder.with_params().set_fitted(of_genes)  # type: ignore[attr-defined]
        return FittedHeads(
            aligner=self,
            image=state["image_"],
            image_weights=state["image_weights_"],
            gene_encoder=gene_encoder,
            scale=Scale(state["expression_mean_"], state["expression_sd_"]),
            expression_weights=state["expression_weights_"],
        )


class Prepared(NamedTuple):
    """What the heads of an aligner read of a train cohort.

    Parameters
    ----------
    start
        Of the image side.
    gene_encoder
        Fitted.
    scale
        Of what it gives.
    y
        That, scaled, of the kept spots, shape ``(n_spots, n_in)`` float32.
    """

    start: "Start"
    gene_encoder: GeneEncoder
    scale: Scale
    y: np.ndarray


@dataclass(frozen=True, kw_only=True)
class FittedHeads:
    """What is left of a training.

    Parameters
    ----------
    aligner
        Its parameters say what is read and how the heads are built.
    image
        How what the image head reads came about.
    image_weights
        Of the image head.
    gene_encoder
        Fitted.
    scale
        Of what it gives.
    expression_weights
        Of the other head.
    """

    aligner: TowerAligner
    image: dict[str, np.ndarray]
    image_weights: dict[str, np.ndarray]
    gene_encoder: GeneEncoder
    scale: Scale
    expression_weights: dict[str, np.ndarray]

    def state(self) -> dict[str, Any]:
        """Return the fitted attributes of an aligner, in arrays and plain values that can be saved."""
        of_genes: dict[str, Any] = self.gene_encoder.get_fitted()  # type: ignore[attr-defined]
        return {
            "image_": self.image,
            "image_weights_": self.image_weights,
            "expression_mean_": self.scale.mean,
            "expression_sd_": self.scale.sd,
            "expression_weights_": self.expression_weights,
            **{GENE + name: value for name, value in of_genes.items()},
        }

    def embed_image(self, section: Section) -> np.ndarray:
        """Return the embedding of every spot by its image, shape ``(n_spots, n_dims)`` float32, length 1."""
        _, found = self.aligner.images().embed(section, self.image, self.image_weights)
        return to_unit(found).astype(np.float32)

    def embed_expression(self, section: Section) -> np.ndarray:
        """Return the embedding of every spot by its raw counts, shape ``(n_spots, n_dims)`` float32, length 1."""
        from hescribe.encode.trainable import load_trained  # noqa: PLC0415 - imports torch
        from hescribe.train.contrastive import in_chunks  # noqa: PLC0415 - imports torch
        from hescribe.train.loop import seeded  # noqa: PLC0415 - imports torch

        y = np.asarray(self.scale.apply(encode_section(self.gene_encoder, section)), dtype=np.float32)
        with seeded(0):  # of weights that are replaced: the caller's random numbers stay as they were
            head = self.aligner.expression_head(y.shape[1])
        load_trained(head, self.expression_weights)
        found = np.empty((section.n_spots, self.aligner.n_dims), dtype=np.float32)
        # Those that are kept once more, with no other in sight: a bad spot must not change what its neighbours are.
        every = section.with_kept(np.ones(section.n_spots, dtype=bool))
        for part in (every,) if section.kept.all() else (every, section):
            take = self.aligner.expression_of((part,), y[part.kept])
            found[part.kept] = in_chunks(head.eval(), take, int(part.kept.sum()))
        return to_unit(found).astype(np.float32)


def centre_sections(y: np.ndarray, train: Cohort) -> np.ndarray:
    """Return values of the kept spots of a cohort less the mean of their section."""
    ends = np.cumsum([int(s.kept.sum()) for s in train])[:-1]
    return np.concatenate([part - part.mean(axis=0) for part in np.split(y, ends) if len(part)])


def _check_finite(what: str, x: np.ndarray) -> None:
    if not np.isfinite(x).all():
        spot = int(np.argwhere(~np.isfinite(x))[0][0])
        raise InputError(f"{what} are not finite at train spot {spot}; leave it out, or take another encoder")


def _head(kind: Head, n_in: int, n_dims: int, dropout: float) -> "nn.Module":
    from torch import nn  # noqa: PLC0415 - heavy

    if kind == "transformer":
        from hescribe.train.heads import TransformerHead  # noqa: PLC0415 - imports torch

        return TransformerHead(n_in, n_dims, dropout=dropout)
    if kind == "linear":
        return nn.Sequential(nn.Dropout(dropout), nn.Linear(n_in, n_dims))
    hidden = (nn.Linear(n_in, 2 * n_dims), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * n_dims, n_dims))
    return nn.Sequential(nn.Dropout(dropout), *hidden)
