"""What becomes of each file of a folder: read, refused or left out; and whether readers open what was embedded."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813

from firstpick.sources.folder import list_studies
from firstpick.studies import LeftOut, Study
from firstpick.voxels.itk import kept_locale
from firstpick.voxels.served import serve_file
from firstpick.voxels.volumes import Volume, VolumeError, read_volume

GREY = np.array([0.299, 0.587, 0.114])


@dataclass
class Outcome:
    """What became of a folder; keys are paths below it, of a series that of its folder.

    Of several series in one folder each has an entry in the list.
    """

    folder: Path
    studies: list[Study]
    left_out: list[LeftOut]
    read: dict[str, list[Volume]] = field(default_factory=dict)
    failed: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path, served: Path) -> Outcome:
        """List, read and serve all of a folder; fail where a reader would see something else than was embedded."""
        outcome = cls(folder, *list_studies(folder))
        for study in outcome.studies:
            name = os.path.relpath(study.source, folder)
            try:
                volume = read_volume(study)
            except VolumeError as error:
                outcome.failed.setdefault(name, []).append(str(error))
                continue
            outcome.read.setdefault(name, []).append(volume)
            assert_same_as_served(volume, serve_file(study, served))
        return outcome

    def one(self, name: str) -> Volume:
        """The only study of a file or folder."""
        assert name in self.read, f"{name} is not read: {self.why(name)!r}; read are {sorted(self.read)}"
        (volume,) = self.read[name]
        return volume

    def why(self, name: str) -> str:
        """Why a file is no study or could not be read; empty if it was."""
        return " ".join(
            [*self.failed.get(name, ()), *(entry.reason for entry in self.left_out if self._is_of(entry, name))]
        )

    def _is_of(self, entry: LeftOut, name: str) -> bool:
        """Whether something left out is that file, a folder above it, or all files with its ending."""
        if entry.study_id.startswith("*"):
            return name.endswith(entry.study_id[1:]) and name not in self.read
        return entry.study_id == name or (entry.study_id.endswith("/") and name.startswith(entry.study_id))


def assert_same_as_served(volume: Volume, served: Path) -> None:
    """The file that readers open has the voxels and the geometry of what was embedded, read by SimpleITK and by us."""
    again = read_volume(served)
    np.testing.assert_allclose(again.array, volume.array, rtol=1e-5, atol=1e-4, err_msg=str(served))
    np.testing.assert_allclose(again.affine, volume.affine, atol=2e-3, err_msg=str(served))
    if not served.name.lower().endswith(".nrrd"):  # ITK has no directions for a sheared grid, Slicer has
        array, affine = read_by_itk(served)
        same_axes(array, affine, volume)


def read_by_itk(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels (x, y, z) and RAS+ affine as SimpleITK reads them; colour as luminance, the first of several frames."""
    with kept_locale():
        image = sitk.ReadImage(str(path))
    view = sitk.GetArrayFromImage(image)
    n = image.GetDimension()
    if image.GetNumberOfComponentsPerPixel() > 1:
        view = view[..., :3] @ GREY if view.shape[-1] >= 3 else view[..., 0]
    array = (view if n == 3 else view[np.newaxis]).T.astype(np.float32)
    affine = np.eye(4)
    affine[:n, :n] = np.array(image.GetDirection()).reshape(n, n) * image.GetSpacing()
    affine[:n, 3] = image.GetOrigin()
    return array, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def same_axes(array: np.ndarray, affine: np.ndarray, volume: Volume) -> None:
    """Compare voxels by where they lie, whatever the order of the axes."""
    if not volume.is_picture:
        turn = nib.orientations.io_orientation(affine)
        affine = affine @ nib.orientations.inv_ornt_aff(turn, array.shape)
        array = nib.orientations.apply_orientation(array, turn)
    np.testing.assert_allclose(array, volume.array, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(affine, volume.affine, atol=2e-3)
