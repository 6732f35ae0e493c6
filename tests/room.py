"""What stands behind the server's routes, in one process and without threads: desk, log, labels and datastore."""

import warnings
from concurrent.futures import Future
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813

from firstpick.board.log import Log
from firstpick.sources.label_files import has_labels
from firstpick.studies import Study

with warnings.catch_warnings():  # of what MONAI Label imports
    warnings.simplefilter("ignore")
    from firstpick.server.datastore import StudiesDatastore
    from firstpick.server.desk import Desk
    from firstpick.server.filing import Filing
    from firstpick.server.label_folder import LabelFolder
    from firstpick.server.served import ServedFiles


class Now:
    """An executor that runs a task at once."""

    def submit(self, function, *args):
        future = Future()
        try:
            future.set_result(function(*args))
        except Exception as error:  # noqa: BLE001
            future.set_exception(error)
        return future


class Room:
    """A studies folder and a datastore over it; `start` is what a server does."""

    def __init__(self, folder, *, n_versions=2, readers_per_study=1):
        self.folder, self.state = folder / "studies", folder / "state"
        self.labels = self.state / "datastore" / "labels"
        self.folder.mkdir()
        self.n_versions, self.readers_per_study = n_versions, readers_per_study
        self.desk, self.is_known = None, False

    def study(self, name, seed=0):
        array = np.random.default_rng(seed).integers(0, 99, (4, 5, 6)).astype(np.int16)
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(nib.Nifti1Image(array, np.eye(4)).to_bytes())
        return Study(name, str(seed), str(path), name)

    def start(self, studies):
        self.end()
        log = Log(self.state, has_labels=self.is_known and has_labels(self.labels))
        self.is_known = True
        self.desk = Desk(log, readers_per_study=self.readers_per_study)
        served = ServedFiles(self.state / "served", 1e9, Now())
        filing = Filing(self.state / "datastore" / "incoming", served.folder, {1, "tumour"}, Now())
        labels = LabelFolder(self.labels, n_versions=self.n_versions, is_new=not self.desk.board.names)
        self.store = StudiesDatastore(
            str(self.folder), self.labels.parent, desk=self.desk, labels=labels, served=served, filing=filing
        )
        self.list(studies)
        return self.store

    def end(self):
        if self.desk is not None:
            self.desk.close()
        self.desk = None

    def kill(self):
        """End without writing anything more."""
        self.desk._log._connection.close()
        self.desk = None

    def list(self, studies):
        self.store.update(studies, {(study.study_id, study.stamp): "" for study in studies})
        self.store.sync_labels()

    def label(self, value=1, name="upload.nii", shape=(4, 5, 6), corner=0):
        array = np.zeros(shape, np.uint8)
        array[1:3, 1:3, 1:3] = value
        array[0, 0, 0] = corner
        path = self.state / name
        if path.suffix == ".nii":
            path.write_bytes(nib.Nifti1Image(array, np.eye(4)).to_bytes())
            return path
        image = sitk.GetImageFromArray(array.T)
        image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
        sitk.WriteImage(image, str(path))
        return path

    def save(self, study_id, tag="final", client="alice", **kwargs):
        path = self.label(**kwargs)
        self.store.save_label(study_id, str(path), tag, {"client_id": client})
        return path.read_bytes()

    def files(self):
        files = (path.relative_to(self.labels).as_posix() for path in self.labels.rglob("[!.]*") if path.is_file())
        return sorted(file for file in files if not file.startswith("versions/"))

    def read(self, study_id, tag="final"):
        return Path(self.store.get_label_uri(study_id, tag)).read_bytes()
