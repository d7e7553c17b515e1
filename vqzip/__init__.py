"""vqzip: a learned image codec, VQ-VAE-2 with a PixelCNN prior.

data = vqzip.compress("photo.png", quality=60)
image = vqzip.decompress(data)
"""

from vqzip.api import Info, complete, compress, decompress, info, sample
from vqzip.errors import VqzError

__all__ = [
    "Info",
    "VqzError",
    "__version__",
    "complete",
    "compress",
    "decompress",
    "info",
    "sample",
]
__version__ = "0.1.0"
