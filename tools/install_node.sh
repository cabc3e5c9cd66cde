#!/bin/sh
# Sees to it that Node and npm are there, for the test of a client in another language.
#
# Where they are missing, root on Debian gets the packages. Anybody else is told their names, and
# goes without that one test; not in CI, where nothing may be left out.
set -eu

if command -v node >/dev/null && command -v npm >/dev/null; then
    exit
fi

if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    echo "   installing nodejs and npm"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nodejs npm >/dev/null
    exit
fi

echo "   Node or npm is missing: install them (apt-get install nodejs npm) to run the test of the Node client" >&2
[ -z "${CI:-}" ]
