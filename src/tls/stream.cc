// SPDX-License-Identifier: BSD-3-Clause
#include "tls/stream.h"

#include <arpa/inet.h>
#include <gnutls/x509.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "async/readiness.h"
#include "base/check.h"
#include "base/log_topics.h"
#include "tls/credentials_parts.h"
#include "tls/gnutls_error.h"
#include "tls/kernel_tls.h"
#include "tls/session_report.h"

namespace nbdkit {
namespace {

// What a record needs besides its payload (RFC 8446, 5.2), and a change of keys in front of it.
constexpr std::size_t kOverheadMax = 512;

constexpr std::errc kWouldBlock = std::errc::resource_unavailable_try_again;

bool is_address(const std::string& host) {
  std::array<unsigned char, sizeof(in6_addr)> address;
  return ::inet_pton(AF_INET, host.c_str(), address.data()) == 1 ||
         ::inet_pton(AF_INET6, host.c_str(), address.data()) == 1;
}

std::string take_text(int code, gnutls_datum_t& datum) {
  if (code < 0) return {};
  std::string text(reinterpret_cast<const char*>(datum.data), datum.size);
  ::gnutls_free(datum.data);
  return text;
}

TlsPeer peer_of(gnutls_session_t session) {
  TlsPeer peer;
  if (::gnutls_auth_get_type(session) != GNUTLS_CRD_CERTIFICATE) return peer;
  unsigned count = 0;
  const gnutls_datum_t* chain = ::gnutls_certificate_get_peers(session, &count);
  gnutls_x509_crt_t certificate;
  if (chain == nullptr || count == 0 || ::gnutls_x509_crt_init(&certificate) < 0) return peer;
  if (::gnutls_x509_crt_import(certificate, chain, GNUTLS_X509_FMT_DER) >= 0) {
    gnutls_datum_t text{};
    peer.name = take_text(::gnutls_x509_crt_get_dn3(certificate, &text, 0), text);
    peer.issuer = take_text(::gnutls_x509_crt_get_issuer_dn3(certificate, &text, 0), text);
  }
  ::gnutls_x509_crt_deinit(certificate);
  return peer;
}

int set_credentials(gnutls_session_t session, const TlsCredentials::Parts& parts) {
  if (parts.server_keys != nullptr) {
    return ::gnutls_credentials_set(session, GNUTLS_CRD_PSK, parts.server_keys);
  }
  if (parts.client_keys != nullptr) {
    return ::gnutls_credentials_set(session, GNUTLS_CRD_PSK, parts.client_keys);
  }
  return ::gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, parts.certificates);
}

}  // namespace

struct TlsStream::Session {
  ~Session() {
    if (handle != nullptr) ::gnutls_deinit(handle);
  }

  gnutls_session_t handle = nullptr;
  std::string host;  // which GnuTLS refers to
};

// What GnuTLS reads from and writes to.
struct TlsStream::Transport {
  static ssize_t pull(gnutls_transport_ptr_t stream, void* into, std::size_t length) {
    auto& self = *static_cast<TlsStream*>(stream);
    if (self.arrived_from_ == self.arrived_to_) {
      iovec room{self.arrived_.get(), kReadAhead};
      Result<std::size_t> received = self.socket_.receive(std::span(&room, 1));
      self.dry_ = !received.ok() && received.error().code == kWouldBlock;
      if (!received.ok()) return failed(self, received.error().code);
      self.arrived_from_ = 0;
      self.arrived_to_ = received.value();
    }
    std::size_t n = std::min(length, self.arrived_to_ - self.arrived_from_);
    std::memcpy(into, self.arrived_.get() + self.arrived_from_, n);
    self.arrived_from_ += n;
    return static_cast<ssize_t>(n);
  }

  // Always takes everything: send() sees to it that there is not too much.
  static ssize_t push(gnutls_transport_ptr_t stream, const void* from, std::size_t length) {
    auto& self = *static_cast<TlsStream*>(stream);
    // The kernel counts records by itself; one of ours in between would break the stream.
    if (self.kernel_sends_) return failed(self, std::errc::broken_pipe);
    const auto* bytes = static_cast<const std::byte*>(from);
    self.sealed_.insert(self.sealed_.end(), bytes, bytes + length);
    return static_cast<ssize_t>(length);
  }

  static ssize_t failed(TlsStream& self, std::errc code) {
    ::gnutls_transport_set_errno(self.session_->handle, static_cast<int>(code));
    return -1;
  }
};

TlsStream::TlsStream(ByteStream& socket, TlsCredentials::Shared credentials,
                     std::unique_ptr<Session> session)
    : socket_(socket),
      credentials_(std::move(credentials)),
      session_(std::move(session)),
      arrived_(std::make_unique_for_overwrite<std::byte[]>(kReadAhead)),
      record_(std::make_unique_for_overwrite<std::byte[]>(kRecordMax)) {
  gnutls_session_t handle = session_->handle;
  ::gnutls_transport_set_ptr(handle, this);
  ::gnutls_transport_set_pull_function(handle, &Transport::pull);
  ::gnutls_transport_set_push_function(handle, &Transport::push);
}

