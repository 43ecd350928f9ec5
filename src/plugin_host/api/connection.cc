// SPDX-License-Identifier: BSD-3-Clause
// What a plugin can ask about the client that it serves just now.

#include <algorithm>
#include <cstring>

#include "plugin_host/api/caller.h"

namespace nbdkit {
namespace {

const Context* calling_connection(std::string_view function) {
  if (Session* session = calling_session()) return &session->context();
  tell_error(fmt::format("{}: no connection belongs to this thread", function));
  return nullptr;
}

std::int64_t known_number(std::string_view function, std::int64_t Peer::*number) {
  const Context* connection = calling_connection(function);
  if (connection == nullptr) return -1;
  std::int64_t value = connection->peer.*number;
  if (value < 0) return failed("{}: not known for this client", function);
  return value;
}

// "" stands for what is not known.
char* known_text(std::string_view function, std::string Peer::*text) {
  const Context* connection = calling_connection(function);
  return connection != nullptr ? duplicate(connection->peer.*text) : nullptr;
}

}  // namespace
}  // namespace nbdkit

using namespace nbdkit;

extern "C" {

const char* nbdkit_export_name(void) {
  const Context* connection = calling_connection("nbdkit_export_name");
  return connection != nullptr ? connection->export_name.c_str() : nullptr;
}

int nbdkit_is_tls(void) {
  if (calling_connection("nbdkit_is_tls") == nullptr) return -1;
  return calling_session()->answer_tls() ? 1 : 0;
}

int nbdkit_peer_name(struct sockaddr* address, socklen_t* length) {
  const Context* connection = calling_connection("nbdkit_peer_name");
  if (connection == nullptr) return -1;
  const std::string& known = connection->peer.address;
  if (known.empty()) return failed("nbdkit_peer_name: the client has no address");
  // As getpeername: cut to the room there is, but the length is the whole one.
  std::memcpy(address, known.data(), std::min<std::size_t>(known.size(), *length));
  *length = static_cast<socklen_t>(known.size());
  return 0;
}

int64_t nbdkit_peer_pid(void) { return known_number("nbdkit_peer_pid", &Peer::pid); }
int64_t nbdkit_peer_uid(void) { return known_number("nbdkit_peer_uid", &Peer::uid); }
int64_t nbdkit_peer_gid(void) { return known_number("nbdkit_peer_gid", &Peer::gid); }

char* nbdkit_peer_security_context(void) {
  if (calling_connection("nbdkit_peer_security_context") != nullptr) {
    tell_error("nbdkit_peer_security_context: not known for this client");
  }
  return nullptr;
}

char* nbdkit_peer_tls_dn(void) { return known_text("nbdkit_peer_tls_dn", &Peer::tls_name); }
char* nbdkit_peer_tls_issuer_dn(void) {
  return known_text("nbdkit_peer_tls_issuer_dn", &Peer::tls_issuer);
}

void nbdkit_disconnect(int force) {
  Session* session = calling_session();
  if (session == nullptr) return;
  ConnectionControl* control = session->context().control;
  if (control != nullptr) control->disconnect(force != 0);
}

}  // extern "C"
