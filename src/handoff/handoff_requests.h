// SPDX-License-Identifier: BSD-3-Clause
// HandoffRequests: carries out what one peer asks for, as far as its user may ask for it.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <string>

#include "base/log.h"
#include "block/properties.h"
#include "handoff/message.h"
#include "handoff/verbs.h"
#include "server/server.h"

namespace nbdkit {

// What holds for all control sockets of a server.
struct HandoffTerms {
  Contract contract;          // of the server's stack
  std::string mapping;        // LayerStack::mapping()
  bool tls_required = false;  // of clients that come over a network
  Json guards;                // null: --swap was not given
};

// What a request is answered with.
struct HandoffReply {
  Json body = Json::object();
  UniqueFd descriptor;
  // How the server serves the descriptor on when nobody takes the answer.
  std::unique_ptr<StartOptions> again;
};

// On the main loop; its thread only.
class HandoffRequests {
 public:
  static constexpr std::size_t kConnectionsMax = 1024;  // of one user who is not root

  // What is passed outlives this.
  HandoffRequests(Server& server, const HandoffTerms& terms, uid_t user);

  // All verbs but subscribe. Nothing when it was done.
  Task<std::optional<HandoffProblem>> carry_out(HandoffMessage& message, HandoffReply& reply);

  // A connection belongs to who gave it; root and the server's own user see all.
  bool may_see(const ConnectionView& connection) const;
  bool may_see_all() const;

 private:
  using Problem = std::optional<HandoffProblem>;

  Task<Problem> query(const Json& body, HandoffReply& reply);
  Task<Problem> serve(HandoffMessage& message, HandoffReply& reply);
  Task<Problem> take_over(const Json& body, HandoffReply& reply);
  Task<Problem> close(const Json& body);
  Task<Problem> figures(const Json& body, HandoffReply& reply);
  Problem list(const Json& body, HandoffReply& reply) const;
  Problem go_on(const Json& body);
  Problem check_given(const HandoffMessage& message, const HandoffServe& serve) const;
  Problem check_id(ConnectionId id) const;

  Server& server_;
  const HandoffTerms& terms_;
  const uid_t user_;
};

}  // namespace nbdkit
