#!/bin/sh
# Installs Keywatch as the image has it: deploy/install.sh FOLDER
# FOLDER becomes a virtual environment with the locked packages of the product (not of its developers) and
# the wheel of this checkout. Needs Python 3.11 or newer with pip (PYTHON=python3.13 chooses another one).
set -eu

if [ $# -ne 1 ]; then
    echo "usage: deploy/install.sh FOLDER" >&2
    exit 2
fi
folder=$1
python=${PYTHON:-python3}
if [ -e "$folder" ]; then
    echo "install: $folder exists; name a new folder" >&2
    exit 2
fi
case $folder in /*) ;; *) folder=$PWD/$folder ;; esac
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV

# pip and the build backend stay outside: FOLDER has what runs, and nothing that builds or installs.
"$python" -m venv "$scratch/tools"
"$python" -m venv --without-pip "$folder"
pip="$scratch/tools/bin/python -m pip --no-input --disable-pip-version-check"

# Wheels only, by their hashes, as `make setup` does it.
echo "install: the locked packages into $folder"
$pip install -qq --no-deps --require-hashes --only-binary :all: -r deploy/build.lock
$pip --python "$folder/bin/python" install -qq --no-deps --require-hashes --only-binary :all: \
    -r deploy/requirements.lock

echo "install: this checkout"
"$scratch/tools/bin/python" -m hatchling build -t wheel -d "$scratch/wheel" >"$scratch/log" 2>&1 || {
    cat "$scratch/log" >&2
    exit 1
}
$pip --python "$folder/bin/python" install -qq --no-index --no-deps "$scratch"/wheel/*.whl

"$folder/bin/keywatch" --version >/dev/null
echo "install: $(du -sm "$folder" | cut -f1) MB in $folder"
