#!/bin/sh
# Creates a virtual environment with pip: create_venv.sh PYTHON DIRECTORY
#
# Debian keeps ensurepip in a package of its own (python3-venv). Where that is missing, virtualenv,
# fetched with the system's pip into a folder beside the environment, does the same work; where pip
# is missing too, root on Debian gets the package and anybody else is told its name.
set -eu

python=$1
venv=$2

rm -rf "$venv"

if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    exec "$python" -m venv "$venv"
fi

if "$python" -m virtualenv --version >/dev/null 2>&1; then
    exec "$python" -m virtualenv --quiet "$venv"
fi

if "$python" -m pip --version >/dev/null 2>&1; then
    bootstrap=$(mktemp -d)
    trap 'rm -rf "$bootstrap"' EXIT
    "$python" -m pip install -qq --target "$bootstrap" virtualenv
    PYTHONPATH=$bootstrap "$python" -m virtualenv --quiet "$venv"
    exit
fi

package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    echo "   $python cannot create virtual environments: installing $package"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null
    exec "$python" -m venv "$venv"
fi

echo "$python cannot create virtual environments: install $package (apt-get install $package), then run make again" >&2
exit 1