TlsStream::~TlsStream() = default;

Result<std::unique_ptr<TlsStream>> TlsStream::make(ByteStream& socket,
                                                   TlsCredentials::Shared credentials,
                                                   unsigned side) {
  const TlsCredentials::Parts& parts = *credentials->parts_;
  auto session = std::make_unique<Session>();
  int code = ::gnutls_init(&session->handle, side | GNUTLS_NONBLOCK | GNUTLS_NO_TICKETS);
  if (code < 0) {
    session->handle = nullptr;
    return gnutls_error("TLS", code);
  }
  code = ::gnutls_priority_set(session->handle, parts.priority);
  if (code >= 0) code = set_credentials(session->handle, parts);
  if (code < 0) return gnutls_error("TLS", code);
  return std::unique_ptr<TlsStream>(
      new TlsStream(socket, std::move(credentials), std::move(session)));
}

Result<std::unique_ptr<TlsStream>> TlsStream::server(ByteStream& socket,
                                                     TlsCredentials::Shared credentials) {
  const bool verify = credentials->parts_->verify_peer;
  Result<std::unique_ptr<TlsStream>> made = make(socket, std::move(credentials), GNUTLS_SERVER);
  if (!made.ok() || !verify) return made;
  gnutls_session_t handle = made.value()->session_->handle;
  ::gnutls_certificate_server_set_request(handle, GNUTLS_CERT_REQUIRE);
  ::gnutls_session_set_verify_cert(handle, nullptr, 0);
  return made;
}

Result<std::unique_ptr<TlsStream>> TlsStream::client(ByteStream& socket,
                                                     TlsCredentials::Shared credentials,
                                                     const std::string& host) {
  const bool verify = credentials->parts_->verify_peer;
  Result<std::unique_ptr<TlsStream>> made = make(socket, std::move(credentials), GNUTLS_CLIENT);
  if (!made.ok()) return made;
  Session& session = *made.value()->session_;
  session.host = host;
  if (!host.empty() && !is_address(host)) {
    ::gnutls_server_name_set(session.handle, GNUTLS_NAME_DNS, host.data(), host.size());
  }
  if (verify) {
    const char* name = host.empty() ? nullptr : session.host.c_str();
    ::gnutls_session_set_verify_cert(session.handle, name, 0);
  }
  return made;
}

// On a worker: 0, or GnuTLS's code.
int TlsStream::step() {
  int code = ::gnutls_handshake(session_->handle);
  if (code < 0 && ::gnutls_error_is_fatal(code) != 0) {
    ::gnutls_alert_send_appropriate(session_->handle, code);
  }
  return code;
}

Task<void> TlsStream::handshake(Loop& loop, Gate& gate, Kernel kernel) {
  int code = GNUTLS_E_AGAIN;
  while (code != GNUTLS_E_SUCCESS) {
    code = co_await loop.blocking([this] { return Result<int>(step()); });
    bool sent = co_await Task<bool>(flush());
    const bool failed = code < 0 && ::gnutls_error_is_fatal(code) != 0;
    // Whoever has gone need not be told why.
    while (!sent && !failed) {
      co_await wait_ready(loop, gate, fd(), EPOLLOUT);
      bool rest = co_await Task<bool>(flush());
      sent = rest;
    }
    if (failed) co_await fail(handshake_error(code));
    if (code == GNUTLS_E_AGAIN) co_await wait_ready(loop, gate, fd(), EPOLLIN);
    if (gate.closed()) co_await fail(std::errc::operation_canceled);
  }
  open_ = true;
  peer_ = peer_of(session_->handle);
  if (kernel == Kernel::when_offered) {
    kernel_sends_ = let_kernel_send(fd(), session_->handle).ok();
  }
}

Error TlsStream::handshake_error(int code) const {
  if (code == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR) {
    gnutls_datum_t text{};
    int printed = ::gnutls_certificate_verification_status_print(
        ::gnutls_session_get_verify_cert_status(session_->handle), GNUTLS_CRT_X509, &text, 0);
    std::string why = take_text(printed, text);
    while (why.ends_with(' ')) why.pop_back();
    return Error(std::errc::permission_denied, fmt::format("TLS handshake: {}", why));
  }
  if (code == GNUTLS_E_FATAL_ALERT_RECEIVED) {
    const char* alert = ::gnutls_alert_get_name(::gnutls_alert_get(session_->handle));
    return Error(std::errc::protocol_error,
                 fmt::format("TLS handshake: the other side refuses: {}",
                             alert != nullptr ? alert : "for an unknown reason"));
  }
  return gnutls_error("TLS handshake", code);
}

