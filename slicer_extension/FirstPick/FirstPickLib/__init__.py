"""The parts of the FirstPick module: `client`, `worklist` and `poolmap` know neither Slicer nor Qt."""
