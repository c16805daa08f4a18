"""Every AnnData key the package reads or writes, once."""

COUNTS = "counts"  # layer: raw counts, integers, never changed
LOGNORM = "lognorm"  # layer: ln(1 + 1e4 * count / depth)
TARGET = "target"  # layer: what a protocol asks to predict; the lognorm values unless it says otherwise
COMPLETED = "completed"  # layer: counts with dropouts filled by a completer
OBSERVED = "observed"  # layer: True where a value was measured
PREDICTED = "predicted"  # layer: expression predicted from the image
TRUTH = "truth"  # layer: known mean expression of a synthetic cohort
TRUTH_VISIBLE = "truth_visible"  # layer: the part of the truth that the image shows

SPATIAL = "spatial"  # obsm: spot centres (x, y) in pixels of the section's image
SPATIAL_UM = "spatial_um"  # obsm: spot centres (x, y) in um from the image's upper left corner
ARRAY_ROW, ARRAY_COL = "array_row", "array_col"  # obs: place on the capture array

DEPTH = "depth"  # obs: counts of the spot over all genes that were measured
KEPT = "kept"  # obs: the spot is used as a target; the others serve as image context only
REGION = "region"  # obs: pathologist's label
OOD = "ood"  # obs: out-of-distribution score of the spot's image, 0 to 1
TRUST = "trust"  # var: trust class of the gene
DRIVER = "driver"  # var: what moves a gene of a synthetic cohort

DROPPED_SPOTS = "dropped_spots"  # uns: names of the spots left out at import
N_GENES_MEASURED = "n_genes_measured"  # uns: genes in the section's own table, before the cut to the panel
GENE_ID = "gene_id"  # var: stable identifier of the gene, where the name is a symbol
