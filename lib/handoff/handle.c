/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* pthread_condattr_setclock() in C99 */
#endif

#include "handle.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "deadline.h"
#include "packet.h"

enum {
  kEventsMax = 64,    /* kept for nbdkit_handoff_next_event(); the server keeps as many */
  kPacketsInARow = 16 /* a server that never stops talking must not keep a thread for ever */
};

/* One request that is under way; on the stack of its thread. */
struct call {
  struct call* next;
  uint64_t sequence;
  const struct nh_request* request;
  bool wants_descriptor;
  bool sent;
  bool done;
  struct nh_refusal refusal; /* NBDKIT_HANDOFF_OK: the reply is there */
  struct nh_reply reply;
};

struct event {
  struct event* next;
  size_t length;
  char* body;
};

struct nbdkit_handoff {
  int socket;
  int wake; /* an eventfd: the thread that polls has something new to send */
  pthread_mutex_t mutex;
  pthread_cond_t changed; /* a call is done, or nobody polls any more */
  /* All below is under the mutex. */
  bool polling;
  uint64_t last_sequence;
  struct call* calls;    /* in the order of their sequence */
  struct nh_refusal end; /* NBDKIT_HANDOFF_OK, or why nothing can be said any more */
  bool keep_events;
  struct event* events;
  size_t event_count;
  uint64_t missed; /* events, behind those that are kept */
  unsigned char buffer[NBDKIT_HANDOFF_MESSAGE_MAX];
};

static bool init_locks(struct nbdkit_handoff* handle) {
  pthread_condattr_t attributes;
  if (pthread_condattr_init(&attributes) != 0) return false;
  bool ready = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0 &&
               pthread_cond_init(&handle->changed, &attributes) == 0;
  pthread_condattr_destroy(&attributes);
  if (!ready) return false;
  if (pthread_mutex_init(&handle->mutex, NULL) == 0) return true;
  pthread_cond_destroy(&handle->changed);
  return false;
}

struct nbdkit_handoff* nh_open_handle(int socket) {
  struct nbdkit_handoff* handle = calloc(1, sizeof *handle);
  if (handle == NULL) {
    nh_fail_memory();
    return NULL;
  }
  handle->socket = socket;
  handle->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (handle->wake < 0) {
    nh_fail_system("an eventfd", errno);
  } else if (init_locks(handle)) {
    return handle;
  } else {
    nh_fail_memory();
    close(handle->wake);
  }
  free(handle);
  return NULL;
}

void nbdkit_handoff_free(struct nbdkit_handoff* handle) {
  if (handle == NULL) return;
  while (handle->events != NULL) {
    struct event* event = handle->events;
    handle->events = event->next;
    free(event->body);
    free(event);
  }
  close(handle->socket);
  close(handle->wake);
  pthread_mutex_destroy(&handle->mutex);
  pthread_cond_destroy(&handle->changed);
  free(handle);
}

static void refuse(struct nbdkit_handoff* handle, struct call* call, enum nbdkit_handoff_code code,
                   const char* sentence) {
  call->refusal.code = code;
  snprintf(call->refusal.sentence, sizeof call->refusal.sentence, "%s", sentence);
  call->done = true;
  pthread_cond_broadcast(&handle->changed);
}

/* Nothing can be said on this socket any more. */
static void end(struct nbdkit_handoff* handle, enum nbdkit_handoff_code code,
                const char* sentence) {
  struct call* call;
  if (handle->end.code != NBDKIT_HANDOFF_OK) return;
  handle->end.code = code;
  snprintf(handle->end.sentence, sizeof handle->end.sentence, "%s", sentence);
  for (call = handle->calls; call != NULL; call = call->next) {
    if (!call->done) refuse(handle, call, code, handle->end.sentence);
  }
  pthread_cond_broadcast(&handle->changed);
}

static void end_by_protocol(struct nbdkit_handoff* handle, const char* problem) {
  char sentence[256];
  snprintf(sentence, sizeof sentence, "the server does not keep to the protocol: %s", problem);
  end(handle, NBDKIT_HANDOFF_E_PROTOCOL, sentence);
}

