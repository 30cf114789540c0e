#!/usr/bin/env bash
# Everything that needs a GPU, in one call, on a machine without Node and without a network.
#
#   bench/gpu.sh pack DIR            here: what such a machine needs, with Node, as DIR/heddle-gpu.tar.xz
#   bench/gpu.sh run DIR [--quick]   there, in the unpacked folder: build, verify, sanitize, time; results in DIR
#
# `run` goes on after a step that fails; it says at the end which did, and its status tells. NVRTC is found like heddle finds it: CUDA_PATH, a
# toolkit, pip's packages. `pack` takes it along where CUDA_PATH names one and HEDDLE_PACK_NVRTC is 1.
set -uo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
say() { echo "== $*" >&2; }
usage() {
  sed -n '2,9p' "$0" >&2
  exit 2
}

pack() {
  local out=$1
  mkdir -p "$out" && room=$(mktemp -d) || return 1
  # Not local: the trap runs after this function.
  trap 'rm -rf "${room:-}"' EXIT
  cd "$here" || return 1
  say "build"
  # Not into dist/, which others may be using.
  npx tsc -p tsconfig.build.json --outDir "$room/dist" || return 1
  cp package.json "$room/" && mkdir -p "$room/runtime/native" "$room/bench/gpu" || return 1
  cp runtime/native/*.[ch] "$room/runtime/native/" && cp -r examples "$room/" || return 1
  cp bench/gpu.sh "$room/bench/" && cp bench/gpu/* "$room/bench/gpu/" || return 1
  local module
  npm ls --omit=dev --all --parseable 2> /dev/null | tail -n +2 | while IFS= read -r module; do
    mkdir -p "$room/$(dirname "${module#"$here"/}")" && cp -r "$module" "$room/${module#"$here"/}"
  done || return 1
  say "shim, for a machine without a C compiler"
  HEDDLE_CACHE="$room/cache" node "$room/dist/src/cli/main.js" cuda build > /dev/null || return 1
  say "node"
  xz -T0 -6 -c "$(readlink -f "$(command -v node)")" > "$room/node.xz" || return 1
  if [ "${HEDDLE_PACK_NVRTC:-0}" = 1 ] && [ -n "${CUDA_PATH:-}" ]; then
    mkdir -p "$room/nvrtc/lib" && cp "$CUDA_PATH"/lib*/libnvrtc.so.1? "$CUDA_PATH"/lib*/libnvrtc-builtins.so.1?.* "$room/nvrtc/lib/" || return 1
  fi
  tar -C "$room" -cJf "$out/heddle-gpu.tar.xz" . && ls -l "$out/heddle-gpu.tar.xz"
}

failed=()
# step NAME COMMAND…: its output goes to NAME.log too.
step() {
  local name=$1 start=$SECONDS
  shift
  say "$name"
  if "$@" > >(tee "$out/$name.log") 2>&1; then
    echo "$name ok $((SECONDS - start)) s" >> "$out/steps.txt"
  else
    echo "$name FAILED $((SECONDS - start)) s" >> "$out/steps.txt"
    failed+=("$name")
  fi
}
skip() {
  say "$1: left out: $2"
  echo "$1 left out: $2" >> "$out/steps.txt"
}

run() {
  out=$1
  local quick=${2:-} tool sanitizer lengths=33,257
  mkdir -p "$out" && out=$(cd "$out" && pwd) && : > "$out/steps.txt" || return 1
  cd "$here" || return 1
  node=$(command -v node || true)
  if [ -f node.xz ]; then
    [ -x .node ] || { xz -dc node.xz > .node && chmod +x .node; } || return 1
    node=$here/.node
  fi
  [ -n "$node" ] || { say "there is no node and no node.xz beside bench/"; return 1; }
  export HEDDLE_CACHE=${HEDDLE_CACHE:-$here/cache}
  [ -d nvrtc ] && export CUDA_PATH=${CUDA_PATH:-$here/nvrtc}
  local heddle=("$node" dist/src/cli/main.js)
  [ "$quick" = --quick ] && lengths=17

  step build "${heddle[@]}" cuda build
  step devices "${heddle[@]}" devices
  step info "${heddle[@]}" cuda info
  if ! grep -q '^cuda  *yes' "$out/devices.log"; then
    say "CUDA is not usable here: see $out/devices.log"
    return 1
  fi
  local spec
  for spec in bench/gpu/small.heddle $([ "$quick" = --quick ] || echo examples/jargon.heddle examples/gigapath.heddle); do
    step "verify-$(basename "$spec" .heddle)" "${heddle[@]}" verify "$spec" --device cuda --length "$lengths" --seed 1
  done
  sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda*/bin/compute-sanitizer 2> /dev/null | head -1 || true)
  for tool in memcheck racecheck initcheck synccheck; do
    if [ -z "$sanitizer" ]; then
      skip "$tool" "there is no compute-sanitizer"
      continue
    fi
    step "$tool" "$sanitizer" --tool "$tool" --error-exitcode 9 --target-processes all \
      "${heddle[@]}" verify bench/gpu/small.heddle --device cuda --length 17 --seed 1
  done
  step repeat "$node" bench/gpu/repeat.mjs ${quick:+--quick}
  if [ -f examples/jargon/jargon.safetensors ] && [ "$quick" != --quick ]; then
    step model "$node" bench/gpu/model.mjs --out "$out/model.json"
  else
    skip model "the jargon model is long, or is not here"
  fi
  if "${heddle[@]}" cuda info | grep -q '^cublaslt  *[0-9]'; then
    step verify-cublaslt "${heddle[@]}" verify bench/gpu/small.heddle --device cuda --linear cublaslt --length "$lengths" --seed 1
    step linear "$node" bench/gpu/linear.mjs --out "$out/linear.json" ${quick:+--quick}
  else
    skip linear "there is no libcublasLt"
  fi
  step time "$node" bench/gpu/time.mjs --out "$out/heddle.json" ${quick:+--quick}
  if python3 -c 'import torch; assert torch.cuda.is_available()' 2> /dev/null; then
    step torch python3 bench/gpu/baselines.py --out "$out/torch.json" ${quick:+--quick}
  else
    skip torch "python3 has no torch with CUDA"
  fi
  step table "$node" bench/gpu/table.mjs "$out"
  cat "$out/steps.txt" >&2
  [ ${#failed[@]} -eq 0 ] || { say "failed: ${failed[*]}"; return 1; }
}

case ${1:-} in
  pack) [ $# -eq 2 ] || usage; pack "$2" ;;
  run) [ $# -ge 2 ] || usage; run "$2" "${3:-}" ;;
  *) usage ;;
esac
