# In the bench's VM, after init.sh: mounts the checkout and the kernel's modules, creates the RDMA device, runs the job and
# writes its exit status. Everything about this run is in settings.sh, next to this file.
. /run/bench/settings.sh
PATH=/usr/sbin:/usr/bin:/sbin:/bin

leave() { # STATUS
  echo "$1" >/run/bench/status.new
  mv /run/bench/status.new /run/bench/status
  sync
  echo b >/proc/sysrq-trigger
  sleep 60
}

give_up() {
  echo "bench: $*" >/dev/console
  echo b >/proc/sysrq-trigger
  sleep 60
}

mount_share() { # TAG FOLDER
  mkdir -p "$2"
  mount -t 9p -o "ro,cache=loose,trans=virtio,version=9p2000.L,msize=512000" "$1" "$2" || give_up "cannot mount $1"
}

mount_checkout() {
  mkdir -p /run/checkout/lower /run/checkout/upper /run/checkout/work "$CHECKOUT"
  mount_share checkout /run/checkout/lower
  mount -t overlay overlay "$CHECKOUT" \
    -o lowerdir=/run/checkout/lower,upperdir=/run/checkout/upper,workdir=/run/checkout/work || give_up 'cannot mount the checkout'
}

# What memory.ts has packed covers the shares, in memory.
load_memory() {
  [ -f /run/bench/memory.tar ] || return
  for folder in dist node_modules build/node build/Release; do
    mount -t tmpfs tmpfs "$CHECKOUT/$folder" || give_up "cannot cover $folder"
  done
  tar -xf /run/bench/memory.tar -C "$CHECKOUT" || give_up 'cannot unpack memory.tar'
}

set_up_network() {
  hostname bench
  ip link set lo up
  ip address add 10.0.2.15/24 dev eth0
  ip link set eth0 up
  ip route add default via 10.0.2.2
}

set_up_device() {
  [ "$DEVICE" = none ] && return
  modprobe -a ib_uverbs rdma_ucm crc32_generic || give_up 'cannot load the RDMA modules'
  modprobe "$KERNEL_MODULE" || give_up "cannot load $KERNEL_MODULE"
  rdma link add "${DEVICE}0" type "$DEVICE" netdev eth0 || give_up "cannot make the device ${DEVICE}0"
}

port() { # NAME
  for entry in /sys/class/virtio-ports/*; do
    [ "$(cat "$entry/name")" = "$1" ] && echo "/dev/${entry##*/}" && return
  done
  give_up "no port $1"
}

# A port can be opened once only: programs that open /dev/stdout again need a pipe there.
carry() { # NAME
  mkfifo -m 666 "/run/$1"
  cat "/run/$1" >"$(port "$1")" &
}

# What the job leaves running must not keep the bench waiting for the end of its output.
drain() { # PID...
  for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    kill -0 "$@" 2>/dev/null || return
    sleep 0.1
  done
}

mount_checkout
load_memory
mount_share modules /lib/modules
set_up_network
set_up_device
carry stdout
out=$!
carry stderr
err=$!

# Only root may use the share.
cp /run/bench/job.sh /run/job.sh
chmod 644 /run/job.sh
if [ "$UNPRIVILEGED" = 1 ]; then
  (ulimit -l 8192 && exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all sh /run/job.sh)
else
  (ulimit -l unlimited && exec sh /run/job.sh)
fi >/run/stdout 2>/run/stderr </dev/null
status=$?
drain "$out"
drain "$err"
leave "$status"
