"""What a study holds: file formats, DICOM headers and stacks, volumes, and the views cut from them."""
