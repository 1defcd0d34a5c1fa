#!/bin/sh
# Process 1 of the bench's VM, from the initramfs: makes the host's file system the root, with all changes kept in
# memory, and hands over to start.sh, which is new with each run.
export PATH=/bin
/bin/busybox mkdir -p /proc /sys /dev /lower /rw /newroot
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

give_up() {
  echo "bench: $*" >/dev/console
  echo b >/proc/sysrq-trigger
  sleep 60
}

for module in /modules/*.ko; do
  insmod "$module" || give_up "cannot load $module"
done

share() { # TAG FOLDER OPTIONS
  mkdir -p "$2"
  mount -t 9p -o "$3,trans=virtio,version=9p2000.L,msize=512000" "$1" "$2" || give_up "cannot mount the share $1"
}

share root /lower ro,cache=loose
mount -t tmpfs tmpfs /rw
mkdir /rw/upper /rw/work
mount -t overlay -o lowerdir=/lower,upperdir=/rw/upper,workdir=/rw/work overlay /newroot || give_up 'cannot mount the root'

mount -t proc proc /newroot/proc
mount -t sysfs sysfs /newroot/sys
mount -t devtmpfs devtmpfs /newroot/dev
mkdir -p /newroot/dev/pts /newroot/dev/shm
mount -t devpts devpts /newroot/dev/pts
for folder in dev/shm run tmp; do
  mount -t tmpfs -o mode=1777 tmpfs "/newroot/$folder"
done
share run /newroot/run/bench rw,cache=none
exec chroot /newroot /bin/sh /run/bench/start.sh
give_up 'cannot start start.sh'
