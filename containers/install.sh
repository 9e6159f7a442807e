#!/bin/sh
# Installs wsi_mil with all extras from this source tree, with the versions in envs/constraints.txt, for the `python3` on the PATH.
# The steps of Dockerfile and wsi_mil.def.
#   containers/install.sh cpu   torch's smaller CPU build
#   containers/install.sh gpu   torch from PyPI, which brings CUDA
set -eu
cd "$(dirname "$0")/.."
case "${1:-}" in
  cpu) index="--extra-index-url https://download.pytorch.org/whl/cpu" ;;
  gpu) index="" ;;
  *) echo "usage: containers/install.sh cpu|gpu" >&2; exit 2 ;;
esac
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "install.sh: Python 3.11 or newer is needed" >&2; exit 1; }
# shellcheck disable=SC2086 # two words, or none
python3 -m pip install --no-cache-dir --disable-pip-version-check $index --constraint envs/constraints.txt '.[all]'
cd / # away from the sources
wsi-mil --version
python3 -m snakemake --version
