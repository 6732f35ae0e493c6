"""Stand-in for Slicer's Sample Data module: keeps what is registered, and gets it when its button is pressed."""

import types

sources = {}


class SampleDataLogic:
    @staticmethod
    def registerCustomSampleDataSource(
        category="Custom",
        sampleName=None,
        uris=None,
        fileNames=None,
        nodeNames=None,
        customDownloader=None,
        thumbnailFileName=None,
        loadFileType="VolumeFile",
        loadFiles=None,
        loadFileProperties={},
        checksums=None,
    ):
        given = {**locals()}
        sources.setdefault(category, {})[sampleName] = types.SimpleNamespace(**given)


def press(category, sampleName):
    source = sources[category][sampleName]
    return source.customDownloader(source)
