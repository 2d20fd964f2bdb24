#!/usr/bin/env bash
# Brings a Debian machine to where Skerry builds (and, with "test", where its real-client tests run).
# Installs only what is missing, uses sudo only for that, and says plainly what it cannot do itself.
#
#   deploy/setup/setup.sh build
#   deploy/setup/setup.sh test
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
want=${1:-build}

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$@" >&2; exit 1; }

# What is there already in another form (a newer Node.js, a Chromium elsewhere) is not installed again.
present() {
  case $1 in
    nodejs) command -v node >/dev/null ;;
    npm) command -v npm >/dev/null ;;
    python3) command -v python3 >/dev/null ;;
    chromium) [ -n "${CHROMIUM:-}" ] || [ -x /usr/bin/chromium ] ;;
    *) dpkg -s "$1" >/dev/null 2>&1 ;;
  esac
}

packages() {
  local lists=("$here/build.packages") missing=() name root=()
  [ "$want" = test ] && lists+=("$here/test.packages")
  while read -r name; do present "$name" || missing+=("$name"); done < <(cat "${lists[@]}")
  [ ${#missing[@]} -eq 0 ] && return
  command -v apt-get >/dev/null || die "these packages are missing, and there is no apt-get to install them:" "  ${missing[*]}"
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || die "these packages are missing; as root, type:" "  apt-get install ${missing[*]}"
    root=(sudo)
  fi
  say "installing ${missing[*]}"
  "${root[@]}" apt-get -o DPkg::Lock::Timeout=300 update -qq
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

toolchain() {
  local needed found
  needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$here/../../Cargo.toml")
  if ! command -v cargo >/dev/null; then
    die "there is no Rust toolchain; install one (Rust $needed or newer) by typing" \
      "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh" \
      "then open a new shell and try again."
  fi
  found=$(rustc --version | cut -d' ' -f2)
  if [ "$(printf '%s\n%s\n' "$needed" "$found" | sort -V | head -n1)" != "$needed" ]; then
    die "Rust $found is too old, Skerry needs $needed; with rustup, type" "  rustup update stable" \
      "(Debian's own rustc is usually too old: install rustup from https://rustup.rs instead)"
  fi
}

packages
toolchain
