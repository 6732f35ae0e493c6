"""MONAI Label's datastore as JSON, of which only what has changed is written anew."""

from __future__ import annotations

import json

from monailabel.datastore.local import ImageLabelModel, LocalDatastoreModel


class DatastoreText:
    """Keeps the JSON of each study: of a hundred thousand, all at once would take seconds in which nobody is answered.

    A study's entry must be replaced when it changes, never changed in place.
    """

    def __init__(self) -> None:
        self._kept: dict[str, tuple[ImageLabelModel, str]] = {}

    def of(self, datastore: LocalDatastoreModel) -> str:
        """Return the JSON of a datastore; ASCII, so that any id can be written."""
        kept = {}
        for study_id, entry in list(datastore.objects.items()):
            known = self._kept.get(study_id)
            kept[study_id] = known if known and known[0] is entry else (entry, _text(study_id, entry))
        self._kept = kept
        rest = json.dumps(datastore.model_dump(exclude={"base_path", "objects"}))
        return f'{rest[:-1]}, "objects": {{{", ".join(text for _, text in kept.values())}}}}}'


def _text(study_id: str, entry: ImageLabelModel) -> str:
    return f"{json.dumps(study_id)}: {json.dumps(entry.model_dump())}"
