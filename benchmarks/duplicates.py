"""How far apart the same and different tissue lie, and what a thousand sections cost.

Every section of her2st and stutility_mob with an image (where ../shared/data is) and eight synthetic ones are
changed in 17 ways that leave the tissue the same. The limits of data/image_hash.py and data/duplicates.py must part
the two groups. Then a thousand smooth random images and tables are compared with each other.
"""

import io
import itertools
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from scipy import ndimage

from hescribe.data.image import ArrayImage
from hescribe.data.image_hash import MAX_BITS, MIN_LIKENESS, count_bits, hash_image, likeness

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
MAX_PX = 1200  # of an image before it is changed


def read_sections(folder):
    """Return the real sections that are there, and synthetic ones."""
    from hescribe.data.importing import import_cohort
    from hescribe.data.toy import toy_cohort

    sections = list(toy_cohort(0, n_donors=4, sections_per_donor=2))
    for name in ("her2st", "stutility_mob"):
        if (SHARED / name).is_dir():
            sections += import_cohort(SHARED / name, "st", folder / name, card=name).cohort
    return sections


def through_jpeg(pixels, quality):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def resized(pixels, times):
    height, width = pixels.shape[:2]
    return np.asarray(Image.fromarray(pixels).resize((width // times, height // times), Image.Resampling.LANCZOS))


def restained(pixels, factors):
    density = -np.log10(np.maximum(pixels, 1) / 255.0) * factors
    return (255 * 10**-density).astype(np.uint8)


def changes(pixels, xy, mpp):
    """Yield (name, image, spots) of changed copies."""
    height, width = pixels.shape[:2]
    edge = int(0.05 * height), int(0.05 * width)
    picture, order = Image.fromarray(pixels), np.argsort(xy[:, 0])
    kept = np.random.default_rng(0).random(len(xy)) > 0.3
    inner = pixels[edge[0] : -edge[0], edge[1] : -edge[1]]
    turned = picture.rotate(3, Image.Resampling.BICUBIC, fillcolor=tuple(int(v) for v in pixels[2, 2]))
    for name, changed, places, scale in (
        ("JPEG of quality 30", through_jpeg(pixels, 30), xy, mpp),
        ("half the size", resized(pixels, 2), xy, 2 * mpp),
        ("a sixth of the size", resized(pixels, 6), xy, 6 * mpp),
        ("another scale stated", pixels, 1.3 * xy, 1.3 * mpp),
        ("stained 5 to 15 % more", restained(pixels, [1.15, 1.05, 1.15]), xy, mpp),
        ("stained otherwise", restained(pixels, [0.85, 1.1, 0.95]), xy, mpp),
        ("stained 30 % less", restained(pixels, [0.7, 0.7, 0.7]), xy, mpp),
        ("brighter", np.clip(pixels * 1.08, 0, 255).astype(np.uint8), xy, mpp),
        ("gamma 0.8", (255 * (pixels / 255.0) ** 0.8).astype(np.uint8), xy, mpp),
        ("turned by a quarter", np.rot90(pixels), np.column_stack([xy[:, 1], width * mpp - xy[:, 0]]), mpp),
        ("mirrored", pixels[:, ::-1], np.column_stack([width * mpp - xy[:, 0], xy[:, 1]]), mpp),
        ("transposed", pixels.transpose(1, 0, 2), xy[:, ::-1], mpp),
        ("edges cut", inner, xy - [edge[1] * mpp, edge[0] * mpp], mpp),
        ("blurred", np.asarray(picture.filter(ImageFilter.GaussianBlur(3))), xy, mpp),
        ("turned by 3 degrees", np.asarray(turned), xy, mpp),
        ("30 % of spots dropped", pixels, xy[kept], mpp),
        ("15 % of spots cut off at one side", pixels, xy[order[int(0.15 * len(order)) :]], mpp),
    ):
        yield name, ArrayImage(np.ascontiguousarray(changed), scale, name), places


def compare_images(sections):
    """Print and check how alike changed copies and other sections are."""
    with_image = [s for s in sections if s.image is not None]
    hashes = {s.id: hash_image(s.image, s.xy_um) for s in with_image}
    same = {}
    for section in with_image:
        width, height = section.image.size_um
        mpp = max(section.image.mpp, max(width, height) / MAX_PX)
        pixels = section.image.read(0.0, 0.0, (width, height), mpp)
        for name, image, xy in changes(pixels, section.xy_um, mpp):
            same.setdefault(name, []).append((section.id, hash_image(image, xy)))
    low = 1.0
    for name, found in same.items():
        alike = [likeness(hashes[i], h) for i, h in found]
        bits = [count_bits(hashes[i], h) for i, h in found]
        print(f"{name:36s} likeness {min(alike):.2f} to {max(alike):.2f}, bits up to {max(bits):.0%}")
        assert min(alike) >= MIN_LIKENESS
        assert max(bits) <= MAX_BITS
        low = min(low, *alike)
    others = [(likeness(hashes[a], hashes[b]), a, b) for a, b in itertools.combinations(hashes, 2)]
    candidates = np.mean([count_bits(hashes[a], hashes[b]) <= MAX_BITS for _, a, b in others])
    high, *pair = max(others)
    print(f"{'other sections':36s} likeness up to {high:.2f} ({' and '.join(pair)}); {candidates:.0%} are candidates")
    assert high < MIN_LIKENESS < low


def compare_spots(sections):
    """Print how many spots of a section equal one of another section, on all genes and on a hundred."""
    from hescribe.data.spot_hash import hash_spots

    rng = np.random.default_rng(0)
    panels = {}
    for section in sections:
        panels.setdefault(section.genes, []).append(section)
    for genes, group in panels.items():
        for n_genes in (len(genes), min(100, len(genes))):
            chosen = frozenset(rng.choice(genes, n_genes, replace=False))
            hashes = [hash_spots(s, chosen) for s in group]
            _, count = np.unique(np.concatenate(hashes), return_counts=True)
            print(
                f"{len(group)} sections on {n_genes} genes: {sum(map(len, hashes))} spots, "
                f"{count[count > 1].sum()} of them equal to one of another section"
            )
            assert not (count > 1).any()


def time_thousand():
    """Print what comparing 1,000 sections of 2,000 spots costs, hashing aside."""
    from hescribe.data.duplicates import Print, find_pairs

    rng = np.random.default_rng(0)
    prints = []
    for i in range(1000):
        grey = ndimage.gaussian_filter(rng.normal(size=(48, 48)), 3)
        image = np.uint8((grey - grey.min()) / np.ptp(grey) * 255)
        prints.append(Print("c", f"s{i}", f"d{i}", image, np.sort(rng.integers(0, 2**64, 2000, dtype=np.uint64))))
    prints.append(prints[17])
    start = time.perf_counter()
    pairs = find_pairs(prints)
    print(f"1,001 sections of 2,000 spots compared in {time.perf_counter() - start:.1f} s: {len(pairs)} pair found")
    assert len(pairs) == 1


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        read = read_sections(Path(folder))
        compare_images(read)
        compare_spots(read)
    time_thousand()
