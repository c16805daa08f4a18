"""Neighbours on the spot grid: rings around a spot, and the graph of touching spots."""

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from hescribe import keys
from hescribe.data.section import Section

N_TIES = 12  # spots beyond those asked for among which equally far ones are told apart
SAME = 1e-6  # pitches; distances that differ by less are equal


def rings(section: Section, n_rings: int) -> list[sparse.csr_matrix]:
    """Return one averaging matrix for each ring of neighbours.

    Ring k of a square array holds the up to 8 k spots at Chebyshev distance k; of a hexagonal
    array the up to 6 k spots at hexagonal distance k; without an array, the spots at k pitches.

    Parameters
    ----------
    section
        Its spots, those that are no targets included.
    n_rings
        Rings beyond the spot itself.

    Returns
    -------
    ``n_rings`` matrices of shape ``(n_spots, n_spots)`` whose rows sum to 1. Where a ring is
    empty the spot stands for it.
    """
    i, j, distance = _pairs(section, n_rings)
    n = section.n_spots
    out = []
    for k in range(1, n_rings + 1):
        at = distance == k
        ring = sparse.csr_matrix((np.ones(at.sum()), (i[at], j[at])), shape=(n, n))
        count = np.diff(ring.indptr)
        ring = ring + sparse.diags((count == 0).astype(float), format="csr")
        out.append(sparse.diags(1.0 / np.maximum(count, 1)) @ ring)
    return out


def spot_graph(section: Section, *, kept_only: bool = False) -> sparse.csr_matrix:
    """Return the row-normalised graph of touching spots (the first ring), without self-loops.

    Parameters
    ----------
    section
        Spots without a neighbour have an empty row.
    kept_only
        Restrict rows and columns to the kept spots.
    """
    i, j, _ = _pairs(section, 1)
    n = section.n_spots
    graph = sparse.csr_matrix((np.ones(len(i)), (i, j)), shape=(n, n))
    if kept_only:
        graph = graph[section.kept][:, section.kept]
    return sparse.csr_matrix(sparse.diags(1.0 / np.maximum(np.diff(graph.indptr), 1)) @ graph)


def pitch_um(section: Section) -> float:
    """Return the distance of neighbouring spots in um: as declared, else the median to the nearest other spot.

    A lone spot is given that of Visium, 100 um.
    """
    return section.card.pitch_um or spacing_um(section.xy_um)


def spacing_um(xy_um: np.ndarray) -> float:
    """Return the median distance of places of shape ``(n, 2)`` to the nearest other one, 100 um for a lone one."""
    if len(xy_um) < 2:
        return 100.0
    distance, _ = cKDTree(xy_um).query(xy_um, k=2)
    return max(float(np.median(distance[:, 1])), 1.0)


def nearest_spots(section: Section, k: int, *, radius: float = np.inf) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``k`` nearest other spots of each spot, nearest first.

    Parameters
    ----------
    section
        Distances are taken on its capture array, without an array on the tissue.
    k
        Number of neighbours.
    radius
        Farthest neighbour, in pitches.

    Returns
    -------
    Row of each neighbour, shape ``(n_spots, k)`` int64, and its distance in pitches; -1 and infinity where
    a spot has fewer.

    Examples
    --------
    >>> from anndata import AnnData
    >>> table = AnnData(np.zeros((3, 1)), obsm={"spatial_um": np.array([[0.0, 0], [100, 0], [300, 0]])})
    >>> nearest_spots(Section("s", "d", table), 2)[0].tolist()
    [[1, 2], [0, 2], [1, 0]]
    """
    points = array_points(section)
    n = len(points)
    index, distance = np.full((n, k), -1), np.full((n, k), np.inf)
    most = min(k + 1 + N_TIES, n)
    if most < 2:
        return index, distance
    # More than asked for: the spot itself is among them, and several spots may be equally far.
    reach = radius * (1 + SAME) + SAME
    _, found = cKDTree(points).query(points, k=np.arange(1, most + 1), distance_upper_bound=reach)
    offset = np.vstack([points, np.full(2, np.inf)])[found] - points[:, None]  # found is n where there is none
    far = np.linalg.norm(offset, axis=-1)
    far[found == np.arange(n)[:, None]] = np.inf
    # Of spots that are equally far the first clockwise: which are taken must not depend on the order of the table.
    turn = np.arctan2(offset[..., 1], offset[..., 0], where=np.isfinite(far), out=np.zeros_like(far))
    order = np.argsort(np.round(far / SAME) + turn / 8, axis=1, kind="stable")[:, :k]
    n_found = order.shape[1]
    index[:, :n_found] = np.take_along_axis(found, order, axis=1)
    distance[:, :n_found] = np.take_along_axis(far, order, axis=1)
    index[~np.isfinite(distance)] = -1
    return index, distance


def array_points(section: Section) -> np.ndarray:
    """Return points whose Euclidean distance is that of the spots in pitches, shape ``(n_spots, 2)``."""
    grid = section.card.technology.grid
    if grid is None or keys.ARRAY_ROW not in section.table.obs:
        return _grid_points(section)[0]
    row = section.table.obs[keys.ARRAY_ROW].to_numpy(dtype=float)
    col = section.table.obs[keys.ARRAY_COL].to_numpy(dtype=float)
    if grid == "hex":
        return np.column_stack([col / 2, row * np.sqrt(3) / 2])
    return np.column_stack([col, row]) / (np.sqrt(2) if grid == "checker" else 1.0)


def grid_cells(section: Section) -> np.ndarray:
    """Return the cell of each spot in a square grid in which touching spots lie side by side or corner to corner.

    Returns
    -------
    Shape ``(n_spots, 2)`` int64; comparable within a section only. Without an array several spots may share a cell.
    """
    return np.rint(_grid_points(section)[0][:, :2]).astype(np.int64)


def relative_points(points: np.ndarray) -> np.ndarray:
    """Return places from the middle of some points, in halves of their longer side.

    Parameters
    ----------
    points
        Shape ``(n, 2)``, in any unit.

    Returns
    -------
    Between -1 and 1, whatever the size of the section, same shape; 0 for a lone point.

    Examples
    --------
    >>> relative_points(np.array([[10.0, 5.0], [14.0, 5.0], [12.0, 6.0]])).tolist()
    [[-1.0, -0.25], [1.0, -0.25], [0.0, 0.25]]
    """
    if not len(points):
        return points
    low, high = points.min(axis=0), points.max(axis=0)
    return np.asarray((points - (low + high) / 2) / max(float((high - low).max()) / 2, 1e-12))


def _pairs(section: Section, n_rings: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return both directions of all pairs within ``n_rings``, and the ring of each."""
    points, p = _grid_points(section)
    pairs = cKDTree(points).query_pairs(n_rings + 0.49, p=p, output_type="ndarray")
    distance = np.rint(np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], ord=p, axis=1)).astype(int)
    distance = np.maximum(distance, 1)  # printed spots sit a little off their place
    return (
        np.concatenate([pairs[:, 0], pairs[:, 1]]),
        np.concatenate([pairs[:, 1], pairs[:, 0]]),
        np.concatenate([distance, distance]),
    )