static void keep_event(struct nbdkit_handoff* handle, const struct nh_packet* packet) {
  struct event** last = &handle->events;
  if (!handle->keep_events) return;
  struct event* event = calloc(1, sizeof *event);
  char* body = malloc(packet->body_length + 1);
  if (event == NULL || body == NULL || handle->event_count == kEventsMax || handle->missed > 0) {
    handle->missed++;
    free(event);
    free(body);
  } else {
    memcpy(body, packet->body, packet->body_length);
    event->body = body;
    event->length = packet->body_length;
    while (*last != NULL) last = &(*last)->next;
    *last = event;
    handle->event_count++;
  }
  pthread_cond_broadcast(&handle->changed);
}

/* The call that waits for this; the first answer counts. */
static struct call* find_call(struct nbdkit_handoff* handle, uint64_t sequence) {
  struct call* call = handle->calls;
  while (call != NULL && (call->sequence != sequence || call->done)) call = call->next;
  return call;
}

static void take_version(struct nbdkit_handoff* handle, const struct nh_packet* packet) {
  char sentence[128];
  struct call* call = find_call(handle, packet->header.sequence);
  snprintf(sentence, sizeof sentence, "the server speaks version %u of the protocol, not %u",
           (unsigned)packet->header.version, (unsigned)NBDKIT_HANDOFF_VERSION);
  if (call != NULL) {
    refuse(handle, call, NBDKIT_HANDOFF_E_UNSUPPORTED_VERSION, sentence);
  } else if (packet->header.sequence == 0) {
    end(handle, NBDKIT_HANDOFF_E_UNSUPPORTED_VERSION, sentence);
  }
}

static void take_answer(struct nbdkit_handoff* handle, struct call* call,
                        struct nh_packet* packet) {
  if (packet->descriptor >= 0 && !call->wants_descriptor) {
    end_by_protocol(handle, "it sent a descriptor that nobody asked for");
    return;
  }
  if (packet->descriptor < 0 && call->wants_descriptor) {
    refuse(handle, call, packet->lost ? NBDKIT_HANDOFF_E_SYSTEM : NBDKIT_HANDOFF_E_PROTOCOL,
           packet->lost ? "the socket is lost: this process has too many open files"
                        : "the server's answer has no descriptor");
    return;
  }
  call->reply.body = malloc(packet->body_length + 1);
  if (call->reply.body == NULL) {
    refuse(handle, call, NBDKIT_HANDOFF_E_SYSTEM, "out of memory");
    return;
  }
  memcpy(call->reply.body, packet->body, packet->body_length);
  call->reply.body_length = packet->body_length;
  call->reply.descriptor = packet->descriptor;
  packet->descriptor = -1;
  call->done = true;
  pthread_cond_broadcast(&handle->changed);
}

static void take_error(struct nbdkit_handoff* handle, struct call* call,
                       const struct nh_packet* packet) {
  struct nh_refusal refusal;
  nh_read_refusal(packet->body, packet->body_length, &refusal);
  if (call != NULL) {
    refuse(handle, call, refusal.code, refusal.sentence);
  } else {
    end(handle, refusal.code, refusal.sentence);
  }
}

static void take_message(struct nbdkit_handoff* handle, struct nh_packet* packet) {
  const struct nbdkit_handoff_header* header = &packet->header;
  struct call* call = find_call(handle, header->sequence);
  if (packet->problem != NULL) {
    end_by_protocol(handle, packet->problem);
  } else if (header->version != NBDKIT_HANDOFF_VERSION) {
    take_version(handle, packet);
  } else if (header->kind == NBDKIT_HANDOFF_EVENT) {
    if (header->sequence != 0) end_by_protocol(handle, "its event has a sequence");
    if (header->sequence == 0) keep_event(handle, packet);
  } else if (header->kind == NBDKIT_HANDOFF_ERROR && header->sequence == 0) {
    take_error(handle, NULL, packet);
  } else if (header->sequence == 0 || header->sequence > handle->last_sequence ||
             (call != NULL && !call->sent)) {
    end_by_protocol(handle, "it answers what was not asked");
  } else if (call == NULL) {
    /* The answer to a call that did not wait for so long. */
  } else if (header->kind == NBDKIT_HANDOFF_ERROR) {
    take_error(handle, call, packet);
  } else {
    take_answer(handle, call, packet);
  }
  if (packet->descriptor >= 0) nh_close_elsewhere(packet->descriptor);
}

