// SPDX-License-Identifier: BSD-3-Clause
#include "base/log_topics.h"

namespace nbdkit {
namespace {

constinit LogTopics chosen;

}  // namespace

void choose_topics(const LogTopics& topics) { chosen = topics; }

const LogTopics& topics() { return chosen; }

}  // namespace nbdkit
