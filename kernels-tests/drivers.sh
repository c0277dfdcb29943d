#!/usr/bin/env bash
# Checks every kernel in all its variants on a second Vulkan driver, SwiftShader, which shares nothing with Mesa or LLVM; and on Mesa's driver for
# processors with vectors of 512 bits, for which some kernels have a variant, where processor and driver can. SwiftShader comes from Debian's package
# chromium-common and is kept under target/. CASES is the number of cases of each family; FEATURES are those that `make test` built.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$PWD/target/swiftshader
icd=$folder/usr/lib/chromium/vk_swiftshader_icd.json
if [ ! -f "$icd" ]; then
  if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    echo "test-drivers: skipped, as SwiftShader is taken from Debian's package chromium-common and apt-get or dpkg-deb is not here"
    exit 0
  fi
  mkdir -p "$folder"
  cd "$folder"
  if ! apt-get download -qq chromium-common; then
    echo "test-drivers: apt-get finds no package chromium-common (Debian has it): run apt-get update, or leave this check out" >&2
    exit 1
  fi
  dpkg-deb -x chromium-common_*.deb .
  rm chromium-common_*.deb
  cd - >/dev/null
fi
# As `cargo test` builds it: what only tests depend on gives some of its dependencies other features, and a build of its own would begin anew.
cargo test --release --features "$FEATURES" --test kernels-tests --no-run
# Each check has one thread: both run at once, and the second one's table comes when the first has ended.
VK_DRIVER_FILES=$icd target/release/engine check --device swiftshader --cases "$CASES" &
first=$!
trap 'kill $first 2>/dev/null || true' EXIT
wide=
if grep -qs avx512f /proc/cpuinfo && target/release/engine devices | grep -q llvmpipe; then
  # The same compiler as in the tests before, with other variants: a few cases of each.
  wide=$(LP_NATIVE_VECTOR_WIDTH=512 target/release/engine check --device llvmpipe --cases 16) || { echo "$wide"; exit 1; }
fi
wait $first
echo "$wide"
