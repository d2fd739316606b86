#!/usr/bin/env bash
# Makes .venv, with all that is needed to run thumbproxy (`setup.sh run`), to check and test it
# (`setup.sh test`) or to measure it (`setup.sh bench`). The Makefile calls it when needed.
#
# Debian's packages are installed when they are missing and we are root or have sudo.
# PYTHON names the interpreter to use (python3 by default); pip and apt obey their own settings.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

what=${1:-run}
python=${PYTHON:-python3}
venv=.venv
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

check_python() {
    command -v "$python" >/dev/null ||
        die "There is no $python. Install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "$("$python" --version) is too old: thumbproxy needs Python 3.11 or newer (make PYTHON=/path/to/python3)."
}

# The Debian packages for $what, one per line; those of Python only where $python lacks them.
wanted_packages() {
    # Pillow-SIMD is compiled here; its wheels are not published.
    printf '%s\n' gcc libc6-dev libjpeg62-turbo-dev zlib1g-dev libwebp-dev liblcms2-dev
    "$python" -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
    has_headers || echo python3-dev
    # pylibmc publishes wheels for Python 3.11; for others it is compiled too.
    "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || echo libmemcached-dev
    if [ "$what" = test ]; then
        # The tests start real ones, on ports of their own.
        command -v memcached >/dev/null || [ -x /usr/bin/memcached ] || echo memcached
        [ -x /usr/sbin/nginx ] || command -v nginx >/dev/null || echo nginx-light
        # A bare Debian, in which a newcomer's path is tried.
        command -v debootstrap >/dev/null || [ -x /usr/sbin/debootstrap ] || echo debootstrap
        # A certificate for origins over TLS.
        command -v openssl >/dev/null || echo openssl
        # What the examples of the documentation are run by.
        command -v curl >/dev/null || echo curl
        command -v ps >/dev/null || echo procps
        command -v node >/dev/null || echo nodejs
        command -v php >/dev/null || echo php-cli
        command -v ruby >/dev/null || echo ruby
    fi
}

has_headers() {
    [ -e "$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ]
}

missing_packages() {
    local package
    wanted_packages | while read -r package; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' ||
            echo "$package"
    done
}

install_packages() {
    local missing as_root=() package
    if ! command -v dpkg-query >/dev/null; then
        say "This is not Debian; these must be here under their local names: $(wanted_packages | xargs)"
        return
    fi
    missing=$(missing_packages | xargs)
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null ||
            die "These Debian packages are missing, and there is neither root nor sudo to install them: $missing"
        as_root=(sudo)
    fi
    say "Installing Debian packages: $missing"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq update
    # shellcheck disable=SC2086 # a list of words
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq install -y --no-install-recommends $missing >&2
    # Debian starts the services it installs. We came for the programs, not for servers on
    # their standard ports.
    for package in memcached nginx-light; do
        if [ -d /run/systemd/system ] && [[ " $missing " == *" $package "* ]]; then
            "${as_root[@]}" systemctl --quiet disable --now "${package%-light}" || true
        fi
    done
}

make_venv() {
    if ! "$venv/bin/python" -c '' 2>/dev/null; then
        say "Making $venv with $("$python" --version)"
        rm -rf "$venv"
        "$python" -m venv "$venv" ||
            die "$python cannot make a virtual environment; its venv and ensurepip modules are needed."
    fi
    # Debian 12's pip is too old for dependency groups.
    "$venv/bin/pip" install --quiet --constraint constraints.txt pip
}

# Pillow-SIMD, compiled for this processor and kept in .venv/wheels. The instruction set is part
# of the folder's name, and pip's own cache is left out of it: that may hold a slower build.
# What does not need it is installed meanwhile.
install_pillow() {
    local simd=sse4 wheels version compiling
    version=$(sed -n 's/^pillow-simd==//p' constraints.txt)
    if [ "$(uname -m)" != x86_64 ]; then
        say "Pillow-SIMD is for x86-64; plain Pillow is used instead"
        return
    fi
    ! grep -qw avx2 /proc/cpuinfo || simd=avx2
    wheels=$venv/wheels/$simd
    has_headers || die "$python has no C headers (Python.h), which compiling Pillow-SIMD needs."
    say "Pillow-SIMD $version with ${simd^^} (compiling it takes about a minute)"
    scripts/pillow-simd.sh "$simd" "$wheels" "$venv/bin/pip" &
    compiling=$!
    install_groups || { kill "$compiling"; wait "$compiling"; exit 1; }
    wait "$compiling"
    "$venv/bin/pip" install --quiet --no-deps --no-index "$wheels"/pillow_simd-"$version"-*.whl
}

install_groups() {
    [ ${#groups[@]} = 0 ] || install_python_packages "${groups[@]}"
}

install_python_packages() {
    say "Installing Python packages"
    # Of uWSGI, what Python needs, in a third of the time that all of it takes to compile.
    UWSGI_PROFILE=pyonly APPEND_CFLAGS=-O0 \
        "$venv/bin/pip" install --quiet --constraint constraints.txt \
        --build-constraint constraints.txt "$@"
}

case $what in
    run) groups=() ;;
    test) groups=(--group test --group lint) ;;
    bench) groups=(--group bench) ;;
    *) die "What is '$what'? It is run, test or bench." ;;
esac
check_python
install_packages
make_venv
install_pillow
install_python_packages "${groups[@]}" --editable ".[all]"
