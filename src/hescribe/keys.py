"""Every AnnData key the package reads or writes, once."""

COUNTS = "counts"  # layer: raw counts, integers, never changed
LOGNORM = "lognorm"  # layer: ln(1 + 1e4 * count / depth)
TARGET = "target"  # layer: what a protocol asks to predict; the lognorm values unless it says otherwise
COMPLETED = "completed"  # layer: lognorm values, and what a completer says where none was measured
COMPLETED_SD = "completed_sd"  # layer: standard deviation of a filled value, 0 where it was measured
OBSERVED = "observed"  # layer: True where a value was measured
PREDICTED = "predicted"  # layer: expression predicted from the image
LOWER, UPPER = "lower", "upper"  # layers: ends of the interval of a predicted value
TRUTH = "truth"  # layer: known mean expression of a synthetic cohort
TRUTH_VISIBLE = "truth_visible"  # layer: the part of the truth that the image shows

SPATIAL = "spatial"  # obsm: spot centres (x, y) in pixels of the section's image
SPATIAL_UM = "spatial_um"  # obsm: spot centres (x, y) in um from the image's upper left corner
ARRAY_ROW, ARRAY_COL = "array_row", "array_col"  # obs: place on the capture array

DEPTH = "depth"  # obs: counts of the spot over all genes that were measured
KEPT = "kept"  # obs: the spot is used as a target; the others serve as image context only
REGION = "region"  # obs: pathologist's label
OOD = "ood"  # obs: out-of-distribution score of the spot's image, 0 to 1
FAR = "far"  # obs: the spot looks unlike all tissue that a mixture of experts was trained on
FLAG = "flag"  # obs: what is wrong with the image at the spot: blur, pen, a fold; empty if nothing is
TRUST = "trust"  # var: trust class of the gene
DRIVER = "driver"  # var: what moves a gene of a synthetic cohort

DROPPED_SPOTS = "dropped_spots"  # uns: names of the spots left out at import
N_GENES_MEASURED = "n_genes_measured"  # uns: genes in the section's own table, before the cut to the panel
MADE_BY = "hescribe"  # uns: what made the features or the prediction
SEEN = "seen"  # uns: where the encoder of these features has seen this tissue, if it was trained on it
GENE_ID = "gene_id"  # var: stable identifier of the gene, where the name is a symbol

# Layers of the SpaRED preparation, by SpaRED's names. d_: zeros filled by the adaptive median filter;
# c_: batches corrected; deltas: less the gene's mean over the train sections; noisy_: as measured, gaps left.
TPM = "tpm"
LOG1P, D_LOG1P, C_LOG1P, C_D_LOG1P = "log1p", "d_log1p", "c_log1p", "c_d_log1p"  # log2(1 + tpm)
DELTAS, D_DELTAS, C_DELTAS, C_D_DELTAS = "deltas", "d_deltas", "c_deltas", "c_d_deltas"
MASK = "mask"  # True where a count was measured
NOISY_D_LOG1P, NOISY_D_DELTAS = "noisy_d_log1p", "noisy_d_deltas"
NOISY_C_D_LOG1P, NOISY_C_D_DELTAS = "noisy_c_d_log1p", "noisy_c_d_deltas"
LOG1P_MEAN, D_LOG1P_MEAN = "log1p_avg_exp", "d_log1p_avg_exp"  # var: mean over the train sections
C_LOG1P_MEAN, C_D_LOG1P_MEAN = "c_log1p_avg_exp", "c_d_log1p_avg_exp"  # as above
EXP_FRAC, GLOB_EXP_FRAC = "exp_frac", "glob_exp_frac"  # var: share of spots with a count, lowest section and all
D_LOG1P_MORAN = "d_log1p_moran"  # var: mean Moran's I over sections
GENE_LENGTH = "gene_length"  # var: base pairs
MEANS = (LOG1P_MEAN, D_LOG1P_MEAN, C_LOG1P_MEAN, C_D_LOG1P_MEAN)
PREPARED_VAR = (*MEANS, EXP_FRAC, GLOB_EXP_FRAC, D_LOG1P_MORAN, GENE_LENGTH)
