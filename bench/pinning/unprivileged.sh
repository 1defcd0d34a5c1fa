#!/bin/sh
# The pinning benchmark as an unprivileged user who may lock this many KiB, on the RDMA device of the test VM. In a built checkout:
#
#   npm run build:examples && npm run vm -- --device siw -- sh bench/pinning/unprivileged.sh 65536 --mib 1024 --budget 60 --only-budgets --rounds 0
#
# Exits with 1 if the kernel counted more pinned memory than the budget and the control buffers.
set -e
kib=$1
shift
ulimit -l "$kib"
here=$(cd "$(dirname "$0")/../.." && pwd)
exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all \
  node "$here/build/node/bench/pinning/main.js" --provider verbs --host "${RDMA_MIGRATE_VM_ADDRESS:-127.0.0.1}" "$@"
