# The first process of a host: all others of its namespace end with it, and it ends with its stdin.
# $1: the host's uuid, because libvirt does not migrate to a host that has its own. $2: where libvirtd's log goes. $3: more for qemu.conf.
set -e
# What is below these folders is the host's own.
mount --make-rprivate /
for folder in /run /var/lib /var/cache /var/log /etc/libvirt; do mount -t tmpfs -o mode=755 none "$folder"; done
cat >/etc/libvirt/libvirtd.conf <<EOF
host_uuid = "$1"
auth_unix_ro = "none"
auth_unix_rw = "none"
EOF
# Here are no SELinux or AppArmor, no systemd for cgroups and no virtlogd, and a tmpfs has no extended attributes. The rest is as libvirt has it.
cat >/etc/libvirt/qemu.conf <<EOF
security_driver = "none"
cgroup_controllers = []
stdio_handler = "file"
remember_owner = 0
$3
EOF
libvirtd >"$2" 2>&1 &
echo ready
# bash reaps whatever is nobody's child any more, while it reads.
while read -r _; do :; done
