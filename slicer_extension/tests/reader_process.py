"""A module in a process of its own that draws and waits to be killed: ``reader_process.py FOLDER ADDRESS STUDY``."""

import sys
import time
from pathlib import Path

import numpy as np
import stage

folder, address, study_id = sys.argv[1:]
stage.qt.QSettings.setDefaultFormat(stage.qt.QSettings.IniFormat)
stage.qt.QSettings.setPath(stage.qt.QSettings.IniFormat, stage.qt.QSettings.UserScope, f"{folder}/settings")
stage.qt.QSettings().setValue("FirstPick/autosaveSeconds", 1)
stage.slicer.app.temporaryPath = f"{folder}/temporary"
stage.slicer.app.slicerUserSettingsFilePath = f"{folder}/settings/Slicer.ini"
reader = stage.Reader()
reader.connect(address)
reader.open(study_id)
mask = np.zeros(reader.reading.volume.GetImageData().GetDimensions(), bool)
mask[3:7, 4:9, 2:6] = True
reader.draw("tumour", mask)
reader.reading.segmentation.GetSegmentation().AddEmptySegment("Segment_1", "Segment_1", [0.2, 0.4, 0.6])
reader.reading.segmentation.GetSegmentation().SeparateSegmentLabelmap("Segment_1")
reader.draw("Segment_1", np.roll(mask, 2, axis=0))
stage.wait_for(lambda: reader.reading.keptChanges == reader.reading.changes)
Path(folder, "kept").touch()
time.sleep(600)
