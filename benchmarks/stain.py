"""Whether stain normalisation helps on donors held out: a ridge on images as they are, and in the mean train stain.

Each donor of a cohort is held out in turn; what is printed is Pearson by donor, mean over genes and sections. Then the
same fits predict the held-out sections under another stain (optical density of red, green and blue times 1.4, 0.8
and 1.3), which no donor was stained with. Three donors say little: read the numbers one by one.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from hescribe.data.image import ArrayImage

OTHER = (1.4, 0.8, 1.3)


def pearson(section, mean):
    """Return the mean correlation over the genes that vary."""
    y, p = section.layer("target"), mean[section.kept]
    y, p = y - y.mean(0), p - p.mean(0)
    norm = np.linalg.norm(y, axis=0) * np.linalg.norm(p, axis=0)
    return float(np.mean((y * p).sum(0)[norm > 0] / norm[norm > 0]))


def in_memory(section):
    """Return a section whose image is decoded."""
    image = section.image
    return replace(section, image=ArrayImage(image.pixels, image.mpp, image.fingerprint))


def main():
    from hescribe.bench.protocols import read_protocol
    from hescribe.bench.task import PredictionTask
    from hescribe.data.folder import read_cohort
    from hescribe.predict.ridge import RidgePredictor
    from hescribe.predict.stained import StainedPredictor
    from hescribe.testing.faults import restain

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--encoder", default="color")
    given = parser.parse_args()
    task = PredictionTask(read_cohort(given.cohort, with_image=True), read_protocol("donor-v1"))
    ridge = RidgePredictor(encoder=given.encoder, fov_um=(112.0,))
    models = {"as it is": ridge} | {
        stain: StainedPredictor(predictor=ridge, stain=stain) for stain in ("macenko", "reinhard")
    }
    for name, model in models.items():
        own, odd = {}, {}
        for fold in task.folds():
            fitted = model.with_params().fit(fold.train)
            donor = fold.test[0].donor
            own[donor] = np.mean([pearson(s, fitted.predict(s.blind()).mean) for s in fold.test])
            odd[donor] = np.mean(
                [pearson(s, fitted.predict(restain(in_memory(s), OTHER).blind()).mean) for s in fold.test]
            )
        told = ["  ".join(f"{d} {v:.3f}" for d, v in found.items()) for found in (own, odd)]
        means = [np.mean(list(found.values())) for found in (own, odd)]
        print(f"{name:9s} {means[0]:.3f} ({told[0]})   restained {means[1]:.3f} ({told[1]})", flush=True)


if __name__ == "__main__":
    main()
