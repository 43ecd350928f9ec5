// SPDX-License-Identifier: BSD-3-Clause
#include "handoff/handoff_requests.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utility>

#include "handoff/connection_verbs.h"
#include "handoff/descriptor_rules.h"
#include "handoff/figures_verb.h"
#include "handoff/serve_options.h"
#include "proto/handshake.h"

namespace nbdkit {
namespace {

// The parsers of requests tell the two kinds of fault apart by the code.
HandoffProblem to_problem(const Error& error) {
  bool unknown = error.code == std::errc::not_supported;
  return {unknown ? HandoffFault::unknown_key : HandoffFault::bad_value, error.message()};
}

HandoffProblem open_problem(const Error& error, const std::string& export_name) {
  // What Server::start() says of the socket and not of the export.
  if (error.code == std::errc::device_or_resource_busy) {
    return {HandoffFault::bad_descriptor, error.message()};
  }
  bool missing = error.code == std::errc::no_such_file_or_directory;
  return {missing ? HandoffFault::no_such_export : HandoffFault::failed,
          fmt::format("export \"{}\": {}", export_name, error.message())};
}

HandoffProblem no_such_connection(ConnectionId id) {
  return {HandoffFault::no_such_connection, fmt::format("there is no connection {}", id)};
}

HandoffProblem move_problem(ConnectionId id, const Error& error) {
  std::string sentence = fmt::format("connection {}: {}", id, error.message());
  if (error.code == std::errc::timed_out) return {HandoffFault::timeout, std::move(sentence)};
  if (error.code == std::errc::operation_not_permitted) {
    return {HandoffFault::not_movable, std::move(sentence)};
  }
  return {HandoffFault::no_such_connection, std::move(sentence)};
}

Task<std::optional<HandoffProblem>> refuse(HandoffFault fault, std::string sentence) {
  std::optional<HandoffProblem> problem(HandoffProblem{fault, std::move(sentence)});
  return Task<std::optional<HandoffProblem>>(std::move(problem));
}

HandoffExport to_export(const ExportInfo& info, const HandoffTerms& terms, bool kernel) {
  const Contract& contract = terms.contract;
  HandoffExport result;
  result.size = info.size;
  result.transmission_flags = info.transmission_flags;
  result.block_size = info.block_size;
  result.maximum_payload = kPayloadMax;
  result.multi_conn = (info.transmission_flags & transmission_flag::kMultiConn) != 0;
  result.identity = info.identity;
  result.description = info.description;
  // What nobody can change, nobody can lose.
  bool read_only = (info.transmission_flags & transmission_flag::kReadOnly) != 0;
  // Nor what is flushed before it is answered, as it is for a kernel (Context::write_through).
  bool fua = (info.transmission_flags & transmission_flag::kFua) != 0;
  bool through = kernel && fua && contract.survives == Survives::flushed;
  result.survives = read_only || through ? Survives::durable : contract.survives;
  result.shared_open = contract.shared_open;
  result.swap_fit = contract.swap_fit;
  result.guards = terms.guards;
  result.mapping = terms.mapping;
  return result;
}

}  // namespace

HandoffRequests::HandoffRequests(Server& server, const HandoffTerms& terms, uid_t user)
    : server_(server), terms_(terms), user_(user) {}

bool HandoffRequests::may_see(const ConnectionView& connection) const {
  return may_see_all() || connection.owner == user_;
}

bool HandoffRequests::may_see_all() const { return user_ == 0 || user_ == ::geteuid(); }

Task<std::optional<HandoffProblem>> HandoffRequests::carry_out(HandoffMessage& message,
                                                               HandoffReply& reply) {
  const Json* verb = message.body.find("verb");
  const std::string* name = verb != nullptr ? verb->as_string() : nullptr;
  if (message.kind != HandoffKind::request || name == nullptr) {
    return refuse(HandoffFault::bad_message, "a request with a verb is expected");
  }
  if (*name == "serve") return serve(message, reply);
  if (message.descriptor) {
    return refuse(HandoffFault::unexpected_descriptor,
                  fmt::format("the verb {} takes no descriptor", *name));
  }
  if (*name == "query") return query(message.body, reply);
  if (*name == "list") return Task<Problem>(list(message.body, reply));
  if (*name == "close") return close(message.body);
  if (*name == "go-on") return Task<Problem>(go_on(message.body));
  if (*name == "figures") return figures(message.body, reply);
  if (*name == "take-over") return take_over(message.body, reply);
  return refuse(HandoffFault::unknown_verb, fmt::format("{}: no such verb", *name));
}

Task<std::optional<HandoffProblem>> HandoffRequests::query(const Json& body, HandoffReply& reply) {
  Result<HandoffQuery> asked = parse_query(body);
  if (!asked.ok()) co_return to_problem(asked.error());
  const std::string name = asked.value().export_name;
  Result<ExportInfo> info = co_await server_.query(name, asked.value().kernel).as_result();
  if (!info.ok()) co_return open_problem(info.error(), name);
  reply.body = to_json(to_export(info.value(), terms_, asked.value().kernel));
  co_return std::nullopt;
}

std::optional<HandoffProblem> HandoffRequests::check_given(const HandoffMessage& message,
                                                           const HandoffServe& serve) const {
  if (!message.descriptor) {
    return HandoffProblem{HandoffFault::no_descriptor, "serve needs a socket"};
  }
  Result<void> usable = check_stream_socket(message.descriptor.get());
  if (!usable.ok()) return HandoffProblem{HandoffFault::bad_descriptor, usable.error().message()};
  bool bare = serve.mode == HandoffServe::Mode::transmission && !serve.insecure;
  if (bare && terms_.tls_required && crosses_a_network(message.descriptor.get())) {
    return HandoffProblem{HandoffFault::forbidden,
                          "the server requires TLS, which a connection without a handshake does "
                          "not have; \"insecure\":true allows it"};
  }
  std::size_t own = server_.count([this](const ConnectionView& v) { return v.owner == user_; });
  if (user_ != 0 && own >= kConnectionsMax) {
    return HandoffProblem{
        HandoffFault::limit,
        fmt::format("user {} has {} connections already, and may have no more", user_, own)};
  }
  return std::nullopt;
}

Task<std::optional<HandoffProblem>> HandoffRequests::serve(HandoffMessage& message,
                                                           HandoffReply& reply) {
  Result<HandoffServe> asked = parse_serve(message.body);
  if (!asked.ok()) co_return to_problem(asked.error());
  const HandoffServe serve = std::move(asked).value();
  Problem wrong = check_given(message, serve);
  if (wrong) co_return wrong;
  bool transmission = serve.mode == HandoffServe::Mode::transmission;
  bool mismatch = false;
  StartOptions options = start_options(serve, user_);
  options.accept = [&serve, &mismatch](const ExportInfo& info) {
    Result<void> expected = check_expectation(serve, info);
    mismatch = !expected.ok();
    return expected;
  };
  Task<Started> starting = server_.start(std::move(message.descriptor), std::move(options));
  Result<Started> started = co_await std::move(starting).as_result();
  if (!started.ok() && mismatch) {
    co_return HandoffProblem{HandoffFault::mismatch, started.error().message()};
  }
  if (!started.ok()) co_return open_problem(started.error(), serve.export_name);
  HandoffServed served;
  served.id = started.value().id;
  if (transmission) served.info = to_export(started.value().info, terms_, serve.kernel);
  reply.body = to_json(served);
  co_return std::nullopt;
}

std::optional<HandoffProblem> HandoffRequests::list(const Json& body, HandoffReply& reply) const {
  Result<HandoffList> asked = parse_list(body);
  if (!asked.ok()) return to_problem(asked.error());
  auto wanted = [this](const ConnectionView& view) { return may_see(view); };
  Json connections = Json::array();
  std::size_t count = 0;
  const ConnectionView* next = server_.next(asked.value().after, wanted);
  for (; next != nullptr && count < HandoffList::kConnectionsMax; ++count) {
    connections.push(to_json(*next));
    next = server_.next(next->id, wanted);
  }
  reply.body.set("connections", std::move(connections)).set("more", next != nullptr);
  return std::nullopt;
}

std::optional<HandoffProblem> HandoffRequests::check_id(ConnectionId id) const {
  const ConnectionView* found = server_.find(id);
  if (found == nullptr || !may_see(*found)) return no_such_connection(id);
  return std::nullopt;
}

std::optional<HandoffProblem> HandoffRequests::go_on(const Json& body) {
  Result<ConnectionId> id = parse_go_on(body);
  if (!id.ok()) return to_problem(id.error());
  Problem wrong = check_id(id.value());
  if (wrong) return wrong;
  Result<void> going = server_.go_on(id.value());
  if (going.ok()) return std::nullopt;
  return HandoffProblem{HandoffFault::bad_value,
                        fmt::format("connection {}: {}", id.value(), going.error().message())};
}

Task<std::optional<HandoffProblem>> HandoffRequests::close(const Json& body) {
  Result<HandoffClose> asked = parse_close(body);
  if (!asked.ok()) co_return to_problem(asked.error());
  const ConnectionId id = asked.value().id;
  Problem wrong = check_id(id);
  if (wrong) co_return wrong;
  Result<void> closed = co_await server_.close(id, asked.value().drain).as_result();
  if (!closed.ok()) co_return no_such_connection(id);
  co_return std::nullopt;
}

Task<std::optional<HandoffProblem>> HandoffRequests::figures(const Json& body,
                                                             HandoffReply& reply) {
  Result<HandoffFigures> asked = parse_figures_request(body);
  if (!asked.ok()) co_return to_problem(asked.error());
  if (!may_see_all()) {
    co_return HandoffProblem{HandoffFault::forbidden,
                             "figures are of all connections: they are for root and the server's "
                             "own user"};
  }
  Result<RequestFigures> figures = co_await server_.figures(asked.value().kernel).as_result();
  if (!figures.ok()) co_return HandoffProblem{HandoffFault::failed, figures.error().message()};
  reply.body = to_json(figures.value());
  co_return std::nullopt;
}

Task<std::optional<HandoffProblem>> HandoffRequests::take_over(const Json& body,
                                                               HandoffReply& reply) {
  Result<HandoffTakeOver> asked = parse_take_over(body);
  if (!asked.ok()) co_return to_problem(asked.error());
  const ConnectionId id = asked.value().id;
  Problem wrong = check_id(id);
  if (wrong) co_return wrong;
  std::optional<uid_t> owner = server_.find(id)->owner;
  Task<MovedConnection> moving = server_.take_over(id, asked.value().limit);
  Result<MovedConnection> moved = co_await std::move(moving).as_result();
  if (!moved.ok()) co_return move_problem(id, moved.error());
  reply.body = to_json(id, moved.value());
  reply.descriptor = std::move(moved.value().socket);
  reply.again = std::make_unique<StartOptions>();
  reply.again->mode = StartOptions::Mode::transmission;
  reply.again->export_name = moved.value().export_name;
  reply.again->kernel = moved.value().kernel;
  reply.again->foreign = true;
  reply.again->owner = owner;
  reply.again->agreement = moved.value().agreement;
  reply.again->unread = moved.value().unread;
  co_return std::nullopt;
}

}  // namespace nbdkit
