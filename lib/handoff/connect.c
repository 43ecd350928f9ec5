/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* SO_DOMAIN */
#endif

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "deadline.h"
#include "handle.h"

/* For a moment a server may have more connections waiting than it has room for; connect() waits as
 * long as sending may. */
static int connect_until(int fd, const struct sockaddr_un* address,
                         const struct timespec* deadline) {
  for (;;) {
    int left_ms = nh_left_ms(deadline);
    struct timeval patience;
    patience.tv_sec = left_ms / 1000;
    patience.tv_usec = left_ms % 1000 * 1000;
    /* Zero would mean without end. */
    if (left_ms == 0) patience.tv_usec = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) < 0) return errno;
    if (connect(fd, (const struct sockaddr*)address, sizeof *address) == 0) return 0;
    if (errno != EINTR) return errno;
    if (left_ms == 0) return EAGAIN;
  }
}

struct nbdkit_handoff* nbdkit_handoff_connect(const char* path, int timeout_ms) {
  struct timespec deadline = nh_deadline(timeout_ms);
  struct sockaddr_un address;
  memset(&address, 0, sizeof address);
  address.sun_family = AF_UNIX;
  if (path == NULL || path[0] == '\0' || strlen(path) >= sizeof address.sun_path) {
    nh_fail(NBDKIT_HANDOFF_E_INVALID, "the path of a socket has 1 to %zu bytes",
            sizeof address.sun_path - 1);
    return NULL;
  }
  memcpy(address.sun_path, path, strlen(path));
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    nh_fail_system("a socket", errno);
    return NULL;
  }
  int failure = connect_until(fd, &address, &deadline);
  struct nbdkit_handoff* handle = NULL;
  if (failure == 0) {
    handle = nh_open_handle(fd);
  } else if (failure == EAGAIN || failure == EWOULDBLOCK) {
    nh_fail(NBDKIT_HANDOFF_E_NO_ANSWER, "%s: the server does not accept in time", path);
  } else {
    nh_fail_system(path, failure);
  }
  if (handle == NULL) close(fd);
  return handle;
}

static bool is_control_socket(int fd) {
  int domain = 0, type = 0;
  struct sockaddr_un peer;
  socklen_t domain_length = sizeof domain, type_length = sizeof type, peer_length = sizeof peer;
  return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &domain_length) == 0 &&
         getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_length) == 0 && domain == AF_UNIX &&
         type == SOCK_SEQPACKET && getpeername(fd, (struct sockaddr*)&peer, &peer_length) == 0;
}

struct nbdkit_handoff* nbdkit_handoff_adopt(int socket) {
  if (!is_control_socket(socket)) {
    nh_fail(NBDKIT_HANDOFF_E_INVALID,
            "descriptor %d is no connected socket of AF_UNIX and SOCK_SEQPACKET", socket);
    return NULL;
  }
  struct nbdkit_handoff* handle = nh_open_handle(socket);
  if (handle != NULL) (void)fcntl(socket, F_SETFD, FD_CLOEXEC);
  return handle;
}
