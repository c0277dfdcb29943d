#!/usr/bin/env bash
# What a release consists of, for release.yml; all of it can be tried here:
#   release.sh check TAG         the tag is the version in Cargo.toml, and CHANGELOG.md has a section of that version with its date
#   release.sh pack TAG TARGET   target/archives/engine-VERSION-TARGET.tar.gz, or .zip on Windows, of target/release/engine
#   release.sh notes TAG         the section of the changelog
set -euo pipefail
cd "$(dirname "$0")/.."
version=${2:-}
version=${version#v}

check() {
  local here
  here=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
  test "$version" = "$here" || { echo "the tag is of $version, but Cargo.toml has $here" >&2; exit 1; }
  grep -Eq "^## ${version//./\\.} - [0-9]{4}-[0-9]{2}-[0-9]{2}\$" CHANGELOG.md || {
    echo "CHANGELOG.md has no section \"## $version - DATE\"" >&2
    exit 1
  }
}

notes() {
  awk -v start="## $version - " 'index($0, "## ") == 1 { here = index($0, start) == 1; next } here' CHANGELOG.md
}

pack() {
  local name=engine-$version-$1 program=target/release/engine
  if [ -e "$program.exe" ]; then program=$program.exe; fi
  mkdir -p target/archives
  cd target/archives
  rm -rf "$name"
  mkdir -p "$name/completions" "$name/data" "$name/benches"
  cp "../../$program" ../../{README,ARCHITECTURE,CONTRIBUTING,CHANGELOG,SECURITY}.md ../../LICENSE* "$name"
  # The commands of README and guide name these.
  cp -R ../../guide "$name"
  cp -R ../../data/README.md ../../data/runs ../../data/samples "$name/data"
  cp -R ../../benches/results "$name/benches"
  "../../$program" completions --man "$name/man"
  for shell in bash elvish fish powershell zsh; do "../../$program" completions $shell >"$name/completions/engine.$shell"; done
  case $1 in
    *windows*) 7z a -bso0 "$name.zip" "$name" ;;
    *) tar -czf "$name.tar.gz" "$name" ;;
  esac
  rm -r "$name"
}

case ${1:-} in
  check) check ;;
  notes) notes ;;
  pack) pack "$3" ;;
  *) sed -n '2,5s/^# //p' "$0" >&2; exit 2 ;;
esac
