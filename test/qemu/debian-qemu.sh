#!/bin/sh
# Makes a root file system with the QEMU of a Debian release, and beside it a command that runs it there:
#
#   test/qemu/debian-qemu.sh trixie /var/tmp/trixie      makes /var/tmp/trixie and /var/tmp/trixie/qemu
#   npm run demo:live -- --qemu /var/tmp/trixie/qemu
#
# Needs root and debootstrap; takes about 700 MB. What the host has in /dev, /proc, /run, /tmp and /var/tmp is the same inside, and in the folders that
# DEBIAN_QEMU_BIND names: paths there, absolute ones, mean the same file. The command has its mounts in a namespace of its own, which ends with it.
set -eu
suite=${1:?usage: debian-qemu.sh SUITE DIR}
root=$(realpath -m "${2:?usage: debian-qemu.sh SUITE DIR}")
mirror=${MIRROR:-http://deb.debian.org/debian}

if [ ! -e "$root/usr/bin/qemu-system-x86_64" ]; then
  debootstrap --variant=minbase --include=qemu-system-x86,qemu-utils "$suite" "$root" "$mirror"
fi
cat > "$root/qemu" <<COMMAND
#!/bin/sh
exec unshare --mount -- sh -c '
root=\$0
for shared in /dev /proc /tmp /run /var/tmp; do mount --rbind "\$shared" "\$root\$shared"; done
for shared in \${DEBIAN_QEMU_BIND:-}; do mkdir -p "\$root\$shared" && mount --rbind "\$shared" "\$root\$shared"; done
exec chroot "\$root" /usr/bin/qemu-system-x86_64 "\$@"' "$root" "\$@"
COMMAND
chmod 755 "$root/qemu"
"$root/qemu" --version
