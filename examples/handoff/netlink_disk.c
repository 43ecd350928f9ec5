/* SPDX-License-Identifier: BSD-3-Clause */
/* Makes a block device of an export over netlink and leaves it there, without a handshake:
 *
 *   nbdkit --handoff=/tmp/control --filter=log file disk.img logfile=/tmp/log &
 *   netlink_disk /tmp/control
 *   nbd-client -d /dev/nbd0
 *
 * Prints the device, which is the first that is free. */
#include <errno.h>
#include <linux/nbd-netlink.h>
#include <linux/nbd.h>
#include <nbdkit-handoff.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BLOCK_SIZE 512
#define DEAD_TIMEOUT 60 /* seconds that requests wait for another socket when this one has died */

static void fail(const char* what, const char* why) {
  fprintf(stderr, "netlink_disk: %s: %s\n", what, why);
  exit(1);
}

/* The kernel's end of a new connection, and what is served on it. */
static int connect_to_server(const char* path, uint64_t* size, uint16_t* flags) {
  struct nbdkit_handoff_serve_options options = NBDKIT_HANDOFF_SERVE_INIT;
  struct nbdkit_handoff* handoff = nbdkit_handoff_connect(path, NBDKIT_HANDOFF_TIMEOUT_DEFAULT);
  struct nbdkit_handoff_served* served;
  int ends[2];
  if (handoff == NULL) fail(path, nbdkit_handoff_error());
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    fail("socketpair", strerror(errno));
  }
  options.peer = NBDKIT_HANDOFF_PEER_KERNEL;
  served = nbdkit_handoff_serve(handoff, ends[1], &options, NBDKIT_HANDOFF_TIMEOUT_DEFAULT);
  if (served == NULL) fail(path, nbdkit_handoff_error());
  close(ends[1]); /* the server has its own */
  *size = served->info->size;
  *flags = served->info->transmission_flags;
  nbdkit_handoff_served_free(served);
  nbdkit_handoff_free(handoff);
  return ends[0];
}

static int take_index(struct nl_msg* message, void* index) {
  struct nlattr* attributes[NBD_ATTR_MAX + 1];
  if (genlmsg_parse(nlmsg_hdr(message), 0, attributes, NBD_ATTR_MAX, NULL) == 0 &&
      attributes[NBD_ATTR_INDEX] != NULL) {
    *(int*)index = (int)nla_get_u32(attributes[NBD_ATTR_INDEX]);
  }
  return NL_OK;
}

static struct nl_msg* connect_message(int family, int socket, uint64_t size, uint16_t flags) {
  struct nl_msg* message = nlmsg_alloc();
  struct nlattr *sockets, *item;
  genlmsg_put(message, NL_AUTO_PORT, NL_AUTO_SEQ, family, 0, 0, NBD_CMD_CONNECT, 0);
  nla_put_u64(message, NBD_ATTR_SIZE_BYTES, size);
  nla_put_u64(message, NBD_ATTR_BLOCK_SIZE_BYTES, BLOCK_SIZE);
  nla_put_u64(message, NBD_ATTR_SERVER_FLAGS, flags);
  nla_put_u64(message, NBD_ATTR_TIMEOUT, 0); /* otherwise that of an earlier user of the device */
  nla_put_u64(message, NBD_ATTR_DEAD_CONN_TIMEOUT, DEAD_TIMEOUT);
  sockets = nla_nest_start(message, NBD_ATTR_SOCKETS);
  item = nla_nest_start(message, NBD_SOCK_ITEM);
  nla_put_u32(message, NBD_SOCK_FD, (uint32_t)socket);
  nla_nest_end(message, item);
  nla_nest_end(message, sockets);
  return message;
}

int main(int argc, char** argv) {
  struct nl_sock* netlink = nl_socket_alloc();
  struct nl_msg* message;
  uint64_t size;
  uint16_t flags;
  int socket, family, error, index = -1;
  if (argc != 2) {
    fprintf(stderr, "usage: %s CONTROL-SOCKET\n", argv[0]);
    return 2;
  }
  socket = connect_to_server(argv[1], &size, &flags);
  error = genl_connect(netlink);
  if (error != 0) fail("netlink", nl_geterror(error));
  family = genl_ctrl_resolve(netlink, NBD_GENL_FAMILY_NAME);
  if (family < 0) fail("the kernel's nbd driver", nl_geterror(family));
  nl_socket_modify_cb(netlink, NL_CB_VALID, NL_CB_CUSTOM, take_index, &index);
  message = connect_message(family, socket, size, flags);
  error = nl_send_auto(netlink, message);
  nlmsg_free(message);
  if (error >= 0) error = nl_recvmsgs_default(netlink);
  if (error >= 0) error = nl_wait_for_ack(netlink);
  if (error < 0 || index < 0) fail("the kernel's nbd driver", nl_geterror(error));
  nl_socket_free(netlink);
  close(socket); /* the kernel has its own */
  printf("/dev/nbd%d\n", index);
  return 0;
}
