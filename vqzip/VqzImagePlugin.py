"""Pillow reads and writes vqz files once this module is imported.

import vqzip.VqzImagePlugin
image = Image.open("photo.vqz")
image.save("again.vqz", quality=60)
"""

from __future__ import annotations

import io
from typing import IO, Any

from PIL import Image, ImageFile

from vqzip import api, container, metadata
from vqzip.errors import VqzError
from vqzip.quality import DEFAULT_QUALITY


class VqzImageFile(ImageFile.ImageFile):
    """A vqz file; only `load` decodes it."""

    format = "VQZ"
    format_description = "vqzip learned image"

    def _open(self) -> None:
        assert self.fp is not None
        self._content = self.fp.read()
        if not _accept(self._content):
            raise SyntaxError("not a vqz file")
        try:
            file = container.unpack(self._content)
            self.info.update(metadata.from_chunks(file.chunks).info())
        except VqzError as error:
            raise OSError(str(error)) from error
        header = file.header
        self._size = (header.width, header.height)
        self._mode = ("L" if header.grayscale else "RGB") + ("" if file.alpha is None else "A")
        self.tile = [ImageFile._Tile("raw", (0, 0, *self.size), 0, self.mode)]

    def load(self) -> Any:
        """Decode the pixels, once.

        Raises OSError if they are broken or their model is not there.
        """
        if self.tile and self._content:
            try:
                pixels = api.decompress(self._content).tobytes()
            except VqzError as error:
                raise OSError(str(error)) from error
            if self.fp is not None and self._exclusive_fp:
                self.fp.close()
            self.fp, self._content = io.BytesIO(pixels), b""
        return super().load()

    def load_seek(self, pos: int) -> None:
        """Does nothing, but without it Pillow would map the file itself as the pixels."""


def _save(image: Image.Image, file: IO[bytes], _: str | bytes) -> None:
    """Takes quality, model, strip, and metadata to replace that of the image."""
    options: dict[str, Any] = getattr(image, "encoderinfo", {})
    frame = image.copy()  # of an animation, the one that is shown
    frame.info.update(metadata.metadata_of(image)[0].info())
    frame.info.update({key: options[key] for key in metadata.NAMES if key in options})
    if isinstance(frame.info.get("exif"), Image.Exif):
        frame.info["exif"] = frame.info["exif"].tobytes()
    try:
        data = api.compress(
            frame,
            options.get("quality", DEFAULT_QUALITY),
            options.get("model"),
            strip=options.get("strip", False),
        )
    except VqzError as error:
        raise OSError(str(error)) from error
    file.write(data)


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(container.MAGIC)


Image.register_open(VqzImageFile.format, VqzImageFile, _accept)
Image.register_save(VqzImageFile.format, _save)
Image.register_extension(VqzImageFile.format, ".vqz")
Image.register_mime(VqzImageFile.format, "image/x-vqz")
