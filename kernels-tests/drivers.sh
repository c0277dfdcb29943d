#!/usr/bin/env bash
# Checks the kernels on a second Vulkan driver, SwiftShader, which shares nothing with Mesa or LLVM; and on Mesa's driver for processors with vectors of
# 512 bits, for which some kernels have a variant, where processor and driver can. SwiftShader comes from Debian's package chromium-common and is kept
# under target/. FEATURES are those that `make test` built; with ENGINE_TESTS=all every case is checked. What has passed is written to passed.txt.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$PWD/target/swiftshader
icd=$folder/usr/lib/chromium/vk_swiftshader_icd.json
# What ENGINE_SKIPS=fail asks for is that nothing is left out.
skip() {
  echo "test-drivers: skipped, as $1"
  test "${ENGINE_SKIPS:-}" != fail
  exit
}
if [ ! -f "$icd" ]; then
  if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    skip "SwiftShader is taken from Debian's package chromium-common and apt-get or dpkg-deb is not here"
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
tests() { cargo test --features "$FEATURES" --test kernels-tests -- "$@"; }
# What looks at the cases alone is the same on every driver.
kernels() { tests kernels:: --skip every_pair_of_options --skip products_have_every_pair --skip oracles_agree; }
VK_DRIVER_FILES=$icd ENGINE_DEVICE=swiftshader ENGINE_TESTS=${ENGINE_TESTS:-changed} kernels
if ! grep -qs avx512f /proc/cpuinfo; then
  echo "test-drivers: this processor has no vectors of 512 bits"
elif ! LP_NATIVE_VECTOR_WIDTH=512 ENGINE_DEVICE=llvmpipe ENGINE_TESTS=${ENGINE_TESTS:-twentieth} kernels; then
  exit 1
fi
tests record
