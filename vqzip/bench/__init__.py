"""Rate and distortion of codecs on a folder of pictures, from real files."""
