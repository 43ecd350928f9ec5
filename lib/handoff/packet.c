/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* MSG_CMSG_CLOEXEC */
#endif

#include "packet.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
  /* Also for credentials and labels, which the kernel adds when whoever shares the socket has asked
   * for them: they come before descriptors. What does not fit is closed by the kernel. */
  kControlRoom = 1024,
  kScmPidFd = 4 /* SCM_PIDFD of Linux 6.5 */
};

union control {
  struct cmsghdr align;
  char bytes[kControlRoom];
};

static bool is_gone(int error_number) {
  return error_number == EPIPE || error_number == ECONNRESET || error_number == ENOTCONN ||
         error_number == ECONNREFUSED;
}

enum nh_moved nh_send(int socket, const unsigned char* bytes, size_t length, int descriptor) {
  union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int))];
  } control;
  struct iovec piece;
  struct msghdr message;
  memset(&message, 0, sizeof message);
  memset(&control, 0, sizeof control);
  piece.iov_base = (void*)(uintptr_t)bytes;
  piece.iov_len = length;
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  if (descriptor >= 0) {
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof control.bytes;
    struct cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(rights), &descriptor, sizeof descriptor);
  }
  for (;;) {
    if (sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) return NH_MOVED;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return NH_LATER;
    if (errno != EINTR) return is_gone(errno) ? NH_GONE : NH_FAILED;
  }
}

static void* close_descriptor(void* descriptor) {
  close((int)(intptr_t)descriptor);
  return NULL;
}

void nh_close_elsewhere(int descriptor) {
  sigset_t all, before;
  pthread_attr_t attributes;
  pthread_t thread;
  if (pthread_attr_init(&attributes) != 0) return;
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  /* Signals are for the program's own threads. */
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  (void)pthread_create(&thread, &attributes, close_descriptor, (void*)(intptr_t)descriptor);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
}

/* Keeps the first descriptor; their number. */
static size_t take_descriptors(struct msghdr* message, int* first) {
  size_t count = 0;
  struct cmsghdr* control = CMSG_FIRSTHDR(message);
  for (; control != NULL; control = CMSG_NXTHDR(message, control)) {
    size_t i, here;
    if (control->cmsg_level != SOL_SOCKET) continue;
    if (control->cmsg_type != SCM_RIGHTS && control->cmsg_type != kScmPidFd) continue;
    here = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (i = 0; i < here; i++) {
      int descriptor;
      memcpy(&descriptor, CMSG_DATA(control) + i * sizeof descriptor, sizeof descriptor);
      if (descriptor < 0) continue;
      if (control->cmsg_type != SCM_RIGHTS || count > 0) {
        nh_close_elsewhere(descriptor);
      } else {
        *first = descriptor;
      }
      if (control->cmsg_type == SCM_RIGHTS) count++;
    }
  }
  return count;
}

static const char* check(const struct nh_packet* packet, size_t length, bool truncated,
                         size_t descriptors) {
  const struct nbdkit_handoff_header* header = &packet->header;
  if (truncated) return "its message is too long";
  if (header->magic != NBDKIT_HANDOFF_MAGIC) return "the magic number is wrong";
  /* Of another version only these have their places. */
  if (header->version != NBDKIT_HANDOFF_VERSION) return NULL;
  if (header->length != length - NBDKIT_HANDOFF_HEADER_SIZE) return "the length is wrong";
  if (header->kind < NBDKIT_HANDOFF_ANSWER || header->kind > NBDKIT_HANDOFF_EVENT) {
    return "what it sent is no answer and no event";
  }
  if ((header->flags & ~NBDKIT_HANDOFF_FLAGS_KNOWN) != 0) return "it set unknown flags";
  size_t announced = header->flags & NBDKIT_HANDOFF_FLAG_DESCRIPTOR ? 1 : 0;
  if (descriptors > announced) return "it sent a descriptor that was not announced";
  if (descriptors < announced && !packet->lost) return "a descriptor was announced, and none came";
  if (announced != 0 && header->kind != NBDKIT_HANDOFF_ANSWER) return "it sent a stray descriptor";
  return NULL;
}

/* ECONNRESET comes once, and before what the other end said last. */
static ssize_t receive_message(int socket, struct msghdr* message) {
  bool reset = false;
  for (;;) {
    ssize_t length = recvmsg(socket, message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (length >= 0 || (errno != EINTR && (errno != ECONNRESET || reset))) return length;
    reset = reset || errno == ECONNRESET;
  }
}

enum nh_moved nh_receive(int socket, unsigned char* buffer, struct nh_packet* packet) {
  union control control;
  struct iovec piece;
  struct msghdr message;
  memset(packet, 0, sizeof *packet);
  memset(&message, 0, sizeof message);
  packet->descriptor = -1;
  piece.iov_base = buffer;
  piece.iov_len = NBDKIT_HANDOFF_MESSAGE_MAX;
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes;
  message.msg_controllen = sizeof control.bytes;

  ssize_t length = receive_message(socket, &message);
  if (length < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return NH_LATER;
  if (length < 0) return is_gone(errno) ? NH_GONE : NH_FAILED;
  size_t descriptors = take_descriptors(&message, &packet->descriptor);
  /* No message of this protocol is empty, and the end looks like one. */
  if (length == 0 && descriptors == 0) return NH_GONE;
  if ((size_t)length < NBDKIT_HANDOFF_HEADER_SIZE) {
    packet->problem = "its message is too short";
  } else {
    nbdkit_handoff_decode(buffer, &packet->header);
    packet->lost = descriptors == 0 && (message.msg_flags & MSG_CTRUNC) != 0;
    packet->problem =
        check(packet, (size_t)length, (message.msg_flags & MSG_TRUNC) != 0, descriptors);
    packet->body = (char*)buffer + NBDKIT_HANDOFF_HEADER_SIZE;
    packet->body_length = (size_t)length - NBDKIT_HANDOFF_HEADER_SIZE;
  }
  if (packet->problem != NULL && packet->descriptor >= 0) {
    nh_close_elsewhere(packet->descriptor);
    packet->descriptor = -1;
  }
  return NH_MOVED;
}
