#!/usr/bin/env bash
# Compress all photos below a folder, in a folder of the same shape:
#
#     examples/compress_folder.sh PHOTOS COMPRESSED [QUALITY]
#
# Run it again to go on where it stopped.
set -euo pipefail

photos=${1%/} compressed=${2%/} quality=${3:-50} failed=0

while IFS= read -r -d '' photo; do
    # The suffix stays, as there may be an a.jpg and an a.png.
    target=$compressed/${photo#"$photos"/}.vqz
    if [ -e "$target" ]; then
        continue
    fi
    mkdir -p "$(dirname "$target")"
    vqzip compress "$photo" -q "$quality" -o "$target" -v || failed=1
done < <(find "$photos" -type f \( -iname '*.jpg' -o -iname '*.jpeg' -o -iname '*.png' \) -print0)

exit "$failed"
