"""Reads PNG, JPEG and TIFF as Slicer's own reader does, which slicer-core was built without."""

import slicer
import vtk

ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


def read_picture(path, name):
    """Add a picture to the scene: colour as a vector volume; None where VTK cannot read it.

    As with ITK's readers the first row is the uppermost, and the pixels lie from (0, 0) on, LPS.
    """
    reader = vtk.vtkImageReader2Factory.CreateImageReader2(path)
    if reader is None:
        return None
    reader.SetFileName(path)
    if reader.IsA("vtkTIFFReader"):
        reader.SetOrientationType(4)  # gives the rows from below, as the others do
    upright = vtk.vtkImageFlip()
    upright.SetInputConnection(reader.GetOutputPort())
    upright.SetFilteredAxis(1)
    placed = vtk.vtkImageChangeInformation()
    placed.SetInputConnection(upright.GetOutputPort())
    placed.SetOutputSpacing(1, 1, 1)
    placed.SetOutputOrigin(0, 0, 0)
    placed.Update()
    image = vtk.vtkImageData()
    image.ShallowCopy(placed.GetOutput())
    is_colour = image.GetNumberOfScalarComponents() > 1
    kind = "vtkMRMLVectorVolumeNode" if is_colour else "vtkMRMLScalarVolumeNode"
    volume = slicer.mrmlScene.AddNewNodeByClass(kind, name)
    if is_colour:
        volume.SetVoxelVectorType(slicer.vtkMRMLVolumeNode.VoxelVectorTypeColorRGB)
    volume.SetIJKToRASDirections(-1, 0, 0, 0, -1, 0, 0, 0, 1)
    volume.SetAndObserveImageData(image)
    storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(path)
    volume.SetAndObserveStorageNodeID(storage.GetID())
    volume.CreateDefaultDisplayNodes()
    return volume
