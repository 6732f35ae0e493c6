"""The pools of our evidence: what each is, and how it is made ready for ``firstpick compare``.

A part of `evidence.py`. At most 400 studies of each pool count: where there are more, 400 drawn with a fixed seed. A
class of which there are fewer than three studies is left out, since it cannot be learnt and tested.
"""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from firstpick.sources.folder import list_studies
from firstpick.sources.names import bare
from firstpick.voxels.volumes import read_volume

CLASSES = (
    "anemia_smears", "brain_ms_mr", "cardiac_mr_lv", "child_cxr", "cxr_tb_lungs", "dicom_tree", "glaucoma_airogs",
    "head_ct", "kidney_ct", "lung_ct_slices_dicom", "mednist", "mixed_nifti", "muscle_us", "nerve_us",
    "oral_histology", "pap_smear_herlev", "rbc_chula",
)  # fmt: skip
"""Pools with a class of each study."""
MASKS = (
    "all_blood_masks", "cardiac_mr_lv", "cxr_tb_lungs", "hippocampus", "liver_ct", "membrane", "nerve_us",
    "neuron_microscopy", "polyp_kvasir", "slices",
)  # fmt: skip
"""Pools with a mask of each study; ``slices`` are pictures cut from ``hippocampus``."""
NO_PATIENTS = ("mixed_nifti",)
"""Pools whose groups are no patients, but repositories."""
MOST, LEAST = 400, 3
"""Studies of a pool, and of a class."""
N_SECTIONS, TILE = 5, 128


@dataclass(frozen=True)
class Prepared:
    """What ``firstpick compare`` is given of one pool.

    Attributes
    ----------
    images, labels : Path
    options : tuple of str
        What else the command needs: the group of each study.
    """

    images: Path
    labels: Path
    options: tuple[str, ...] = ()


def prepare(name, kind, data, out, *, whole=False):
    """Make a pool ready, in ``out`` where something must be written.

    Parameters
    ----------
    name : str
    kind : {'classes', 'masks'}
    data : Path
        With a folder for each pool.
    out : Path
    whole : bool
        Whether all studies count, however many.

    Returns
    -------
    Prepared
    """
    if name in ("slices", "membrane"):
        return _cut(name, data, out, every=4 if whole else 16)
    images = data / name / "images"
    if kind == "masks":
        masks = data / name / ("labels" if name == "hippocampus" else "masks")
        return Prepared(images, masks, _grouped(data / name / "labels.csv", _lines(data / name), name))
    table = out / f"{name}.csv"
    if whole:
        return Prepared(images, data / name / "labels.csv")
    lines = _kept(_named(_lines(data / name), images))
    out.mkdir(parents=True, exist_ok=True)
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, lines[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    return Prepared(images, table, _grouped(table, lines, name))


def _lines(folder):
    """Lines of the table of classes, if there is one; the class goes by that name."""
    if not (folder / "labels.csv").exists():
        return []
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    names = {"file": "study", "label": "class"}
    return [{names.get(key, key): value for key, value in line.items()} for line in lines]


def _named(lines, images):
    """Call each study as FirstPick does; lines about what is no study (localizers) are left out."""
    names = {}
    for study in list_studies(images)[0]:
        path = Path(study.source, study.files[0]) if study.files else Path(study.source)
        names[bare(path.relative_to(images).parts[0])] = study.study_id
    return [{**line, "study": names[name]} for line in lines if (name := bare(line["study"])) in names]


def _kept(lines):
    """At most `MOST` lines, and of each class at least `LEAST`."""
    some = np.sort(np.random.default_rng(0).permutation(len(lines))[:MOST])
    counts = Counter(lines[row]["class"] for row in some)
    return [lines[row] for row in some if counts[lines[row]["class"]] >= LEAST]


def _grouped(table, lines, name):
    by = f"csv:{table}#group" if lines and "group" in lines[0] and name not in NO_PATIENTS else ""
    return ("--conf", "groups.by", by)


def _cut(name, data, out, *, every):
    """Cut pictures out of volumes and sections, once."""
    folder = out / (f"data-slices-{every}" if name == "slices" else f"data-{name}")
    if not (folder / "complete").exists():
        if name == "slices":
            _write_slices(data, folder, every=every)
        else:
            _write_tiles(data, folder)
        (folder / "complete").touch()
    own = ("--conf", "groups.by", "id:^(hippocampus_[0-9]+)")
    if name == "membrane":
        own = ("--conf", "groups.by", "folder", "--conf", "groups.max", "0")
    return Prepared(folder / "images", folder / "labels", own)


def _write_slices(data, folder, *, every):
    """Write one axial slice in ``every`` of each volume, and its mask."""
    for path in sorted((data / "hippocampus" / "images").glob("*.nii.gz")):
        volume = read_volume(path).array
        label = read_volume(data / "hippocampus" / "labels" / path.name).array
        low, high = np.percentile(volume, (0.5, 99.5))
        scaled = (np.clip((volume - low) / (high - low), 0, 1) * 255).astype(np.uint8)
        for z in range(every // 2, volume.shape[2], every):
            name = f"{path.name.removesuffix('.nii.gz')}_{z:02}.png"
            _save(folder / "images" / name, scaled[..., z].T[::-1])
            _save(folder / "labels" / name, label[..., z].astype(np.uint8).T[::-1])


def _write_tiles(data, folder):
    """Cut each section into tiles; sections that lie side by side share a folder, which is their group."""
    for path in sorted((data / "membrane" / "images").glob("*.png")):
        section = int(path.stem)
        image = np.array(Image.open(path).convert("L"))
        cells = np.array(Image.open(data / "membrane" / "labels" / path.name).convert("L"))
        membrane = (cells < 128).astype(np.uint8)
        for y in range(0, image.shape[0], TILE):
            for x in range(0, image.shape[1], TILE):
                name = f"block_{section // N_SECTIONS}/section_{section:02}_{y:03}_{x:03}.png"
                where = np.s_[y : y + TILE, x : x + TILE]
                _save(folder / "images" / name, image[where])
                _save(folder / "labels" / name, membrane[where])


def _save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(array)).save(path)
