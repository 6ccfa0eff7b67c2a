#!/usr/bin/env bash
# Prepares a Debian machine that has only rustup, and runs cargo with what was prepared.
#
#   packaging/setup.sh build         what a build needs: packages, toolchain, RocksDB
#   packaging/setup.sh test          the same and the phones the tests use
#   packaging/setup.sh bench         the same and what captures packets
#   packaging/setup.sh run CMD ...   CMD with the prepared library in its environment
#
# Does nothing, within a fraction of a second, when everything is there. RocksDB is
# built once per machine and compiler into STROWGER_CACHE (default: the user's cache
# folder); when that fails, cargo builds it from source inside the target folder.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${STROWGER_CACHE:-${XDG_CACHE_HOME:-${HOME:?HOME is not set}/.cache}/strowger}

build_packages=(g++ make libclang-dev ccache)
test_packages=(sip-tester baresip-core iproute2 nftables procps)
bench_packages=(tshark)

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# Installs what is missing of the packages given; $1 says what they are for.
need_packages() {
    local purpose=$1 missing=() package as_root=()
    shift
    command -v dpkg-query >/dev/null || fail "this is not Debian; please install by hand: $*"
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' \
            || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    if [ "$(id -u)" -ne 0 ]; then
        if ! sudo -n true 2>/dev/null; then
            fail "$purpose needs Debian packages and this user may not install them." \
                "Please run, as root: apt-get install ${missing[*]}"
        fi
        as_root=(sudo -n)
    fi
    say "installing ${missing[*]} (for $purpose) with apt"
    local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y
        -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300)
    "${apt[@]}" install --no-install-recommends "${missing[@]}" >&2 && return
    say "fetching the package lists and trying again"
    "${apt[@]}" update >&2
    "${apt[@]}" install --no-install-recommends "${missing[@]}" >&2 \
        || fail "apt could not install ${missing[*]}; see its message above"
}

# Uses the pinned toolchain under whatever name it is installed, so that a machine whose
# `stable` is the pinned version does not download it again.
choose_toolchain() {
    command -v cargo >/dev/null || [ ! -x "$HOME/.cargo/bin/cargo" ] \
        || export PATH="$HOME/.cargo/bin:$PATH"
    command -v cargo >/dev/null || fail "cargo is missing; please install rustup (rustup.rs)"
    [ -z "${RUSTUP_TOOLCHAIN:-}" ] || return 0
    command -v rustup >/dev/null || return 0
    local pinned name
    pinned=$(sed -n 's/^channel = "\(.*\)"$/\1/p' "$root/rust-toolchain.toml")
    local installed
    installed=$(rustup toolchain list 2>/dev/null | cut -d' ' -f1)
    if ! grep -q "^$pinned-" <<<"$installed"; then
        for name in $installed; do
            if [ "$(rustc "+$name" --version 2>/dev/null | cut -d' ' -f2)" = "$pinned" ]; then
                export RUSTUP_TOOLCHAIN=$name
                return 0
            fi
        done
        say "installing Rust $pinned (pinned in rust-toolchain.toml) with rustup"
        rustup toolchain install "$pinned" --profile minimal -c rustfmt -c clippy >&2 \
            || fail "rustup could not install Rust $pinned"
    fi
    export RUSTUP_TOOLCHAIN=$pinned
}

# Names the folder of the library for this version, compiler and set of features.
rocksdb_folder() {
    local version key
    version=$(sed -n '/^name = "librocksdb-sys"$/{n;s/^version = "\([^"]*\)"$/\1/p}' \
        "$root/Cargo.lock")
    [ -n "$version" ] || return 1
    key=$({
        grep -m1 '^rocksdb = ' "$root/Cargo.toml"
        "${CXX:-c++}" -dumpfullversion
        "${CXX:-c++}" -dumpmachine
        printf '%s\n' "${RUSTFLAGS:-}"
    } 2>/dev/null | sha256sum | cut -c1-12)
    printf '%s/rocksdb-%s-%s\n' "$cache" "${version%%+*}" "$key"
}

# Builds the library in a scratch project and renames it into place as a whole.
build_rocksdb() (
    folder=$1
    mkdir -p "$cache"
    exec 9>"$folder.lock"
    flock 9
    [ ! -f "$folder/librocksdb.a" ] || exit 0
    say "building RocksDB once for this machine into $folder (10 to 30 minutes)"
    scratch=$cache/scratch-$$
    trap 'rm -rf "$scratch"' EXIT
    mkdir -p "$scratch/src"
    printf 'fn main() {}\n' >"$scratch/src/main.rs"
    {
        printf '[package]\nname = "scratch"\nversion = "0.0.0"\nedition = "2024"\n'
        printf '[workspace]\n[dependencies]\n'
        grep -m1 '^rocksdb = ' "$root/Cargo.toml"
    } >"$scratch/Cargo.toml"
    cp "$root/Cargo.lock" "$scratch/Cargo.lock"
    unset ROCKSDB_LIB_DIR ROCKSDB_STATIC CARGO_TARGET_DIR
    if command -v ccache >/dev/null; then
        export CC="ccache ${CC:-cc}" CXX="ccache ${CXX:-c++}"
    fi
    (cd "$scratch" && cargo build --release --quiet -p librocksdb-sys) >&2 || exit 1
    library=$(find "$scratch/target/release/build" -path '*/out/librocksdb.a' -print -quit)
    [ -n "$library" ] || exit 1
    # Not `grep -q`: it would end at the first hit and nm would fail on the closed pipe.
    nm -g --defined-only "$library" 2>/dev/null | grep ' T rocksdb_open$' >/dev/null || exit 1
    mkdir -p "$scratch/done"
    cp "$library" "$scratch/done/librocksdb.a"
    rm -rf "$folder"
    mv -T "$scratch/done" "$folder"
)

prepare_rocksdb() {
    local folder
    folder=$(rocksdb_folder) || { say "Cargo.lock names no librocksdb-sys"; return 0; }
    [ -f "$folder/librocksdb.a" ] && return
    build_rocksdb "$folder" \
        || say "RocksDB could not be prepared; cargo will build it from source"
}

# Exports the prepared library, unless the caller names one of his own.
use_rocksdb() {
    [ -z "${ROCKSDB_LIB_DIR:-}" ] || return 0
    local folder
    folder=$(rocksdb_folder) || return 0
    [ -f "$folder/librocksdb.a" ] || return 0
    export ROCKSDB_LIB_DIR=$folder ROCKSDB_STATIC=1
}

case ${1:-} in
build | test | bench)
    need_packages "the build" "${build_packages[@]}"
    [ "$1" = build ] || need_packages "the tests" "${test_packages[@]}"
    [ "$1" != bench ] || need_packages "measuring" "${bench_packages[@]}"
    choose_toolchain
    [ -n "${ROCKSDB_LIB_DIR:-}" ] || prepare_rocksdb
    ;;
run)
    shift
    [ $# -gt 0 ] || fail "run: which command?"
    choose_toolchain
    use_rocksdb
    cd "$root"
    exec "$@"
    ;;
*)
    fail "usage: packaging/setup.sh build | test | bench | run COMMAND ..."
    ;;
esac
