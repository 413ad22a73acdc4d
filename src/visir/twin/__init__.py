"""Layer 2: the synthetic world: people seen by visible, near-infrared and thermal cameras.

``write`` makes a whole data set; ``picture`` and ``render_pair`` make single images from Python; ``contact_sheet``
shows the world at a glance.
"""

from visir.twin.cameras import LAYOUTS, Layout, Spectrum
from visir.twin.picture import SPECTRA, World, picture, render_pair, silhouette
from visir.twin.sheet import contact_sheet
from visir.twin.world import SIZES, Size
from visir.twin.write import MANIFEST, write

__all__ = [
    "LAYOUTS",
    "MANIFEST",
    "SIZES",
    "SPECTRA",
    "Layout",
    "Size",
    "Spectrum",
    "World",
    "contact_sheet",
    "picture",
    "render_pair",
    "silhouette",
    "write",
]
