#!/usr/bin/env bash
# Compress all pictures below a folder, in a folder of the same shape:
#
#     examples/compress_folder.sh PHOTOS COMPRESSED [QUALITY]
#
# Run it again to go on where it stopped.  This brings them back, as PNG:
#
#     vqzip decompress -r COMPRESSED -d DECOMPRESSED -j 0
set -euo pipefail

photos=$1 compressed=$2 quality=${3:-50}

# The suffix is kept, as there may be an a.jpg and an a.png.
exec vqzip compress -r "$photos" -d "$compressed" -q "$quality" --keep-suffix --skip-existing -j 0
