// SPDX-License-Identifier: BSD-3-Clause
#include "tls/kernel_tls.h"

#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <span>

#include "tls/gnutls_error.h"

namespace nbdkit {
namespace {

constexpr int kSolTls = 282;  // SOL_TLS, which older C libraries lack
constexpr unsigned char kAlert = 21;
constexpr unsigned kSequenceSize = 8;

// The state of the sending half, as GnuTLS tells it.
struct State {
  gnutls_datum_t mac_key{};
  gnutls_datum_t iv{};
  gnutls_datum_t key{};
  std::array<unsigned char, kSequenceSize> sequence{};
};

Error unsupported(std::string_view what) {
  return Error(std::errc::operation_not_supported, fmt::format("{} is not the kernel's", what));
}

// An AEAD's nonce has a fixed part and one that each record carries, or that counts up with them
// (RFC 5288, RFC 8446 5.3).
template <typename Info>
Result<void> set_keys(int socket, std::uint16_t version, std::uint16_t cipher, const State& state) {
  Info info{};
  info.info = {version, cipher};
  const std::size_t salt_size =
      sizeof info - sizeof info.info - sizeof info.iv - sizeof info.key - sizeof info.rec_seq;
  const bool counts = state.iv.size == salt_size + sizeof info.iv;
  if (state.key.size != sizeof info.key || (!counts && state.iv.size != salt_size)) {
    return unsupported("the cipher's key");
  }
  if (salt_size > 0) std::memcpy(info.salt, state.iv.data, salt_size);
  std::memcpy(info.iv, counts ? state.iv.data + salt_size : state.sequence.data(), sizeof info.iv);
  std::memcpy(info.key, state.key.data, sizeof info.key);
  std::memcpy(info.rec_seq, state.sequence.data(), sizeof info.rec_seq);
  int result = ::setsockopt(socket, kSolTls, TLS_TX, &info, sizeof info);
  int number = errno;
  ::explicit_bzero(&info, sizeof info);
  if (result != 0) return os_error("TLS_TX", number);
  return {};
}

Result<void> set_keys_for(gnutls_cipher_algorithm_t cipher, int socket, std::uint16_t version,
                          const State& state) {
  switch (cipher) {
    case GNUTLS_CIPHER_AES_128_GCM:
      return set_keys<tls12_crypto_info_aes_gcm_128>(socket, version, TLS_CIPHER_AES_GCM_128,
                                                     state);
    case GNUTLS_CIPHER_AES_256_GCM:
      return set_keys<tls12_crypto_info_aes_gcm_256>(socket, version, TLS_CIPHER_AES_GCM_256,
                                                     state);
    case GNUTLS_CIPHER_CHACHA20_POLY1305:
      return set_keys<tls12_crypto_info_chacha20_poly1305>(socket, version,
                                                           TLS_CIPHER_CHACHA20_POLY1305, state);
    default:
      return unsupported(::gnutls_cipher_get_name(cipher));
  }
}

}  // namespace

Result<void> let_kernel_send(int socket, gnutls_session_t session) {
  const gnutls_protocol_t protocol = ::gnutls_protocol_get_version(session);
  if (protocol != GNUTLS_TLS1_2 && protocol != GNUTLS_TLS1_3) {
    return unsupported(::gnutls_protocol_get_name(protocol));
  }
  if (::setsockopt(socket, IPPROTO_TCP, TCP_ULP, "tls", sizeof "tls") != 0) {
    return os_error("TCP_ULP");
  }
  State state;
  int code = ::gnutls_record_get_state(session, 0, &state.mac_key, &state.iv, &state.key,
                                       state.sequence.data());
  if (code < 0) return gnutls_error("gnutls_record_get_state", code);
  const std::uint16_t version = protocol == GNUTLS_TLS1_3 ? TLS_1_3_VERSION : TLS_1_2_VERSION;
  return set_keys_for(::gnutls_cipher_get(session), socket, version, state);
}

void send_close_notify_by_kernel(int socket) {
  std::array<unsigned char, 2> alert{GNUTLS_AL_WARNING, GNUTLS_A_CLOSE_NOTIFY};
  iovec piece{alert.data(), alert.size()};
  alignas(cmsghdr) std::array<unsigned char, CMSG_SPACE(sizeof kAlert)> control{};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = kSolTls;
  header->cmsg_type = TLS_SET_RECORD_TYPE;
  header->cmsg_len = CMSG_LEN(sizeof kAlert);
  std::memcpy(CMSG_DATA(header), &kAlert, sizeof kAlert);
  (void)::sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

}  // namespace nbdkit
