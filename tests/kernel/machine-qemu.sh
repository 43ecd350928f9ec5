# shellcheck shell=bash
# SPDX-License-Identifier: BSD-3-Clause
# For run-in-uml: Debian's kernel 6.12 with two CPUs in QEMU instead of User-Mode Linux. The host's
# file system is shared by virtiofs, which needs root. QEMU emulates (TCG): KVM is not asked for, so
# that a run is the same on every machine.

readonly kLinux=${here%/tests/kernel}/build-packages/linux-6.12
readonly kVirtiofsd=/usr/lib/qemu/virtiofsd

check_machine() {
  ((EUID == 0)) || die "KERNEL=6.12 needs root"
  [[ -d $kLinux && -x $kVirtiofsd ]] && command -v qemu-system-x86_64 >/dev/null ||
    die "QEMU or its kernel is missing (tools/setup kernel-6.12 installs them)"
}

# Shows a folder again from where uml-init has kept the host's file system.
fstab_line() { # ro|rw FOLDER
  local path=${2//\\/\\134}
  [[ $2 != *[,$'\n']* ]] || die "$2: no comma or newline allowed"
  path=${path// /\\040}
  printf '/dev/host%s %s none bind,%s,X-mount.mkdir 0 0\n' "$path" "$path" "$1"
}

# In a session of its own: killing that group takes the machine and virtiofsd along.
boot() {
  local -a options drives=()
  local disk append kernel
  kernel=$(echo "$kLinux"/boot/vmlinuz-*)
  append="root=host rootfstype=virtiofs rw panic=-1 oops=panic console=ttyS0 init=$here/uml-init"
  append+=" uml_control=$control uml_modules=$kLinux/lib/modules"
  for disk in "${disks[@]}"; do
    drives+=(-drive "file=$(realpath -e -- "$disk"),if=virtio,format=raw,cache=writeback")
  done
  options=(-nodefaults -no-user-config -display none -no-reboot -machine q35 -cpu max
    -accel "tcg,thread=multi" -smp 2 -m "$memory" -serial stdio
    -object "memory-backend-file,id=ram,mem-path=$(choose_memory_folder),size=$memory,share=on"
    -numa "node,memdev=ram" -chardev "socket,id=fs,path=$control/fs"
    -device "vhost-user-fs-pci,chardev=fs,tag=host" -device virtio-rng-pci "${drives[@]}"
    -kernel "$kernel" -append "$append")
  setsid bash -c '
    ulimit -c 0
    cd / || exit
    # Its other sandbox cannot pivot to a source that is / itself.
    "$1" --socket-path="$2" -o source=/ -o sandbox=chroot -o cache=auto >"$2.log" 2>&1 &
    for ((i = 0; i < 500; i++)); do
      [[ ! -S $2 ]] || break
      sleep 0.01
    done
    shift 2
    exec qemu-system-x86_64 "$@"' qemu "$kVirtiofsd" "$control/fs" "${options[@]}" \
    </dev/null >"$control/console" 2>&1 &
  uml=$!
  tail -c +1 -s 0.1 --pid="$uml" -f "$control/output" &
  follower=$!
}