/* What there is, but not without end. */
static void receive(struct nbdkit_handoff* handle) {
  struct nh_packet packet;
  char sentence[256];
  int i;
  for (i = 0; i < kPacketsInARow && handle->end.code == NBDKIT_HANDOFF_OK; i++) {
    switch (nh_receive(handle->socket, handle->buffer, &packet)) {
      case NH_MOVED:
        take_message(handle, &packet);
        break;
      case NH_LATER:
        return;
      case NH_GONE:
        end(handle, NBDKIT_HANDOFF_E_DISCONNECTED, "the server has closed the control socket");
        return;
      case NH_FAILED:
        nh_describe(sentence, sizeof sentence, "receiving", errno);
        end(handle, NBDKIT_HANDOFF_E_SYSTEM, sentence);
        return;
    }
  }
}

/* What waits to be sent, as far as the socket takes it. */
static void send_waiting(struct nbdkit_handoff* handle) {
  struct call* call;
  char sentence[256];
  for (call = handle->calls; call != NULL; call = call->next) {
    if (call->sent || call->done) continue;
    const struct nh_request* request = call->request;
    switch (nh_send(handle->socket, request->bytes,
                    NBDKIT_HANDOFF_HEADER_SIZE + request->body_length, request->descriptor)) {
      case NH_MOVED:
        call->sent = true;
        break;
      case NH_LATER:
        return;
      case NH_GONE:
        /* It may have said why. */
        receive(handle);
        end(handle, NBDKIT_HANDOFF_E_DISCONNECTED, "the server has closed the control socket");
        return;
      case NH_FAILED:
        nh_describe(sentence, sizeof sentence, "sending", errno);
        refuse(handle, call, NBDKIT_HANDOFF_E_SYSTEM, sentence);
        break;
    }
  }
}

static bool has_waiting(const struct nbdkit_handoff* handle) {
  const struct call* call = handle->calls;
  while (call != NULL && (call->sent || call->done)) call = call->next;
  return call != NULL;
}

/* Waits at the socket for all threads; with the mutex, which is free meanwhile. */
static void poll_for_all(struct nbdkit_handoff* handle, int timeout_ms) {
  struct pollfd files[2];
  uint64_t count;
  memset(files, 0, sizeof files);
  files[0].fd = handle->socket;
  files[0].events = (short)(POLLIN | (has_waiting(handle) ? POLLOUT : 0));
  files[1].fd = handle->wake;
  files[1].events = POLLIN;
  handle->polling = true;
  pthread_mutex_unlock(&handle->mutex);
  (void)poll(files, 2, timeout_ms);
  pthread_mutex_lock(&handle->mutex);
  handle->polling = false;
  (void)!read(handle->wake, &count, sizeof count);
  send_waiting(handle);
  receive(handle);
}

/* Whether what this thread waits for has happened: the end of its call, or an event. */
static bool is_over(const struct nbdkit_handoff* handle, const struct call* call) {
  if (call != NULL) return call->done;
  return handle->events != NULL || handle->missed > 0 || handle->end.code != NBDKIT_HANDOFF_OK;
}

static bool wait_for(struct nbdkit_handoff* handle, const struct call* call,
                     const struct timespec* deadline) {
  while (!is_over(handle, call)) {
    int left_ms = nh_left_ms(deadline);
    bool polled = !handle->polling;
    if (polled) {
      poll_for_all(handle, left_ms);
    } else if (left_ms > 0) {
      (void)pthread_cond_timedwait(&handle->changed, &handle->mutex, deadline);
    }
    if (left_ms == 0) break;
  }
  /* Somebody else has to poll now. */
  pthread_cond_broadcast(&handle->changed);
  return is_over(handle, call);
}

