// SPDX-License-Identifier: BSD-3-Clause
// RequestLedger: which requests are under way, in memory that outlives the server. Whoever starts
// the next one can tell which request the last one has died of, and mark it.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace nbdkit {

// A request as it would be sent again.
struct LedgerRequest {
  std::uint16_t command = 0;  // NBD protocol, "Request types"
  std::uint64_t offset = 0;   // bytes
  std::uint64_t length = 0;   // bytes
  bool operator==(const LedgerRequest&) const = default;
};

enum class LedgerMark : std::uint32_t {
  alone = 1,   // to be carried out while nothing else of its connection is
  refuse = 2,  // to be answered with an error
};

struct MarkedRequest {
  LedgerRequest request;
  LedgerMark mark = LedgerMark::alone;
};

// The server's view. Any thread; a Lease is one connection's.
class RequestLedger {
 public:
  static constexpr std::size_t kConnectionsMax = 16;
  static constexpr std::size_t kRequestsMax = 256;  // of one connection
  static constexpr std::size_t kMarkedMax = 16;

  // A memfd without requests. The marks stay as they are.
  static Result<UniqueFd> create(std::span<const MarkedRequest> marked);
  // Of a server that has ended, or of a hostile one that has written what it likes.
  static Result<std::vector<LedgerRequest>> read(int file);

  // `file` is one that create() has made.
  static Result<std::unique_ptr<RequestLedger>> open(UniqueFd file);
  ~RequestLedger();
  RequestLedger(const RequestLedger&) = delete;
  RequestLedger& operator=(const RequestLedger&) = delete;

  std::optional<LedgerMark> mark_of(const LedgerRequest& request) const;

  // Room for one connection's requests.
  class Lease {
   public:
    Lease() = default;
    Lease(Lease&& other) noexcept;
    Lease& operator=(Lease&& other) noexcept;
    ~Lease();

    explicit operator bool() const { return ledger_ != nullptr; }
    // `place` from 0 to kRequestsMax - 1, which is nobody else's until end().
    void begin(std::size_t place, const LedgerRequest& request);
    void end(std::size_t place);

    // Linux's driver gives up a connection on which a request takes too long, and sends it again on
    // another one. What is still done for the first must not come over what is written since:
    //
    // Before requests that have been received on `socket` are begun. False when the driver has
    // given this connection up: then others have them, and none may be begun. leave() in any case.
    bool enter(int socket);
    void leave();
    // Between the two: whether nothing that changes data is under way in this range on a connection
    // that was given up.
    bool is_free(const LedgerRequest& request) const;

   private:
    friend class RequestLedger;
    Lease(RequestLedger& ledger, std::size_t part) : ledger_(&ledger), part_(part) {}

    RequestLedger* ledger_ = nullptr;
    std::size_t part_ = 0;
    std::uint32_t given_up_ = 0;  // a bit for each part
  };
  // Empty when kConnectionsMax have one: those who come later leave no trace.
  Lease lease();

 private:
  struct Memory;
  // Of a connection, for the others.
  struct alignas(64) Turn {
    std::atomic<int> socket{-1};
    std::atomic<bool> begins{false};  // between enter() and leave()
  };

  bool changes_data_in(std::size_t part, const LedgerRequest& request) const;

  explicit RequestLedger(Memory* memory) : memory_(memory) {}

  Memory* memory_;
  std::atomic<std::uint32_t> leased_{0};  // a bit for each part
  std::array<Turn, kConnectionsMax> turns_;
};

}  // namespace nbdkit
