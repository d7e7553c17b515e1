#!/usr/bin/env bash
# Train a model on a folder of photos, and compress a photo with it:
#
#     examples/train_your_own.sh PHOTOS MODEL [OPTIONS OF vqzip train, such as --minutes 60]
#
# Run it again to resume, or with more minutes to train longer.
set -euo pipefail

photos=$1 model=$2 photo=$(dirname "$0")/photo.png

vqzip train "$photos" --out "$model" "${@:3}"
vqzip compress -f "$photo" --model "$model" -o "$model/photo.vqz" -v
vqzip decompress -f "$model/photo.vqz" --model "$model" -o "$model/photo.png"
