# SPDX-License-Identifier: BSD-3-Clause
# Every client that people use on every kind of socket, with TLS and without; sourced behind lib.sh.

# The program of libnbd_client.c and the certificates in $folder/tls.
prepare_clients() {
  # shellcheck disable=SC2046  # These are words.
  cc -std=c99 -Wall -Wextra -Werror "$(dirname "${BASH_SOURCE[0]}")/libnbd_client.c" \
    $(pkg-config --cflags --libs libnbd) -o "$folder/libnbd_client" || fail 'libnbd_client.c'
  # fio cannot be told that the URI may name files.
  cc -std=gnu99 -Wall -Wextra -Werror -shared -fPIC -o "$folder/allow_files.so" -xc - <<'C' || fail 'a shim'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <libnbd.h>
#include <stddef.h>
struct nbd_handle* nbd_create(void) {
  struct nbd_handle* (*create)(void) = dlsym(RTLD_NEXT, "nbd_create");
  struct nbd_handle* nbd = create();
  if (nbd != NULL) nbd_set_uri_allow_local_file(nbd, true);
  return nbd;
}
C
  "$(dirname "${BASH_SOURCE[0]}")/../support/make-certificates" "$folder/tls" || fail 'certificates'
  head -c 16M /dev/urandom >"$folder/clients-image"
}

# every_client NAME URI IMAGE [OBJECT]: of a disk of 16 MiB; QEMU calls it IMAGE, with the options OBJECT.
every_client() {
  local name=$1 uri=$2 image="driver=raw,file.driver=nbd,$3" object=${4:+"--object=$4"}
  local data=$folder/clients-image copy=$folder/clients-copy served=$folder/clients-served.sock
  check_equal "$name: nbdinfo" 16777216 "$(nbdinfo --size "$uri")"
  check "$name: nbdcopy to it" nbdcopy --flush "$data" "$uri"
  check "$name: nbdcopy from it" nbdcopy "$uri" "$copy"
  check "$name: nbdcopy's data" cmp "$data" "$copy"
  check "$name: nbdinfo --map" nbdinfo --map --totals "$uri" >/dev/null
  check "$name: nbdinfo --list" nbdinfo --list "$uri" >/dev/null
  check "$name: libnbd in C" "$folder/libnbd_client" "$uri"
  # shellcheck disable=SC2016  # Python's.
  check "$name: nbdsh" env uri="$uri" nbdsh -c 'import os
h.set_uri_allow_local_file(True)
h.connect_uri(os.environ["uri"])
h.pwrite(b"from nbdsh" * 1000, 4096)
assert h.pread(10000, 4096) == b"from nbdsh" * 1000'
  rm -f "$copy"
  check "$name: qemu-img convert" qemu-img convert ${object:+"$object"} --image-opts -O qcow2 "$image" "$copy"
  check "$name: qemu-img compare" qemu-img compare ${object:+"$object"} --image-opts "$image" \
    "driver=qcow2,file.driver=file,file.filename=$copy" >/dev/null
  check "$name: qemu-io" qemu-io ${object:+"$object"} --image-opts "$image" -c 'write -P 0x5a 64k 3M' \
    -c 'read -P 0x5a 64k 3M' -c 'write -z 1M 1M' -c 'discard 4M 1M' -c flush >/dev/null
  rm -f "$served" "$copy"
  qemu-nbd ${object:+"$object"} --image-opts -k "$served" "$image" &
  local middle=$! deadline=$((SECONDS + 60))
  servers+=("$middle")
  until [ -S "$served" ] || ! kill -0 "$middle" 2>/dev/null || [ $SECONDS -ge $deadline ]; do
    read -rt 0.05 <> <(:)
  done
  check "$name: qemu-nbd" qemu-io -f raw -c 'read -P 0x5a 64k 512k' "nbd+unix://?socket=$served" >/dev/null
  wait "$middle" || fail "$name: qemu-nbd ends badly"
  (cd "$folder" && LD_PRELOAD=$folder/allow_files.so fio --name=verify --ioengine=nbd --uri="$uri" --rw=randrw --bs=4k-64k --size=16M \
    --iodepth=16 --verify=crc32c --verify_fatal=1 --do_verify=1 --minimal) >"$folder/fio.log" 2>&1 ||
    fail "$name: fio: $(cat "$folder/fio.log")"
}

# ends_well NAME LOG: stops the server, which has found nothing wrong with itself.
ends_well() {
  stop
  check_equal "$1: the server ends well" 0 "$status"
  ! grep -E 'Sanitizer|runtime error:' "$2" || fail "$1: $(head -n 40 "$2")"
}

# every_socket PLUGIN...: of a disk of 16 MiB.
every_socket() {
  local pki=$folder/tls/pki log=$folder/server.log port at=$folder/clients.sock
  local certificates="tls-creds-x509,id=tls0,endpoint=client,dir=$pki"
  local tls="file.tls-creds=tls0,file.tls-hostname=localhost"
  local secure=(--tls=require --tls-certificates="$pki")

  start -U "$at" "$@" 2>"$log"
  every_client "Unix" "nbd+unix://?socket=$at" "file.path=$at"
  ends_well "Unix" "$log"
  rm -f "$at"
  start -U "$at" "${secure[@]}" "$@" 2>"$log"
  every_client "TLS on Unix" "nbds+unix://?socket=$at&tls-certificates=$pki" "file.path=$at,$tls" "$certificates"
  ends_well "TLS on Unix" "$log"
  rm -f "$at"

  start -i 127.0.0.1 -p 0 --print-uri "$@" >"$folder/uris" 2>"$log"
  port=$(sed -n '1s/.*:\([0-9]*\).*/\1/p' "$folder/uris")
  every_client "TCP" "nbd://127.0.0.1:$port" "file.host=127.0.0.1,file.port=$port"
  check "TCP: nbd-client -l" nbd-client -l 127.0.0.1 "$port" >/dev/null
  ends_well "TCP" "$log"
  start -i 127.0.0.1 -p 0 --print-uri "${secure[@]}" "$@" >"$folder/uris" 2>"$log"
  port=$(sed -n '1s/.*localhost:\([0-9]*\).*/\1/p' "$folder/uris")
  every_client "TLS on TCP" "nbds://localhost:$port?tls-certificates=$pki" \
    "file.host=127.0.0.1,file.port=$port,$tls" "$certificates"
  ends_well "TLS on TCP" "$log"
}
