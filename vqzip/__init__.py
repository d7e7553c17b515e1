"""vqzip: a learned image codec, VQ-VAE-2 with a PixelCNN prior.

data = vqzip.compress("photo.png", quality=60)
image = vqzip.decompress(data)
"""

from vqzip.api import Info, compress, decompress, info
from vqzip.errors import VqzError

__all__ = ["Info", "VqzError", "__version__", "compress", "decompress", "info"]
__version__ = "0.1.0"
