/* SPDX-License-Identifier: BSD-3-Clause */
/* Makes a block device of an export with the driver's ioctls and a handshake of its own, as
 * programs do that grew up with nbd.ko:
 *
 *   nbdkit --handoff=/tmp/control file disk.img &
 *   ioctl_disk /tmp/control /dev/nbd0
 *
 * Prints "ready" when the device may be used, and ends with it: after SIGTERM, or nbd-client -d. */
#define _GNU_SOURCE 1
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/nbd.h>
#include <nbdkit-handoff.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define BLOCK_SIZE 512

static int device = -1;

static void fail(const char* what, const char* why) {
  fprintf(stderr, "ioctl_disk: %s: %s\n", what, why);
  exit(1);
}

static void disconnect(int signal) {
  (void)signal;
  ioctl(device, NBD_DISCONNECT);
}

static void receive(int fd, void* to, size_t length) {
  if (recv(fd, to, length, MSG_WAITALL) != (ssize_t)length)
    fail("handshake", "the server has gone");
}

/* The client's side of the fixed newstyle handshake, with the one option that ends it. */
static void shake_hands(int fd, uint64_t* size, uint16_t* flags) {
  static const unsigned char reply[] = {0, 0, 0, 3}; /* fixed newstyle, no zeroes */
  static const unsigned char option[] = {'I', 'H', 'A', 'V', 'E', 'O',
                                         'P', 'T', 0,   0,   0,   1, /* NBD_OPT_EXPORT_NAME */
                                         0,   0,   0,   0};          /* the default export */
  unsigned char greeting[18], answer[10];
  receive(fd, greeting, sizeof greeting);
  if (memcmp(greeting, "NBDMAGICIHAVEOPT", 16) != 0) fail("handshake", "this is no NBD server");
  if (send(fd, reply, sizeof reply, MSG_NOSIGNAL) < 0 ||
      send(fd, option, sizeof option, MSG_NOSIGNAL) < 0) {
    fail("handshake", strerror(errno));
  }
  receive(fd, answer, sizeof answer);
  memcpy(size, answer, sizeof *size);
  *size = be64toh(*size);
  *flags = (uint16_t)(answer[8] << 8 | answer[9]);
}

/* A connection to the server, which has got the other end without dialling. */
static int connect_to_server(const char* path) {
  struct nbdkit_handoff_serve_options options = NBDKIT_HANDOFF_SERVE_INIT;
  struct nbdkit_handoff* handoff = nbdkit_handoff_connect(path, NBDKIT_HANDOFF_TIMEOUT_DEFAULT);
  struct nbdkit_handoff_served* served;
  int ends[2];
  if (handoff == NULL) fail(path, nbdkit_handoff_error());
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) fail("socketpair", strerror(errno));
  options.mode = NBDKIT_HANDOFF_MODE_HANDSHAKE;
  options.peer = NBDKIT_HANDOFF_PEER_KERNEL;
  served = nbdkit_handoff_serve(handoff, ends[1], &options, NBDKIT_HANDOFF_TIMEOUT_DEFAULT);
  if (served == NULL) fail(path, nbdkit_handoff_error());
  close(ends[1]); /* the server has its own */
  nbdkit_handoff_served_free(served);
  nbdkit_handoff_free(handoff);
  return ends[0];
}

static void set(unsigned long request, const char* what, unsigned long value) {
  if (ioctl(device, request, value) != 0) fail(what, strerror(errno));
}

int main(int argc, char** argv) {
  uint64_t size;
  uint16_t flags;
  int server;
  if (argc != 3) {
    fprintf(stderr, "usage: %s CONTROL-SOCKET DEVICE\n", argv[0]);
    return 2;
  }
  server = connect_to_server(argv[1]);
  shake_hands(server, &size, &flags);
  device = open(argv[2], O_RDWR | O_CLOEXEC);
  if (device < 0) fail(argv[2], strerror(errno));
  set(NBD_SET_BLKSIZE, "NBD_SET_BLKSIZE", BLOCK_SIZE);
  set(NBD_SET_SIZE_BLOCKS, "NBD_SET_SIZE_BLOCKS", size / BLOCK_SIZE);
  set(NBD_SET_TIMEOUT, "NBD_SET_TIMEOUT", 0);
  set(NBD_SET_FLAGS, "NBD_SET_FLAGS", flags);
  set(NBD_SET_SOCK, "NBD_SET_SOCK", (unsigned long)server);
  signal(SIGTERM, disconnect);
  puts("ready");
  fflush(stdout);
  ioctl(device, NBD_DO_IT); /* until the device is disconnected */
  ioctl(device, NBD_CLEAR_SOCK);
  return 0;
}
