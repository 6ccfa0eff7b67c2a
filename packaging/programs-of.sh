#!/usr/bin/env bash
# Builds the programs of another commit, for an upgrade that starts with them.
#
#   packaging/programs-of.sh COMMIT TARGET    prints the folder they are in
#
# Built in a worktree below the target folder TARGET, together with whatever that has of their
# dependencies already. They are kept: asked for again, they are there at once.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[ $# -eq 2 ] || { echo "usage: packaging/programs-of.sh COMMIT TARGET" >&2; exit 2; }
commit=$(git -C "$root" rev-parse --verify --quiet "$1^{commit}") \
    || { echo "upgrade: $1 is no commit of this repository" >&2; exit 3; }
target=$(mkdir -p "$2" && cd "$2" && pwd)
folder=$target/upgrade/$commit
source=$target/upgrade/source-$commit

if [ ! -x "$folder/strowgerd" ]; then
    git -C "$root" worktree prune
    [ -e "$source/.git" ] \
        || git -C "$root" worktree add --quiet --detach --force "$source" "$commit" >&2
    CARGO_TARGET_DIR=$target "$source/packaging/setup.sh" run \
        cargo build --locked --release -p strowger-node -p strowger >&2
    # Under their names only when they are whole; the next build overwrites those in TARGET.
    rm -rf "$folder.part"
    mkdir -p "$folder.part"
    cp "$target/release/strowgerd" "$target/release/strowger" "$folder.part/"
    rm -rf "$folder"
    mv -T "$folder.part" "$folder"
    git -C "$root" worktree remove --force "$source" >&2
fi
printf '%s\n' "$folder"