Result<bool> TlsStream::flush() {
  while (sealed_from_ < sealed_.size()) {
    const iovec rest{sealed_.data() + sealed_from_, sealed_.size() - sealed_from_};
    Result<std::size_t> sent = socket_.send(std::span(&rest, 1));
    if (!sent.ok()) {
      if (sent.error().code == std::errc::resource_unavailable_try_again) return false;
      return std::move(sent).error();
    }
    sealed_from_ += sent.value();
  }
  sealed_.clear();
  sealed_from_ = 0;
  return true;
}

// Of one record, or 0 at the end of the stream.
Result<std::size_t> TlsStream::receive_record(std::span<std::byte> into) {
  if (ended_) return std::size_t{0};
  for (unsigned i = 0; i < kEmptyRecordsMax; ++i) {
    ssize_t n = ::gnutls_record_recv(session_->handle, into.data(), into.size());
    if (n >= 0) return static_cast<std::size_t>(n);
    const int code = static_cast<int>(n);
    // GnuTLS also says so of a record that only changes keys, with others behind it.
    if (code == GNUTLS_E_AGAIN && dry_) return kWouldBlock;
    // Clients that simply leave are no rarity, and requests have lengths of their own.
    if (code == GNUTLS_E_PREMATURE_TERMINATION) {
      ended_ = true;
      return std::size_t{0};
    }
    if (code == GNUTLS_E_REHANDSHAKE || ::gnutls_error_is_fatal(code) != 0) {
      return gnutls_error("TLS", code);
    }
  }
  return Error(std::errc::protocol_error, "TLS: too many records without data");
}

Result<std::size_t> TlsStream::receive(std::span<iovec> into) {
  std::size_t got = 0;
  holds_more_ = false;
  for (const iovec& piece : into) {
    std::span<std::byte> room(static_cast<std::byte*>(piece.iov_base), piece.iov_len);
    while (!room.empty()) {
      Result<std::size_t> received = receive_record(room);
      const bool data = received.ok() && received.value() > 0;
      if (!data && got == 0) return received;
      if (!data) {
        // What is wrong, or the end, is told the next time.
        holds_more_ =
            received.ok() || received.error().code != std::errc::resource_unavailable_try_again;
        return got;
      }
      got += received.value();
      room = room.subspan(received.value());
    }
  }
  holds_more_ = true;
  return got;
}

Result<void> TlsStream::seal(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    ssize_t n = ::gnutls_record_send(session_->handle, bytes.data(), bytes.size());
    if (n < 0) return gnutls_error("TLS", static_cast<int>(n));
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

// Records are as large as possible: what is too small for one is copied together.
Result<std::size_t> TlsStream::seal_batch(std::span<const iovec> from) {
  sealed_.reserve(kBatchBytes + (kBatchBytes / kRecordMax + 2) * kOverheadMax);
  std::size_t total = 0;
  std::size_t gathered = 0;
  for (const iovec& piece : from) {
    std::span<const std::byte> bytes(static_cast<const std::byte*>(piece.iov_base), piece.iov_len);
    while (!bytes.empty() && total < kBatchBytes) {
      std::size_t n = std::min(kRecordMax - gathered, bytes.size());
      std::span<const std::byte> record = bytes.first(n);
      if (n < kRecordMax) {
        std::memcpy(record_.get() + gathered, record.data(), n);
        gathered += n;
        record = {record_.get(), gathered};
      }
      bytes = bytes.subspan(n);
      total += n;
      if (record.size() < kRecordMax) continue;
      NBDKIT_TRY(seal(record));
      gathered = 0;
    }
  }
  NBDKIT_TRY(seal({record_.get(), gathered}));
  return total;
}

Result<std::size_t> TlsStream::send(std::span<const iovec> from) {
  if (kernel_sends_) return socket_.send(from);
  Result<bool> sent = flush();
  if (!sent.ok()) return std::move(sent).error();
  if (!sent.value()) return kWouldBlock;
  if (owed_ > 0) return std::exchange(owed_, 0);
  Result<std::size_t> total = seal_batch(from);
  if (!total.ok()) return total;
  sent = flush();
  if (!sent.ok()) return std::move(sent).error();
  if (sent.value()) return total;
  owed_ = total.value();
  return kWouldBlock;
}

void TlsStream::say_goodbye() {
  if (!open_) return;
  if (kernel_sends_) return send_close_notify_by_kernel(fd());
  Result<bool> sent = flush();
  if (!sent.ok() || !sent.value()) return;
  ::gnutls_bye(session_->handle, GNUTLS_SHUT_WR);
  (void)flush();
}

std::string TlsStream::description() const {
  char* text = ::gnutls_session_get_desc(session_->handle);
  if (text == nullptr) return "TLS";
  std::string copy = fmt::format("{}{}", text, kernel_sends_ ? ", sent by the kernel" : "");
  ::gnutls_free(text);
  if (topics().tls_session) copy += session_report(session_->handle);
  return copy;
}

}  // namespace nbdkit