def _grid_points(section: Section) -> tuple[np.ndarray, float]:
    """Return points whose p-norm distance is the number of rings between two spots, and p."""
    grid = section.card.technology.grid
    if grid is None or keys.ARRAY_ROW not in section.table.obs:
        return section.xy_um / pitch_um(section), 2
    row = section.table.obs[keys.ARRAY_ROW].to_numpy(dtype=float)
    col = section.table.obs[keys.ARRAY_COL].to_numpy(dtype=float)
    if grid == "checker":
        return np.column_stack([row + col, row - col]) / 2, np.inf
    if grid == "hex":  # cube coordinates: the largest of three differences is the hexagonal distance
        q = (col - row) / 2
        return np.column_stack([q, row, q + row]), np.inf
    return np.column_stack([row, col]), np.inf


def local_graphs(section: Section, n_hops: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the graph of every spot and of all that are reached from it over touching spots.

    Parameters
    ----------
    section
        Spots that are no targets are reached too.
    n_hops
        Steps from spot to touching spot.

    Returns
    -------
    Rows of the nodes, the spot itself first and then in the order of their distance, shape ``(n_spots, n_nodes)`` int64
    with -1 where a spot reaches fewer; and which of them touch, shape ``(n_spots, n_nodes, n_nodes)`` bool.

    Examples
    --------
    >>> from anndata import AnnData
    >>> table = AnnData(np.zeros((3, 1)), obsm={"spatial_um": np.array([[0.0, 0], [100, 0], [300, 0]])})
    >>> local_graphs(Section("s", "d", table), 1)[0].tolist()
    [[0, 1], [1, 0], [2, -1]]
    """
    touching = (spot_graph(section) > 0).astype(np.int8)
    n = section.n_spots
    reached = sparse.identity(n, dtype=np.int8, format="csr")
    for _ in range(n_hops):
        reached = ((reached + reached @ touching) > 0).astype(np.int8)
    points = array_points(section)
    found = sparse.coo_matrix(reached)
    offset = points[found.col] - points[found.row]
    far, turn = np.linalg.norm(offset, axis=1), np.arctan2(offset[:, 1], offset[:, 0])
    # Of spots that are equally far the first clockwise, whatever the order of the table; the spot itself before all.
    order = np.lexsort((turn, np.round(far / SAME), found.row != found.col, found.row))
    row, col = found.row[order], found.col[order]
    count = np.bincount(row, minlength=n)
    place = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    nodes = np.full((n, count.max(initial=1)), -1)
    nodes[row, place] = col
    dense = sparse.csr_matrix(touching)
    edges = np.zeros((n, nodes.shape[1], nodes.shape[1]), dtype=bool)
    for i in range(n):
        own = nodes[i, : count[i]]
        edges[i, : count[i], : count[i]] = dense[own][:, own].toarray() > 0
    return nodes, edges