static void begin_call(struct nbdkit_handoff* handle, struct call* call,
                       struct nh_request* request) {
  struct nbdkit_handoff_header header;
  struct call** last = &handle->calls;
  call->sequence = ++handle->last_sequence;
  header.magic = NBDKIT_HANDOFF_MAGIC;
  header.version = NBDKIT_HANDOFF_VERSION;
  header.kind = NBDKIT_HANDOFF_REQUEST;
  header.flags = request->descriptor >= 0 ? NBDKIT_HANDOFF_FLAG_DESCRIPTOR : 0;
  header.length = (uint32_t)request->body_length;
  header.sequence = call->sequence;
  nbdkit_handoff_encode(request->bytes, &header);
  while (*last != NULL) last = &(*last)->next;
  *last = call;
  send_waiting(handle);
  if (!call->sent && !call->done && handle->polling) {
    const uint64_t one = 1;
    (void)!write(handle->wake, &one, sizeof one);
  }
}

static void end_call(struct nbdkit_handoff* handle, struct call* call) {
  struct call** place = &handle->calls;
  while (*place != call) place = &(*place)->next;
  *place = call->next;
  if (call->done) return;
  refuse(handle, call, NBDKIT_HANDOFF_E_NO_ANSWER,
         call->sent ? "the server did not answer in time"
                    : "the server does not read what it is sent; nothing was asked");
}

int nh_exchange(struct nbdkit_handoff* handle, struct nh_request* request, bool wants_descriptor,
                int timeout_ms, struct nh_reply* reply) {
  struct call call;
  struct timespec deadline = nh_deadline(timeout_ms);
  int cancel_state;
  memset(&call, 0, sizeof call);
  call.request = request;
  call.wants_descriptor = wants_descriptor;
  call.reply.descriptor = -1;
  /* A thread that is cancelled in here would leave its call in the list. */
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
  pthread_mutex_lock(&handle->mutex);
  if (handle->end.code != NBDKIT_HANDOFF_OK) {
    call.refusal = handle->end;
  } else {
    begin_call(handle, &call, request);
    wait_for(handle, &call, &deadline);
    end_call(handle, &call);
  }
  pthread_mutex_unlock(&handle->mutex);
  pthread_setcancelstate(cancel_state, NULL);
  *reply = call.reply;
  if (call.refusal.code == NBDKIT_HANDOFF_OK) return 0;
  return nh_fail(call.refusal.code, "%s", call.refusal.sentence);
}

void nh_keep_events(struct nbdkit_handoff* handle) {
  pthread_mutex_lock(&handle->mutex);
  handle->keep_events = true;
  pthread_mutex_unlock(&handle->mutex);
}

static void take_event(struct nbdkit_handoff* handle, struct nh_reply* reply, uint64_t* missed) {
  struct event* event = handle->events;
  if (event == NULL) {
    *missed = handle->missed;
    handle->missed = 0;
    return;
  }
  reply->body = event->body;
  reply->body_length = event->length;
  handle->events = event->next;
  handle->event_count--;
  free(event);
}

int nh_wait_event(struct nbdkit_handoff* handle, int timeout_ms, struct nh_reply* event,
                  uint64_t* missed) {
  struct timespec deadline = nh_deadline(timeout_ms);
  struct nh_refusal refusal;
  int cancel_state;
  memset(event, 0, sizeof *event);
  event->descriptor = -1;
  *missed = 0;
  refusal.code = NBDKIT_HANDOFF_OK;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
  pthread_mutex_lock(&handle->mutex);
  bool subscribed = handle->keep_events;
  if (subscribed && wait_for(handle, NULL, &deadline)) {
    if (handle->events == NULL && handle->missed == 0) refusal = handle->end;
    take_event(handle, event, missed);
  } else {
    refusal.code = NBDKIT_HANDOFF_E_NO_ANSWER;
  }
  pthread_mutex_unlock(&handle->mutex);
  pthread_setcancelstate(cancel_state, NULL);
  if (!subscribed) return nh_fail(NBDKIT_HANDOFF_E_INVALID, "nobody has subscribed to events");
  if (refusal.code == NBDKIT_HANDOFF_E_NO_ANSWER) {
    return nh_fail(refusal.code, "nothing happened in time");
  }
  if (refusal.code == NBDKIT_HANDOFF_OK) return 0;
  return nh_fail(refusal.code, "%s", refusal.sentence);
}
