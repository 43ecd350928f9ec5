/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* clock_gettime() in C99 */
#endif

#include "deadline.h"

#include <limits.h>

enum { kTimeoutMs = 30 * 1000, kNsInMs = 1000 * 1000, kMsInSecond = 1000 };

int nh_timeout_ms(int timeout_ms) { return timeout_ms < 0 ? kTimeoutMs : timeout_ms; }

struct timespec nh_deadline(int timeout_ms) {
  struct timespec at;
  int ms = nh_timeout_ms(timeout_ms);
  clock_gettime(CLOCK_MONOTONIC, &at);
  at.tv_sec += ms / kMsInSecond;
  at.tv_nsec += (long)(ms % kMsInSecond) * kNsInMs;
  if (at.tv_nsec >= (long)kNsInMs * kMsInSecond) {
    at.tv_sec++;
    at.tv_nsec -= (long)kNsInMs * kMsInSecond;
  }
  return at;
}

int nh_left_ms(const struct timespec* deadline) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  int64_t ns = (int64_t)(deadline->tv_sec - now.tv_sec) * kMsInSecond * kNsInMs +
               (deadline->tv_nsec - now.tv_nsec);
  int64_t ms = (ns + kNsInMs - 1) / kNsInMs;
  return ns <= 0 ? 0 : ms > INT_MAX ? INT_MAX : (int)ms;
}
