#!/bin/sh
# Makes sure that what a build needs is there, and makes .venv. Missing packages are installed
# with apt-get where we are root or have sudo; otherwise the exact line is printed and we stop.
# The interpreter: $PYTHON where set, else the newest python3 of at least 3.11 with its headers.
# With the argument "test" also what tests need: a C++ compiler for the emulated GPU.
set -eu
purpose=${1:-build}
cd "$(dirname "$0")/.."

oldest="(3, 11)"

# A Python that can make environments and build extensions; a pyenv Python has headers of its own.
usable() {
    command -v "$1" >/dev/null 2>&1 && "$1" - >/dev/null 2>&1 <<EOF
import ensurepip, os, sys, sysconfig, venv
ok = sys.version_info >= $oldest and os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h"))
sys.exit(not ok)
EOF
}

find_python() {
    for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
        if usable "$candidate"; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
}

recent() { command -v "$1" >/dev/null 2>&1 && "$1" -c "import sys; sys.exit(sys.version_info < $oldest)" >/dev/null 2>&1; }

python_packages() {
    if recent python3; then
        version=$(python3 -c 'import sys; print("python3.%d" % sys.version_info[1])')
        case $(python3 -c 'import sys; print(sys.prefix)') in
            /usr) echo "$version-venv $version-dev" ;;
            *) echo "python3 python3-venv python3-dev" ;;
        esac
        return
    fi
    # The system's own, if it is recent enough; else one beside it, as Ubuntu 22.04 has.
    if apt-cache policy python3 2>/dev/null | grep -Eq 'Candidate: 3\.(1[1-9]|[2-9][0-9])'; then
        echo "python3 python3-venv python3-dev"
    else
        echo "python3.11 python3.11-venv python3.11-dev"
    fi
}

includes() { printf '#include <stdio.h>\n#include <%s>\n' "$1" | "$compiler" -fopenmp -E -x c - >/dev/null 2>&1; }

missing_packages() {
    compiler=${CC:-cc}
    command -v make >/dev/null 2>&1 || echo make
    if ! command -v "$compiler" >/dev/null 2>&1 || ! includes stddef.h; then
        echo gcc libc6-dev libstb-dev
    else
        includes omp.h || echo libomp-dev
        includes stb/stb_image.h || echo libstb-dev
    fi
    if [ "$purpose" = test ] && ! command -v "${CXX:-c++}" >/dev/null 2>&1; then echo g++; fi
    if [ -z "$(find_python)" ]; then python_packages; fi
}

list_missing() { missing_packages | tr '\n' ' ' | sed 's/ *$//'; }

# Sets sudo, the prefix of commands that need root; false where there is no way.
may_install() {
    sudo=
    [ "$(id -u)" -eq 0 ] && return
    sudo=sudo
    command -v sudo >/dev/null 2>&1 && { sudo -n true 2>/dev/null || [ -t 0 ]; }
}

install_missing() {
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "facsnet needs what Debian calls: $(list_missing)" >&2
        echo "Install these with your system's package manager, then run make again." >&2
        exit 1
    fi
    line="apt-get install -y --no-install-recommends"
    if ! may_install; then
        echo "facsnet needs some packages. Run as root, then run make again:" >&2
        echo "    apt-get update && $line $(list_missing)" >&2
        exit 1
    fi
    $sudo apt-get update -q # first: what is missing depends on what the lists offer
    packages=$(list_missing)
    echo "installing: $packages"
    $sudo env DEBIAN_FRONTEND=noninteractive $line $packages
    packages=$(list_missing)
    if [ -n "$packages" ]; then
        echo "facsnet: still missing after the installation: $packages" >&2
        exit 1
    fi
}

[ -z "$(list_missing)" ] || install_missing

if ! .venv/bin/python -c 'import sys' >/dev/null 2>&1; then
    python=$(find_python)
    echo "making .venv with $python"
    rm -rf .venv
    "$python" -m venv .venv
fi
